//! The surface without peers: who gets in, what is refused and how, and the bodies of the contract.

#[cfg(feature = "dev-stack")]
mod authorisation;
#[cfg(feature = "dev-stack")]
mod spiffe;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::{Config, MapSource, Origin};
use crate::http::probes::{Health as HealthBody, Ready};
use crate::http::status::Status;
use crate::http::tasks::{CancelRequest, Cancelled};
use crate::spiffe::WorkloadIdentity;

const ALLOW: &str = "ops=*, spiffe://neural-hive.local/orchestrator-dynamic=status|cancel";

fn settings(pairs: &[(&str, &str)]) -> Config {
    let mut source = MapSource::default();
    for (name, value) in pairs {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source).expect("settings")
}

/// The API of a worker that has not reached its peers.
fn api_of(pairs: &[(&str, &str)]) -> Api {
    crate::net::install_crypto();
    let config = settings(pairs);
    let surface = Surface {
        health: Health::default(),
        metrics: Arc::new(Metrics::new().expect("metrics")),
        sdk_metrics: Arc::new(SdkMetrics::start().expect("the SDK's metrics")),
    };
    let identity = WorkloadIdentity::of(config.spiffe.as_ref(), Arc::clone(&surface.metrics));
    Api::new(&config, surface, identity)
}

/// Its main port.
fn port_of(pairs: &[(&str, &str)]) -> Router {
    router(&api_of(pairs))
}

async fn ask(port: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    port.clone().oneshot(request.body(Body::from(body.to_owned())).expect("a request")).await.expect("an answer")
}

async fn json_of(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}

const WHY: &str = r#"{"why":"the plan changed"}"#;

#[tokio::test]
async fn inc_106_without_settings_nobody_gets_in_and_probes_are_open() {
    let port = port_of(&[]);
    assert_eq!(ask(&port, "GET", "/api/v1/status", &[], "").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&port, "GET", "/health", &[], "").await.status(), StatusCode::OK);
    assert_eq!(ask(&port, "GET", "/ready", &[], "").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&port, "GET", "/metrics", &[], "").await.status(), StatusCode::OK);
    let open = port_of(&[("ENVIRONMENT", "development"), ("HTTP_API_AUTH", "false")]);
    assert_eq!(ask(&open, "GET", "/api/v1/status", &[], "").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn tokens_in_a_file_change_without_a_restart_and_a_broken_file_lets_nobody_in() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("tokens");
    std::fs::write(&file, "ops=first-0123456789\n").expect("written");
    let api = api_of(&[("HTTP_API_TOKEN_FILE", file.to_str().expect("UTF-8")), ("HTTP_API_ALLOW", "ops=status")]);
    let port = router(&api);
    let statuses = async || {
        let mut statuses = Vec::new();
        for header in ["Bearer first-0123456789", "Bearer second-0123456789"] {
            let answer = ask(&port, "GET", "/api/v1/status", &[("authorization", header)], "").await;
            statuses.push(answer.status().as_u16());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        statuses
    };
    assert_eq!(statuses().await, [200, 401]);
    std::fs::write(&file, "ops=first-0123456789\nops=second-0123456789\n").expect("written");
    assert_eq!(statuses().await, [200, 200]);
    std::fs::write(&file, "ops=second-0123456789\n").expect("written");
    assert_eq!(statuses().await, [401, 200]);
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(statuses().await, [503, 503]);
    let refused = |reason: &str| api.metrics().http_api_refusals.with_label_values(&[reason]).get();
    assert_eq!((refused("unauthenticated"), refused("unavailable")), (2, 2));
    std::fs::write(&file, "ops=second-0123456789\n").expect("written");
    assert_eq!(statuses().await, [401, 200]);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_problem_that_names_ticket_cause_and_next_action() {
    let port = port_of(&[("ENVIRONMENT", "development"), ("HTTP_API_AUTH", "false")]);
    let (pause, json) = ("/api/v1/tickets/t-1/pause", ("content-type", "application/json; charset=utf-8"));
    let (cancel, large) = ("/api/v1/tasks/t-1/cancel", format!(r#"{{"why":"{}"}}"#, "x".repeat(20_000)));
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for (method, path, headers, body, status, kind) in [
        ("GET", "/api/v2", &[][..], "", 404, "no-such-path"),
        ("PUT", pause, &[], "", 405, "no-such-method"),
        ("POST", pause, &[], WHY, 415, "unsupported-media-type"),
        ("POST", pause, &[("content-type", "text/plain")], WHY, 415, "unsupported-media-type"),
        ("POST", pause, &[json], "", 400, "bad-request"),
        ("POST", pause, &[json], r#"{"why":"#, 400, "bad-request"),
        ("POST", pause, &[json], &deep, 422, "invalid"),
        ("POST", pause, &[json], "{}", 422, "invalid"),
        ("POST", pause, &[json], r#"{"why":" \u0007\n"}"#, 422, "invalid"),
        ("POST", pause, &[json], r#"{"why":"x","by":"somebody else"}"#, 422, "invalid"),
        ("POST", pause, &[json], &large, 413, "too-large"),
        ("POST", "/api/v1/tickets/a%2Fb/pause", &[json], WHY, 422, "invalid"),
        ("POST", "/api/v1/tickets/%FF/pause", &[json], WHY, 422, "invalid"),
        ("GET", "/api/v1/tasks/t-1", &[], "", 422, "invalid"),
        ("POST", cancel, &[json], r#"{"reason":"x","grace_period_seconds":301}"#, 422, "invalid"),
        ("POST", cancel, &[json], r#"{"reason":"x","grace_period_seconds":30.5}"#, 422, "invalid"),
        ("POST", cancel, &[json], r#"{"reason":"x","grace_period_seconds":30.0}"#, 503, "unavailable"),
        ("POST", cancel, &[json], r#"{"reason":"x","grace_period_seconds":-1}"#, 422, "invalid"),
        ("POST", cancel, &[json], r#"{"reason":"x","preempted_by":"a b"}"#, 422, "invalid"),
        ("POST", cancel, &[json], r#"{"reason":"x","unknown":"is let pass"}"#, 503, "unavailable"),
        ("POST", "/api/v1/tickets/t-1/cancel", &[json], r#"{"why":"x","grace_seconds":3601}"#, 422, "invalid"),
    ] {
        let answer = ask(&port, method, path, headers, body).await;
        let case = format!("{method} {path} {}", body.chars().take(40).collect::<String>());
        assert_eq!(answer.status().as_u16(), status, "{case}");
        assert_eq!(answer.headers()["content-type"], problem::MEDIA_TYPE, "{case}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{case}");
        let found: Problem = serde_json::from_value(json_of(answer).await).expect("a problem");
        assert_eq!((found.status, found.kind), (status, format!("urn:worker-agents:problem:{kind}")), "{case}");
        assert!(!found.detail.is_empty() && found.detail.chars().count() <= 1000 && !found.next_action.is_empty());
        if path.contains("t-1/") && ![405].contains(&status) {
            assert_eq!(found.ticket_id.as_deref(), Some("t-1"), "{case}");
        }
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_no_body() {
    let port = port_of(&[("ENVIRONMENT", "development"), ("HTTP_API_AUTH", "false")]);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for path in ["/api/v1/tickets/t-1/pause", "/api/v1/tasks/t-1/cancel", "/api/v1/tasks"] {
        for body in
            [r#"["x"]"#, r#"["task_t","t"]"#, " [\"x\", null, 30]", r#""x""#, "null", "1", "true", deep.as_str()]
        {
            let answer = ask(&port, "POST", path, &[("content-type", "application/json")], body).await;
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}");
            assert_eq!(json_of(answer).await["detail"], "the body is not a JSON object", "{path} {body}");
        }
    }
}

#[tokio::test]
async fn the_metrics_port_has_the_probes_and_says_no_with_problems_too() {
    let port = metrics_router(&api_of(&[]));
    for (method, path, status, kind) in [
        ("GET", "/health", 200, None),
        ("GET", "/ready", 503, None),
        ("GET", "/metrics", 200, None),
        ("GET", "/", 200, None),
        ("POST", "/metrics", 405, Some("no-such-method")),
        ("GET", "/api/v1/status", 404, Some("no-such-path")),
    ] {
        let answer = ask(&port, method, path, &[], "").await;
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        if let Some(kind) = kind {
            assert_eq!(answer.headers()["content-type"], problem::MEDIA_TYPE, "{method} {path}");
            assert_eq!(json_of(answer).await["type"], format!("urn:worker-agents:problem:{kind}"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_address_whose_requests_are_used_up_finds_no_token_by_trying() {
    let token = ("HTTP_API_TOKEN", "ops=ops-token-0123456789");
    let port = port_of(&[token, ("HTTP_API_ALLOW", ALLOW), ("HTTP_API_RATE", "1")]);
    let mut statuses = Vec::new();
    for token in ["guess-0123456789", "guess-0123456780", "ops-token-0123456789"] {
        let header = format!("Bearer {token}");
        let answer = ask(&port, "GET", "/api/v1/status", &[("authorization", &header)], "").await;
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 429]);
}

#[tokio::test]
async fn a_caller_who_asks_too_often_is_told_when_to_come_back_and_probes_are_not_counted() {
    let port = port_of(&[("HTTP_API_RATE", "1")]);
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(ask(&port, "GET", "/api/v1/status", &[], "").await);
    }
    let last = answers.pop().expect("ten");
    assert_eq!((answers[0].status(), last.status()), (StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(last.headers()["retry-after"], "1");
    assert_eq!(ask(&port, "GET", "/health", &[], "").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    let port = port_of(&[("ENVIRONMENT", "development"), ("HTTP_API_AUTH", "false")]);
    let never = Body::from_stream(futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
    let request = Request::post("/api/v1/tickets/t-1/pause").header("content-type", "application/json");
    let answer = port.oneshot(request.body(never).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
}

/// A body of the contract, read and written again, is the same.
fn round_trips<T: DeserializeOwned + Serialize>(sample: &str) {
    let sample: Value = serde_json::from_str(sample).expect("JSON");
    let read: T = serde_json::from_value(sample.clone()).expect("a body of the contract");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), sample);
}

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../tests/samples/http/", $name, ".json"))
    };
}

#[test]
fn bodies_of_the_contract_round_trip() {
    round_trips::<HealthBody>(sample!("health"));
    round_trips::<Ready>(sample!("ready-200"));
    round_trips::<Ready>(sample!("ready-503"));
    round_trips::<Status>(sample!("status"));
    round_trips::<CancelRequest>(sample!("cancel-request"));
    round_trips::<Cancelled>(sample!("cancel-200"));
}

#[test]
fn a_ticket_that_is_not_active_is_told_in_the_contracts_words() {
    let sample: Value = serde_json::from_str(sample!("cancel-404")).expect("JSON");
    let problem = tasks::not_active("c3c351c3-2a1a-55c9-963d-b389f79599d1");
    assert_eq!((problem.status, json!(problem)["detail"].clone()), (404, sample["detail"].clone()));
}
