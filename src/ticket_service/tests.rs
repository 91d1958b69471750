//! The client against a service that is scripted in this process.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use serde_json::json;
use ticket_schemas::decode_json_ticket;
use ticket_workflows::ServiceStatus;
use tokio::net::TcpListener;

use super::*;
use crate::config::PeerAccess;

type Said = (u16, HeaderMap, String);

/// Answers in order; remembers method, path, user agent and body.
#[derive(Clone, Default)]
struct Stub {
    answers: Arc<Mutex<VecDeque<Said>>>,
    asked: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Stub {
    fn say(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")));
        self.answers.lock().expect("lock").push_back((status, headers.collect(), body.to_owned()));
    }

    fn asked(&self) -> Vec<(String, String, String)> {
        self.asked.lock().expect("lock").clone()
    }

    async fn client(&self) -> TicketServiceClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}/", listener.local_addr().expect("address"));
        let stub = self.clone();
        let router = Router::new().fallback(async move |request: Request| {
            let line = format!("{} {}", request.method(), request.uri().path());
            let agent = request.headers()["user-agent"].to_str().expect("text").to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("body");
            let body = String::from_utf8_lossy(&body).into_owned();
            stub.asked.lock().expect("lock").push((line, agent, body));
            let said = stub.answers.lock().expect("lock").pop_front();
            match said {
                Some((status, headers, body)) => {
                    (axum::http::StatusCode::from_u16(status).expect("status"), headers, body).into_response()
                }
                // Longer than any call may take.
                None => std::future::pending().await,
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        client(&url)
    }
}

fn client(url: &str) -> TicketServiceClient {
    let config = TicketServiceConfig {
        peer: PeerAccess::default(),
        url: Some(url.to_owned()),
        grpc_address: None,
        timeout: Duration::from_secs(10),
        unknown_after: Duration::from_secs(600),
        stuck_after: Duration::from_secs(600),
    };
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    TicketServiceClient::of(&config, metrics, Spans::default()).expect("client").expect("configured")
}

fn update(status: ServiceStatus) -> StatusUpdate {
    StatusUpdate {
        ticket_id: "t-1".to_owned(),
        status,
        error_message: Some("why".to_owned()),
        actual_duration_ms: Some(7),
        since_ms: 0,
        unknown_after_ms: 0,
    }
}

const WITHIN: Duration = Duration::from_secs(10);
const TICKET: &str = r#"{"ticket_id":"t-1","status":"RUNNING"}"#;
const UNKNOWN: &str = r#"{"detail":"Ticket not found"}"#;

#[tokio::test]
async fn inc_34_an_update_carries_duration_and_error_and_follows_a_307() {
    let stub = Stub::default();
    let client = stub.client().await;
    stub.say(307, &[("location", "/elsewhere")], "");
    stub.say(200, &[], TICKET);
    client.set_status(&update(ServiceStatus::Failed), WITHIN).await.expect("noted");
    let asked = stub.asked();
    assert_eq!(asked[0].0, "PATCH /api/v1/tickets/t-1/status");
    assert_eq!(asked[1].0, "PATCH /elsewhere");
    for (_, agent, body) in &asked {
        assert_eq!(agent, concat!("worker-agents/", env!("CARGO_PKG_VERSION")));
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body, json!({ "status": "FAILED", "error_message": "why", "actual_duration_ms": 7 }));
    }
    // Not to another origin.
    stub.say(307, &[("location", "http://192.0.2.1/")], "");
    let error = client.set_status(&update(ServiceStatus::Failed), WITHIN).await.expect_err("not followed");
    assert_eq!(error.code(), "ticket_service_unavailable");
}

#[tokio::test]
async fn inc_36_an_unknown_ticket_is_told_from_an_address_that_is_wrong() {
    let stub = Stub::default();
    let client = stub.client().await;
    for (status, body, code) in [
        (404, UNKNOWN, "ticket_service_unknown_ticket"),
        (404, r#"{"detail":"Not Found"}"#, "ticket_service_unavailable"),
        (404, "<html>", "ticket_service_unavailable"),
        (422, r#"{"detail":[{"type":"enum"}]}"#, "ticket_service_refused"),
        (409, "{}", "ticket_service_refused"),
        (500, r#"{"detail":"x"}"#, "ticket_service_unavailable"),
        (200, r#"{"ticket_id": "#, "ticket_service_unavailable"),
        (200, "<html>", "ticket_service_unavailable"),
    ] {
        stub.say(status, &[], body);
        let error = client.set_status(&update(ServiceStatus::Running), WITHIN).await.expect_err(body);
        assert_eq!(error.code(), code, "{status} {body}");
    }
    stub.say(404, &[], UNKNOWN);
    assert_eq!(client.status("t-1", WITHIN).await, Ok(None));
    stub.say(200, &[], TICKET);
    assert_eq!(client.status("t-1", WITHIN).await, Ok(Some(TicketStatus::Running)));
    assert!(client.status("..", WITHIN).await.is_err());
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let stub = Stub::default();
    let client = stub.client().await;
    stub.say(200, &[], &"x".repeat(5 * 1024 * 1024));
    let error = client.status("t-1", WITHIN).await.expect_err("too large");
    assert!(error.to_string().contains("larger"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_away_costs_one_time_out_and_then_nothing_for_a_while() {
    let stub = Stub::default();
    let client = stub.client().await;
    let before = std::time::Instant::now();
    for _ in 0..100 {
        let error = client.status("t-1", Duration::from_millis(200)).await.expect_err("away");
        assert_eq!(error.code(), "ticket_service_unavailable");
    }
    assert!(before.elapsed() < QUIET, "{:?}", before.elapsed());
    assert_eq!(stub.asked().len(), 1);

    let stub = Stub::default();
    let client = stub.client().await;
    stub.say(429, &[("retry-after", "7")], "slow down");
    let error = client.status("t-1", WITHIN).await.expect_err("too many");
    assert_eq!(error.after(), Some(Duration::from_secs(7)));
    let left = client.status("t-1", WITHIN).await.expect_err("quiet").after().expect("a time");
    assert!(left > QUIET && left <= Duration::from_secs(7), "{left:?}");
    // Nobody listens.
    let error = self::client("http://127.0.0.1:1").status("t-1", WITHIN).await.expect_err("refused");
    assert_eq!(error.code(), "ticket_service_unavailable");
}

#[tokio::test]
async fn inc_33_tickets_are_created_at_the_collection_and_a_duplicate_is_done() {
    let stub = Stub::default();
    let client = stub.client().await;
    let ticket = json!({
        "ticket_id": "t-1", "task_id": "t", "task_type": "COMPENSATE", "description": "undo", "dependencies": [],
        "status": "PENDING", "plan_id": "p", "intent_id": "i",
    });
    let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
    stub.say(201, &[], TICKET);
    assert_eq!(client.create(&ticket, WITHIN).await, Ok(Created::New));
    stub.say(500, &[], r#"{"detail":"duplicate key"}"#);
    stub.say(200, &[], TICKET);
    assert_eq!(client.create(&ticket, WITHIN).await, Ok(Created::AlreadyThere));
    stub.say(500, &[], r#"{"detail":"no database"}"#);
    stub.say(404, &[], UNKNOWN);
    let error = client.create(&ticket, WITHIN).await.expect_err("not created");
    assert!(error.to_string().contains("no database"), "{error}");
    assert_eq!(stub.asked()[0].0, "POST /api/v1/tickets/");
}
