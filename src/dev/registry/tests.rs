//! The registry over a real socket, the way a client meets it.

use reqwest::{Client, StatusCode};
use ticket_schemas::{RESULT_SCHEMA_JSON, TICKET_SCHEMA_JSON};

use super::*;

const SUBJECT: &str = "/subjects/execution.tickets-value";
const VERSIONS: &str = "/subjects/execution.tickets-value/versions";

struct World {
    registry: SchemaRegistry,
    url: String,
    client: Client,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        // An error here means that another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = SchemaRegistry::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(registry.serve(listener, stop.clone()));
        Self { registry, url, client, stop, server }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        Self::read(self.client.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self
            .client
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/vnd.schemaregistry.v1+json");
        Self::read(request.body(body.to_string()).send().await.unwrap()).await
    }

    async fn register(&self, path: &str, schema: &str) -> (u16, Value) {
        self.post(path, &json!({ "schema": schema })).await
    }

    async fn read(response: reqwest::Response) -> (u16, Value) {
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/vnd.schemaregistry.v1+json");
        (status, response.json().await.unwrap())
    }
}

fn code(answer: &(u16, Value)) -> (u16, u64) {
    assert!(answer.1["message"].is_string(), "{}", answer.1);
    (answer.0, answer.1["error_code"].as_u64().unwrap())
}

#[tokio::test]
async fn a_schema_has_one_id_however_often_and_wherever_it_is_registered() {
    let world = World::new().await;
    assert_eq!(world.register(VERSIONS, TICKET_SCHEMA_JSON).await, (200, json!({ "id": 1 })));
    let other_text = serde_json::from_str::<Value>(TICKET_SCHEMA_JSON).unwrap().to_string();
    assert_ne!(other_text, TICKET_SCHEMA_JSON);
    assert_eq!(world.register(VERSIONS, &other_text).await, (200, json!({ "id": 1 })));
    assert_eq!(
        world.register("/subjects/execution.tickets.dlq-value/versions", TICKET_SCHEMA_JSON).await,
        (200, json!({ "id": 1 }))
    );
    assert_eq!(world.register(VERSIONS, RESULT_SCHEMA_JSON).await, (200, json!({ "id": 2 })));

    assert_eq!(world.get("/subjects").await.1, json!(["execution.tickets-value", "execution.tickets.dlq-value"]));
    assert_eq!(world.get(VERSIONS).await.1, json!([1, 2]));
    assert_eq!(world.get("/schemas/ids/1").await, (200, json!({ "schema": TICKET_SCHEMA_JSON })));
    let second = json!({ "subject": "execution.tickets-value", "version": 2, "id": 2, "schema": RESULT_SCHEMA_JSON });
    assert_eq!(world.get(&format!("{VERSIONS}/latest")).await.1, second);
    assert_eq!(world.get(&format!("{VERSIONS}/2")).await.1, second);
    assert_eq!(world.register(SUBJECT, RESULT_SCHEMA_JSON).await, (200, second));
    assert_eq!(world.get("/config").await.1, json!({ "compatibilityLevel": "NONE" }));
}

#[tokio::test]
async fn apicurio_paths_lead_to_the_same_schemas() {
    let world = World::new().await;
    assert_eq!(world.register(&format!("/apis/ccompat/v6{VERSIONS}"), TICKET_SCHEMA_JSON).await.1, json!({ "id": 1 }));
    assert_eq!(world.get("/apis/ccompat/v7/schemas/ids/1").await.0, 200);
    assert_eq!(world.get("/schemas/ids/1").await.0, 200);
}

#[tokio::test]
async fn what_is_unknown_is_refused_with_its_own_code() {
    let world = World::new().await;
    assert_eq!(code(&world.get(VERSIONS).await), (404, 40401));
    assert_eq!(code(&world.get(&format!("{VERSIONS}/latest")).await), (404, 40401));
    assert_eq!(code(&world.register(SUBJECT, TICKET_SCHEMA_JSON).await), (404, 40401));
    for id in ["1", "0", "-1", "x", "99999999999"] {
        assert_eq!(code(&world.get(&format!("/schemas/ids/{id}")).await), (404, 40403), "{id}");
    }
    world.register(VERSIONS, TICKET_SCHEMA_JSON).await;
    assert_eq!(code(&world.register(SUBJECT, RESULT_SCHEMA_JSON).await), (404, 40403));
    assert_eq!(code(&world.get(&format!("{VERSIONS}/2")).await), (404, 40402));
    for version in ["0", "x", "-2"] {
        assert_eq!(code(&world.get(&format!("{VERSIONS}/{version}")).await), (422, 42202), "{version}");
    }
    assert_eq!(code(&world.get("/mode/x").await), (404, 404));
    assert_eq!(code(&world.get(SUBJECT).await), (405, 405));
}

#[tokio::test]
async fn what_is_no_schema_is_refused() {
    let world = World::new().await;
    for schema in [
        "",
        "{",
        r#"{"type":"record","name":"A"}"#,
        r#"{"type":"record","name":"A","fields":[{"name":"a","type":"nope"}]}"#,
    ] {
        assert_eq!(code(&world.register(VERSIONS, schema).await), (422, 42201), "{schema}");
    }
    let protobuf = json!({ "schema": TICKET_SCHEMA_JSON, "schemaType": "PROTOBUF" });
    assert_eq!(code(&world.post(VERSIONS, &protobuf).await), (422, 42201));
    let references = json!({ "schema": TICKET_SCHEMA_JSON, "references": [{ "name": "a" }] });
    assert_eq!(code(&world.post(VERSIONS, &references).await), (422, 42201));
    assert_eq!(code(&world.post(VERSIONS, &json!({ "text": "" })).await), (422, 422));
    assert_eq!(world.get("/subjects").await.1, json!([]));
    let avro = json!({ "schema": TICKET_SCHEMA_JSON, "schemaType": "AVRO", "references": [] });
    assert_eq!(world.post(VERSIONS, &avro).await.0, 200);
}

#[tokio::test]
async fn unavailable_means_every_call_and_only_while_it_lasts() {
    let world = World::new().await;
    world.registry.set_unavailable(true);
    for path in ["/subjects", "/schemas/ids/1", "/apis/ccompat/v6/subjects", "/nowhere"] {
        assert_eq!(code(&world.get(path).await), (503, 503), "{path}");
    }
    world.registry.set_unavailable(false);
    assert_eq!(world.get("/subjects").await, (200, json!([])));
}

#[tokio::test]
async fn stops_although_a_client_stays_connected() {
    let world = World::new().await;
    let silent = tokio::net::TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    let kept_alive = world.client.get(format!("{}/subjects", world.url)).send().await.unwrap();
    assert_eq!(kept_alive.status(), StatusCode::OK);
    world.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), world.server).await.unwrap().unwrap().unwrap();
    drop(silent);
}
