//! The client against a service whose answers a test decides, to the byte.

use serde_json::{Value, json};
use ticket_activities::code;
use ticket_activities::external::said;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::config::PeerAccess;
use crate::test_peer::{End, Peer};

const TAKEN: &str = include_str!("../../tests/samples/http/code-forge/generate-202.json");
const COMPLETED: &str = include_str!("../../tests/samples/http/code-forge/generate-completed.json");
const REQUEST: &str = include_str!("../../tests/samples/http/code-forge/generate-request.json");
const UNKNOWN: &str = include_str!("../../tests/samples/http/code-forge/error-404.json");
const PAGE: &str = "<html><head><title>\u{1b}[2JBad Gateway</title></head></html>";

impl Peer {
    fn client(&self) -> CodeForgeClient {
        client(&format!("{}/", self.address))
    }
}

fn client(url: &str) -> CodeForgeClient {
    let config = CodeForgeConfig {
        url: url.to_owned(),
        peer: PeerAccess::default(),
        generation_timeout: Duration::from_secs(1),
        poll_interval: Duration::from_secs(1),
    };
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    CodeForgeClient::new(&config, metrics, Spans::default()).expect("client")
}

fn request() -> GenerationRequest {
    let sample: Value = serde_json::from_str(REQUEST).expect("JSON");
    let text = |name: &str| sample[name].as_str().expect("a text").to_owned();
    GenerationRequest {
        ticket_id: text("ticket_id"),
        template_id: text("template_id"),
        parameters: serde_json::from_value(sample["parameters"].clone()).expect("an object"),
        target_repo: text("target_repo"),
        branch: text("branch"),
    }
}

fn id() -> RequestId {
    "1ace7ddd-6254-5e5c-a9ce-6d7b89a8129f".to_owned().try_into().expect("an id")
}

/// The name of a fault's kind.
fn kind(fault: &Fault) -> String {
    format!("{fault:?}").split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_contracts_calls_are_made_and_the_contracts_answers_understood() {
    let peer = Peer::answering(202, "", TAKEN).await;
    let client = peer.client();
    assert_eq!(client.generate(&request()).await, Ok(id()));
    let asked = peer.asked().remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").expect("a request");
    assert!(head.starts_with("POST /api/v1/generate HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json") && !head.contains("authorization"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    let (sent, sample): (Value, Value) =
        (serde_json::from_str(body).expect("JSON"), serde_json::from_str(REQUEST).expect("JSON"));
    assert_eq!(sent, sample);
    let count = |status| client.metrics.code_forge_calls.with_label_values(&["generate", status]).get();
    assert_eq!((count("success"), count("error")), (1, 0));

    let peer = Peer::answering(200, "", COMPLETED).await;
    let generation = peer.client().generation(&id()).await.expect("a generation");
    let asked = peer.asked().remove(0);
    assert!(asked.starts_with(&format!("GET /api/v1/generate/{} HTTP/1.1\r\n", id())), "{asked}");
    let sample: Value = serde_json::from_str(COMPLETED).expect("JSON");
    assert_eq!(json!(generation.artifacts), sample["artifacts"]);
    assert_eq!((generation.request_id, json!(generation.pipeline_id)), (id(), sample["pipeline_id"].clone()));
}

#[tokio::test]
async fn every_status_has_its_fault_for_both_calls() {
    let refusal = json!({ "detail": "ticket_id is required" }).to_string();
    let no_path = json!({ "detail": "Not Found" }).to_string();
    let (refusal, no_path) = (refusal.as_str(), no_path.as_str());
    for (status, body, generate, generation) in [
        (400, refusal, "TicketRefused", "SetupRefused"),
        (422, refusal, "TicketRefused", "SetupRefused"),
        (413, PAGE, "TicketRefused", "Errored"),
        // A firewall's words may be about what one ticket asks for.
        (400, PAGE, "Errored", "Errored"),
        (406, PAGE, "Errored", "Errored"),
        (404, UNKNOWN, "SetupRefused", "Vanished"),
        (404, no_path, "SetupRefused", "SetupRefused"),
        // A gateway's words say nothing about the request.
        (404, "{\"message\": \"no route\"}", "SetupRefused", "Errored"),
        (422, "{\"message\": \"no\"}", "Errored", "Errored"),
        (400, "{\"detail\": null}", "Errored", "Errored"),
        (404, PAGE, "Errored", "Errored"),
        (404, "", "Errored", "Errored"),
        (401, PAGE, "SetupRefused", "SetupRefused"),
        (403, "", "SetupRefused", "SetupRefused"),
        (405, "", "SetupRefused", "SetupRefused"),
        (307, "", "SetupRefused", "SetupRefused"),
        (408, "", "Lost", "Lost"),
        (429, "", "Deferred", "Deferred"),
        (503, refusal, "Unavailable", "Unavailable"),
        (503, PAGE, "Lost", "Unavailable"),
        (503, "{\"message\": \"upstream\"}", "Lost", "Unavailable"),
        (503, "", "Lost", "Unavailable"),
        (500, refusal, "Errored", "Errored"),
        (500, "Internal Server Error", "Errored", "Errored"),
        (500, PAGE, "Lost", "Lost"),
        (502, PAGE, "Lost", "Lost"),
        (504, PAGE, "Lost", "Lost"),
        (200, PAGE, "Malformed", "Malformed"),
        (200, "", "Malformed", "Malformed"),
        (200, "{\"request_id\": \"1ace", "Malformed", "Malformed"),
        (200, "{\"request_id\": \"../../admin\", \"status\": \"queued\"}", "Malformed", "Malformed"),
        (200, "[]", "Malformed", "Malformed"),
    ] {
        let client = Peer::answering(status, "", body).await.client();
        let asked = client.generate(&request()).await.expect_err("a fault");
        let looked = client.generation(&id()).await.expect_err("a fault");
        assert_eq!((kind(&asked).as_str(), kind(&looked).as_str()), (generate, generation), "{status} {body}");
        for fault in [asked, looked] {
            let text = fault.to_string();
            assert!(text.contains(&status.to_string()) && text.len() < 1000, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_the_ticket_says_what_code_forge_said() {
    let peer = Peer::answering(400, "", &json!({ "detail": "template_id is unknown" }).to_string()).await;
    let fault = peer.client().generate(&request()).await.expect_err("refused");
    let cause = "Code Forge answered 400: template_id is unknown".to_owned();
    assert_eq!(fault, Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause });
}

#[tokio::test]
async fn what_fastapi_echoes_of_a_request_is_not_told() {
    let entry = json!({
        "type": "enum", "loc": ["body", "parameters", 3], "msg": "Input should be a text", "input": "hunter2",
        "ctx": { "expected": "hunter2" },
    });
    let body = json!({ "detail": [entry, "hunter2", { "input": "hunter2" }] }).to_string();
    let peer = Peer::answering(422, "", &body).await;
    let client = peer.client();
    let fault = client.generate(&request()).await.expect_err("refused");
    let cause =
        "Code Forge answered 422: body.parameters.3: Input should be a text; : no reason given; : no reason given";
    assert_eq!(fault, Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: cause.to_owned() });
    let count = |status| client.metrics.code_forge_calls.with_label_values(&["generate", status]).get();
    assert_eq!((count("success"), count("error")), (1, 0), "Code Forge is there and has answered");
}

/// A port whose packets are dropped once as many connections wait as have room.
async fn full() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("address");
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(stream.expect("a connection"));
        assert!(waiting.len() < 100, "the queue is never full");
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_peer_that_takes_no_connection_has_heard_nothing_and_the_call_is_counted() {
    let (listener, _waiting) = full().await;
    let client = client(&format!("http://{}", listener.local_addr().expect("address")));
    let fault = client.generate(&request()).await.expect_err("nobody answers");
    assert!(matches!(fault, Fault::Unavailable { .. }) && fault.to_string().contains("cannot be reached"), "{fault:?}");
    assert_eq!(client.metrics.code_forge_calls.with_label_values(&["generate", "error"]).get(), 1);
}

#[test]
fn a_call_ends_and_is_counted_before_the_protocol_drops_it() {
    assert!(CALL_TIMEOUT < ticket_activities::external::Patience::default().call);
}

#[tokio::test]
async fn retry_after_is_heard_in_seconds_and_as_a_date_and_nonsense_is_none() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(120));
    for (header, least, most) in [
        ("retry-after: 7\r\n".to_owned(), 7, 7),
        (format!("retry-after: {date}\r\n"), 100, 120),
        ("retry-after: soon\r\n".to_owned(), 0, 0),
        (String::new(), 0, 0),
    ] {
        let fault = Peer::answering(429, &header, "").await.client().generation(&id()).await.expect_err("throttled");
        let Fault::Deferred { after, .. } = fault else { panic!("{fault:?}") };
        let seconds = after.map_or(0, |after| after.as_secs());
        assert!((least..=most).contains(&seconds), "{header}: {after:?}");
    }
}

#[tokio::test]
async fn resets_cuts_and_nobody_are_told_apart() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"request_id\":";
    for (answer, end, words) in [
        (String::new(), End::Reset, "no answer from Code Forge"),
        (String::new(), End::Closed, "no answer from Code Forge"),
        ("HTTP/1.1 200 OK\r\ncontent-".to_owned(), End::Closed, "no answer from Code Forge"),
        (head.to_owned(), End::Closed, "no answer from Code Forge"),
    ] {
        let client = Peer::saying(answer.clone(), end).await.client();
        for fault in
            [client.generate(&request()).await.expect_err("lost"), client.generation(&id()).await.expect_err("lost")]
        {
            assert_eq!(kind(&fault), "Lost", "{answer:?}: {fault}");
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
    // Without a length the end of the connection is the end of the answer: only the JSON shows that some of it is missing.
    let cut = Peer::saying("HTTP/1.1 200 OK\r\n\r\n{\"request_id\": \"1ace".to_owned(), End::Closed).await;
    let fault = cut.client().generate(&request()).await.expect_err("cut");
    assert_eq!(fault, Fault::Malformed { cause: "Code Forge answered 200 with JSON that ends too early".to_owned() });

    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address");
    let client = client(&format!("http://{nobody}"));
    let fault = client.generate(&request()).await.expect_err("nobody is there");
    assert!(matches!(fault, Fault::Unavailable { .. }) && fault.to_string().contains("cannot be reached"), "{fault}");
    let count = |status| client.metrics.code_forge_calls.with_label_values(&["generate", status]).get();
    assert_eq!((count("success"), count("error")), (0, 1));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let body = " ".repeat(5 * 1024 * 1024);
    let fault = Peer::answering(200, "", &body).await.client().generation(&id()).await.expect_err("too large");
    assert_eq!(kind(&fault), "Malformed");
    assert!(fault.to_string().contains("larger than 4194304 bytes"), "{fault}");
    // It is quoted in part only.
    let long = json!({ "detail": "x".repeat(100_000) }).to_string();
    let fault = Peer::answering(400, "", &long).await.client().generate(&request()).await.expect_err("refused");
    assert_eq!(fault.to_string(), format!("Code Forge answered 400: {}", said(&"x".repeat(100_000))));
}
