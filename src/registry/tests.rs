//! The client against a registry that is scripted in this process.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use futures::future::join_all;
use ticket_schemas::TICKET_SCHEMA_JSON;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::config::{Config, MapSource, Origin};
use crate::test_authority::Authority;

/// Path and credentials of a request.
type Asked = (String, Option<String>);

/// A registry that answers as it is told, and remembers what it was asked.
#[derive(Clone)]
struct Stub {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    headers: HeaderMap,
    /// Paths that end so are not answered before they are released.
    held: &'static str,
    release: Arc<Notify>,
}

impl Stub {
    fn new() -> Self {
        let asked = Arc::default();
        let (answers, headers, release) = (Arc::default(), HeaderMap::new(), Arc::default());
        Self { asked, answers, headers, held: "/held", release }
    }

    fn answer(&self, path: &str, status: u16, body: impl Into<String>) {
        lock(&self.answers).insert(path.to_owned(), (status, body.into()));
    }

    fn has(&self, id: u32) {
        let body = serde_json::json!({ "schema": TICKET_SCHEMA_JSON }).to_string();
        self.answer(&format!("/schemas/ids/{id}"), 200, body);
    }

    fn lacks(&self, id: u32) {
        self.answer(&format!("/schemas/ids/{id}"), 404, r#"{"error_code":40403,"message":"Schema not found"}"#);
    }

    fn asked(&self) -> usize {
        lock(&self.asked).len()
    }

    fn router(&self) -> Router {
        let stub = self.clone();
        Router::new().fallback(move |request: Request| {
            let stub = stub.clone();
            async move {
                let path = request.uri().path().to_owned();
                let login = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                lock(&stub.asked).push((path.clone(), login.map(str::to_owned)));
                if path.ends_with(stub.held) {
                    stub.release.notified().await;
                }
                let (status, body) = lock(&stub.answers).get(&path).cloned().unwrap_or((500, String::new()));
                (StatusCode::from_u16(status).expect("status"), stub.headers.clone(), body).into_response()
            }
        })
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn client(&self) -> RegistryClient {
        RegistryClient::new(&self.serve().await).expect("client")
    }
}

fn client_of(pairs: &[(&str, &str)]) -> anyhow::Result<RegistryClient> {
    let mut source = MapSource::default();
    for (name, value) in pairs {
        source.set(name, *value, Origin::Environment);
    }
    RegistryClient::of(&Config::read(&source)?.kafka).map(|client| client.expect("a registry is configured"))
}

async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

#[tokio::test]
async fn inc_05_the_base_url_may_have_a_path() {
    for path in ["", "/", "/apis/ccompat/v6", "/apis/ccompat/v6/"] {
        let stub = Stub::new();
        let prefix = path.trim_end_matches('/');
        let schema = serde_json::json!({ "schema": TICKET_SCHEMA_JSON }).to_string();
        stub.answer(&format!("{prefix}/schemas/ids/1"), 200, schema);
        stub.answer(&format!("{prefix}/subjects/s-value/versions"), 200, r#"{"id":1}"#);
        stub.answer(&format!("{prefix}/subjects"), 200, "[]");
        let url = stub.serve().await + path;
        let client = client_of(&[("KAFKA_SCHEMA_REGISTRY_URL", &url)]).expect("client");
        client.writer_schema(1).await.expect(path);
        assert_eq!(client.register("s-value", TICKET_SCHEMA_JSON).await.expect(path), 1);
        client.greet().await.expect(path);
    }
}

#[tokio::test]
async fn credentials_are_sent_with_every_call() {
    let user = [("SCHEMA_REGISTRY_USERNAME", "user"), ("SCHEMA_REGISTRY_PASSWORD", "pass")];
    for (settings, user_info, expected) in [
        (&user[..], "", Some("Basic dXNlcjpwYXNz")),
        (&[], "user:pass@", Some("Basic dXNlcjpwYXNz")),
        (&[("SCHEMA_REGISTRY_TOKEN", "t0ken")], "", Some("Bearer t0ken")),
        (&[], "", None),
    ] {
        let stub = Stub::new();
        stub.has(1);
        stub.answer("/subjects/s-value/versions", 200, r#"{"id":1}"#);
        stub.answer("/subjects", 200, "[]");
        let url = stub.serve().await.replace("://", &format!("://{user_info}"));
        let client =
            client_of(&[&[("KAFKA_SCHEMA_REGISTRY_URL", url.as_str())][..], settings].concat()).expect("client");
        client.writer_schema(1).await.expect("a schema");
        client.register("s-value", TICKET_SCHEMA_JSON).await.expect("an id");
        client.greet().await.expect("an answer");
        let asked = lock(&stub.asked).clone();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|(_, login)| login.as_deref() == expected), "{asked:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_settings_and_may_pass() {
    for status in [401, 403] {
        let stub = Stub::new();
        stub.answer("/schemas/ids/1", status, r#"{"error_code":40101}"#);
        let client = stub.client().await;
        let error = client.writer_schema(1).await.expect_err("refused");
        assert!(error.to_string().contains("SCHEMA_REGISTRY_USERNAME"), "{error}");
        assert_eq!((error.may_pass(), error.fault()), (true, Some("schema_registry_access")));
        assert!(!client.knows(1));
        // Rights that were granted meanwhile are seen at once.
        stub.has(1);
        client.writer_schema(1).await.expect("a schema");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let elsewhere = Stub::new();
    elsewhere.has(1);
    let target = elsewhere.serve().await;
    for status in [301, 302, 307, 308] {
        let mut stub = Stub::new();
        let to = format!("{target}/schemas/ids/1?secret=hunter2");
        stub.headers.insert(LOCATION, to.parse().expect("header"));
        stub.answer("/schemas/ids/1", status, "");
        let url = stub.serve().await;
        let client =
            client_of(&[("KAFKA_SCHEMA_REGISTRY_URL", &url), ("SCHEMA_REGISTRY_TOKEN", "t0ken")]).expect("client");
        let error = client.writer_schema(1).await.expect_err("not followed").to_string();
        assert!(error.contains(&target) && error.contains("KAFKA_SCHEMA_REGISTRY_URL"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_404_holds_for_a_while_and_then_a_new_schema_is_seen() {
    let stub = Stub::new();
    stub.lacks(7);
    let client = stub.client().await;
    assert!(!client.knows(7), "only the registry can say so");
    for _ in 0..3 {
        assert!(matches!(client.writer_schema(7).await, Err(RegistryError::NotFound(7))));
    }
    assert_eq!((stub.asked(), client.knows(7)), (1, true));
    stub.has(7);
    tokio::time::pause();
    tokio::time::advance(NOT_FOUND_HOLDS - Duration::from_secs(1)).await;
    assert!(matches!(client.writer_schema(7).await, Err(RegistryError::NotFound(7))));
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    assert!(!client.knows(7));
    client.writer_schema(7).await.expect("registered meanwhile");
    assert_eq!(stub.asked(), 2);
}

#[tokio::test]
async fn a_404_that_is_not_the_registrys_is_no_answer() {
    let stub = Stub::new();
    for body in ["", "<html>not here</html>", r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#] {
        stub.answer("/schemas/ids/1", 404, body);
        let client = stub.client().await;
        let error = client.writer_schema(1).await.expect_err("not found");
        assert!(error.may_pass() && error.fault().is_none(), "{error}");
        assert!(error.to_string().contains("base path of KAFKA_SCHEMA_REGISTRY_URL"), "{error}");
        assert!(!client.knows(1));
    }
}

#[tokio::test]
async fn callers_of_one_id_share_one_request_and_a_slow_id_holds_up_no_other() {
    let mut stub = Stub::new();
    stub.held = "/ids/1";
    for id in [1, 2, 3] {
        stub.has(id);
    }
    let client = Arc::new(stub.client().await);
    client.writer_schema(3).await.expect("cached");
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.writer_schema(1).await })
        })
        .collect();
    eventually("the request", || stub.asked() == 2).await;
    client.writer_schema(2).await.expect("another id");
    client.writer_schema(3).await.expect("a cached id");
    stub.release.notify_waiters();
    for found in join_all(callers).await {
        found.expect("joined").expect("a schema");
    }
    assert_eq!(stub.asked(), 3, "{:?}", lock(&stub.asked));
}

#[tokio::test]
async fn a_request_that_everybody_has_left_is_made_anew() {
    let mut stub = Stub::new();
    stub.held = "/ids/1";
    stub.has(1);
    let client = Arc::new(stub.client().await);
    let left = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.writer_schema(1).await }
    });
    eventually("the request", || stub.asked() == 1).await;
    left.abort();
    assert!(left.await.is_err());
    let asked = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.writer_schema(1).await }
    });
    eventually("another request", || stub.asked() == 2).await;
    stub.release.notify_waiters();
    asked.await.expect("joined").expect("a schema");
    assert!(lock(&client.0.flights).is_empty());
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let mut stub = Stub::new();
    stub.held = "";
    let client = stub.client().await;
    let (first, second) = tokio::join!(client.writer_schema(1), client.writer_schema(1));
    for error in [first.expect_err("no answer"), second.expect_err("no answer")] {
        assert!(matches!(&error, RegistryError::Unavailable(text) if text.contains("timed out")), "{error}");
        assert!(error.may_pass());
    }
    assert_eq!(stub.asked(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_ids_does_not_throw_out_the_schemas_in_use() {
    let stub = Stub::new();
    let client = stub.client().await;
    let schema = WriterSchema::ticket();
    client.0.remember(1, Known::Schema(schema));
    for id in 2..u32::try_from(2 * MAX_CACHED).expect("small") {
        client.0.remember(id, Known::Nothing(Instant::now() + NOT_FOUND_HOLDS));
    }
    assert!(client.knows(1));
    assert!(lock(&client.0.schemas).len() <= MAX_CACHED);
}

/// A TLS listener for axum.
struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.0.accept().await else { continue };
            // A client that does not trust us ends the handshake.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn only_the_authorities_of_the_bundle_are_trusted() {
    crate::net::install_crypto();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (chain, key) = ours.issue().chain();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("address").port());
    let stub = Stub::new();
    stub.has(1);
    let router = stub.router();
    let tls = Tls(listener, TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move { axum::serve(tls, router).await });

    for (bundle, trusted) in [(None, false), (Some(other.path()), false), (Some(ours.path()), true)] {
        let mut settings = vec![("KAFKA_SCHEMA_REGISTRY_URL", url.as_str()), ("SCHEMA_REGISTRY_TOKEN", "t0ken")];
        settings.extend(bundle.map(|path| ("SCHEMA_REGISTRY_CA_BUNDLE", path)));
        let found = client_of(&settings).expect("client").writer_schema(1).await;
        if trusted {
            found.expect("a schema");
        } else {
            let error = found.expect_err("not trusted");
            assert!(error.to_string().contains("SCHEMA_REGISTRY_CA_BUNDLE"), "{error}");
            assert_eq!((error.may_pass(), error.fault()), (true, Some("schema_registry_tls")), "{error}");
        }
    }
    assert_eq!(stub.asked(), 1, "the token went to the trusted registry only");
}
