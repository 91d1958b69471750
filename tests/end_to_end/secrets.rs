//! Secrets of the worker appear nowhere: not in logs, traces, results, dead letters, payloads and histories in Temporal, metrics, answers
//! of the API, nor in what commands print or tickets can see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::tracing::collector::Collector;
use crate::world::{Worker, World, eventually};

/// In every secret, and in nothing else.
const PLANTED: &str = "hunter2";
/// Settings with a secret each; the registry of this world asks for none, and the Vault is not there.
const SECRETS: [(&str, &str); 7] = [
    ("SCHEMA_REGISTRY_TOKEN", "registry-hunter2-token"),
    ("HTTP_API_TOKEN", "ana=api-hunter2-token-of-ana"),
    ("KAFKA_SASL_USERNAME", "kafka"),
    ("KAFKA_SASL_PASSWORD", "kafka-hunter2-password"),
    ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "oauth-hunter2-secret"),
    ("VAULT_APPROLE_SECRET_ID", "approle-hunter2-secret"),
    ("VAULT_TOKEN", "vault-hunter2-token"),
];
const VAULT: [(&str, &str); 5] = [
    ("VAULT_ENABLED", "true"),
    ("VAULT_ADDRESS", "http://127.0.0.1:1"),
    ("VAULT_AUTH_METHOD", "token"),
    ("VAULT_MAX_RETRIES", "0"),
    ("SCHEMA_REGISTRY_TOKEN_VAULT", "worker/registry#token"),
];

/// The text holds no secret, neither as it is nor in base64 within JSON.
fn check(place: &str, text: &str) {
    assert!(!text.contains(PLANTED), "{place} holds a secret: {}", around(text));
    if let Ok(value) = serde_json::from_str(text) {
        check_encoded(place, &value);
    }
}

fn around(text: &str) -> &str {
    let at = text.find(PLANTED).unwrap_or_default();
    let start = (0..=at.saturating_sub(100)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[start..at]
}

fn check_encoded(place: &str, value: &Value) {
    match value {
        Value::String(text) => {
            let decoded = STANDARD.decode(text).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&decoded).contains(PLANTED), "{place} holds a secret in base64");
        }
        Value::Array(items) => items.iter().for_each(|item| check_encoded(place, item)),
        Value::Object(fields) => fields.values().for_each(|field| check_encoded(place, field)),
        _ => {}
    }
}

async fn ask(worker: &Worker, path: &str, token: Option<&str>) -> (u16, String) {
    let client = worker_agents::net::client(std::time::Duration::from_secs(10)).expect("client");
    let mut request = client.get(format!("http://{}{path}", worker.addresses().await.0));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_appear_nowhere() {
    let world = World::new().await;
    let (collector, url) = Collector::start().await;
    let own = [("HTTP_API_ALLOW", "ana=*"), ("LOG_LEVEL", "debug"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url)];
    let settings = [&SECRETS[..], &VAULT, &own].concat();
    let worker = world.worker(&settings).await;
    worker.wait_ready().await;

    // What a ticket can see, what fails, what is refused, what is retried.
    world
        .publish(&world.ticket("sees", "env; cat /proc/self/environ; tr '\\0' '\\n' < /proc/$PPID/environ; true"))
        .await;
    world.publish_avro(&world.ticket("fails", "env; exit 3")).await;
    let mut refused = world.ticket("refused", "true");
    refused["task_type"] = json!("QUERY");
    world.publish(&refused).await;
    world.publish_raw("bad", Some(b"{")).await;
    for name in ["sees", "fails", "refused"] {
        let result = world.result(name).await;
        check(name, &result.to_string());
        check("a history", &Value::Array(world.history(name)).to_string());
    }
    let letters = eventually("a dead letter", || Some(world.dead_letters()).filter(|found| !found.is_empty())).await;
    check("dead letters", &Value::Array(letters).to_string());
    for topic in ["execution.results", "execution.tickets.dlq", "sre.alerts"] {
        for record in world.topic(topic) {
            check(topic, &String::from_utf8_lossy(&record.value));
            record.headers.iter().for_each(|(name, value)| check(name, value));
        }
    }

    let spans = eventually("spans of each ticket", || {
        let spans = collector.spans();
        let named = |name: &str| spans.iter().any(|span| span.attribute("neural.hive.ticket_id").ends_with(name));
        (named("sees") && named("fails") && named("refused")).then_some(spans)
    });
    check("traces", &format!("{:?} {:?} {:?}", spans.await, collector.resource(), collector.headers()));

    // Answers, good and bad ones.
    for (path, token, expected) in [
        ("/health", None, 200),
        ("/ready", None, 200),
        ("/metrics", None, 200),
        ("/api/v1/openapi.json", None, 200),
        ("/api/v1/status", None, 401),
        ("/api/v1/status", Some("wrong-hunter2-token"), 401),
        ("/api/v1/status", Some("api-hunter2-token-of-ana"), 200),
        ("/api/v1/tickets/unknown", Some("api-hunter2-token-of-ana"), 404),
    ] {
        let (status, text) = ask(&worker, path, token).await;
        assert_eq!(status, expected, "{path}: {text}");
        check(path, &text);
    }
    let (_, text) = ask(&worker, &format!("/api/v1/tickets/{}", world.ticket_id("fails")), SECRET_OF_ANA).await;
    check("a ticket's account", &text);

    for arguments in [&["config"][..], &["config", "--json"], &["doctor"], &["doctor", "--json"], &["dlq", "list"]] {
        let output = world.command_with(arguments, "", &settings);
        check(&arguments.join(" "), &String::from_utf8_lossy(&output.stdout));
        check(&arguments.join(" "), &String::from_utf8_lossy(&output.stderr));
    }
    check("the log", &worker.log());
    assert!(worker.log().contains("vault_fails"), "the failure of Vault was told");
}

const SECRET_OF_ANA: Option<&str> = Some("api-hunter2-token-of-ana");

/// The check finds what it looks for.
#[test]
#[should_panic(expected = "in base64")]
fn a_secret_in_a_payload_is_found() {
    check("a payload", &json!({ "payloads": [{ "data": STANDARD.encode(r#"{"token":"hunter2"}"#) }] }).to_string());
}
