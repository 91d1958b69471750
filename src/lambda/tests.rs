//! The client against a service whose answers a test decides, to the byte.

use std::sync::Mutex;

use aws_sdk_lambda::config::http::HttpRequest;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::result::ConnectorError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ticket_activities::trace;
use ticket_workflows::TraceContext;
use tokio::net::TcpListener;

use super::*;
use crate::config::{Config, MapSource, Origin};
use crate::test_peer::{End, Peer};

const REQUEST_ID: &str = "471d6d5b-4b4e-5fdb-bc09-be992c618ef2";
const RESPONSE: &str = include_str!("../../tests/samples/http/lambda/response.json");
const TAIL: &str = "hello from \u{1b}[31mfunction\nREPORT RequestId: 1\tBilled Duration: 124 ms\tMemory Size: 128 MB\n";

/// A client of Lambda at `url`, with an access key and these settings.
fn client_with(url: &str, more: &[(&str, &str)]) -> LambdaClient {
    let mut settings = MapSource::from([("LAMBDA_ENABLED", "true"), ("LAMBDA_ENDPOINT_URL", url)]);
    let keys = [("LAMBDA_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"), ("LAMBDA_SECRET_KEY", "secret-secret-secret")];
    let own = more.iter().any(|(name, _)| name.starts_with("LAMBDA_ACCESS_KEY"));
    for (name, value) in keys.iter().filter(|_| !own).chain(more) {
        settings.set(name, *value, Origin::Environment);
    }
    let config = Config::read(&settings).expect("settings").lambda.expect("on");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    LambdaClient::new(&config, metrics, Spans::default()).expect("a client")
}

fn client(url: &str) -> LambdaClient {
    client_with(url, &[])
}

fn invocation(function: &str, invocation_type: InvocationType) -> Invocation {
    Invocation {
        function: function.to_owned().try_into().expect("a name"),
        named_by_ticket: true,
        invocation_type,
        payload: json!({ "command": "echo" }).to_string().into_bytes(),
    }
}

async fn invoked(client: &LambdaClient) -> Result<Reply, Fault> {
    client.invoke(&invocation("neural-hive-executor", InvocationType::RequestResponse)).await
}

/// The name of a fault's kind.
fn kind(fault: &Fault) -> String {
    format!("{fault:?}").split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn id() -> String {
    format!("x-amzn-RequestId: {REQUEST_ID}\r\n")
}

#[tokio::test]
async fn a_signed_invocation_is_made_once_and_the_contracts_answer_understood() {
    let headers = format!("{}x-amz-log-result: {}\r\n", id(), BASE64_STANDARD.encode(TAIL));
    let peer = Peer::answering(200, &headers, RESPONSE).await;
    let client = client(&peer.address);
    let reply = invoked(&client).await.expect("answered");
    let expected = Reply {
        request_id: REQUEST_ID.to_owned(),
        status: 200,
        function_error: None,
        payload: RESPONSE.as_bytes().to_vec(),
        tail: TAIL.to_owned(),
    };
    assert_eq!(reply, expected);
    assert_eq!(client.metrics.execute.lambda_billed_duration.get_sample_sum(), 0.124);
    let asked = peer.asked();
    let (head, body) = asked[0].split_once("\r\n\r\n").expect("a request");
    assert!(head.starts_with("POST /2015-03-31/functions/neural-hive-executor/invocations HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for part in [
        "x-amz-invocation-type: requestresponse",
        "x-amz-log-type: tail",
        "connection: close",
        "authorization: aws4-hmac-sha256 credential=akiaiosfodnn7example/",
        "/us-east-1/lambda/aws4_request",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(!head.contains("secret-secret-secret"), "{head}");
    assert_eq!((serde_json::from_str::<Value>(body).expect("JSON"), asked.len()), (json!({ "command": "echo" }), 1));
}

#[tokio::test]
async fn an_asynchronous_invocation_asks_for_no_log_and_a_name_is_escaped_in_the_path() {
    let peer = Peer::answering(202, &id(), "").await;
    let name = "arn:aws:lambda:us-east-1:123456789012:function:f:live";
    let reply = client(&peer.address).invoke(&invocation(name, InvocationType::Event)).await.expect("accepted");
    assert_eq!((reply.status, reply.payload, reply.tail), (202, Vec::new(), String::new()));
    let asked = peer.asked().remove(0).to_ascii_lowercase();
    assert!(
        asked.starts_with("post /2015-03-31/functions/arn%3aaws%3alambda%3aus-east-1%3a123456789012%3a"),
        "{asked}"
    );
    assert!(asked.contains("x-amz-invocation-type: event") && !asked.contains("x-amz-log-type"), "{asked}");
}

#[tokio::test]
async fn a_function_error_is_told_from_every_error_of_lambda() {
    let body = r#"{"errorMessage":"boom","errorType":"KeyError"}"#;
    let headers = format!("{}x-amz-function-error: Unhandled\r\nx-amz-log-result: not base64!\r\n", id());
    let reply = invoked(&client(&Peer::answering(200, &headers, body).await.address)).await.expect("an answer");
    assert_eq!((reply.function_error.as_deref(), reply.payload), (Some("Unhandled"), body.as_bytes().to_vec()));
    assert_eq!(reply.tail, "", "nothing rests on the log");
}

#[tokio::test]
async fn each_answer_has_its_meaning_and_none_is_asked_for_twice() {
    let page = "<html><head><title>\u{1b}[2JBad Gateway</title></head></html>";
    let json = r#"{"Message":"the words","message":"the words"}"#;
    let typed = |name: &str| format!("{}x-amzn-errortype: {name}:http://internal/\r\n", id());
    let none = String::new;
    for (status, headers, body, expected, words) in [
        (429, typed("TooManyRequestsException") + "retry-after: 7\r\n", json, "Deferred", "the words"),
        (400, typed("ThrottlingException"), json, "Deferred", "ThrottlingException"),
        (409, typed("ResourceConflictException"), json, "Deferred", "ResourceConflictException"),
        (502, typed("ResourceNotReadyException"), json, "Deferred", "ResourceNotReadyException"),
        (404, typed("ResourceNotFoundException"), json, "TicketRefused", "function_name"),
        (404, none(), page, "Errored", "404"),
        (404, none(), json, "Errored", "404"),
        (400, none(), json, "Errored", "400"),
        (400, typed("ExpiredToken"), json, "SetupRefused", "ExpiredToken"),
        (400, typed("RequestExpired"), json, "SetupRefused", "RequestExpired"),
        (400, typed("IncompleteSignature"), json, "SetupRefused", "IncompleteSignature"),
        (400, typed("AccessDenied"), json, "SetupRefused", "AccessDenied"),
        (410, typed("EFSIOException"), json, "Errored", "EFSIO"),
        (400, typed("EFSMountFailureException"), json, "SetupRefused", "EFSMountFailure"),
        (400, typed("InvalidRequestContentException"), json, "TicketRefused", "InvalidRequestContent"),
        (400, typed("InvalidParameterValueException"), json, "TicketRefused", "the words"),
        (400, typed("ExpiredTokenException"), json, "SetupRefused", "ExpiredToken"),
        (413, typed("RequestTooLargeException"), json, "TicketRefused", "RequestTooLarge"),
        (415, typed("UnsupportedMediaTypeException"), json, "TicketRefused", "415"),
        (403, typed("AccessDeniedException"), json, "SetupRefused", "AccessDenied"),
        (403, typed("UnrecognizedClientException"), json, "SetupRefused", "the words"),
        (403, none(), page, "SetupRefused", "403"),
        (502, typed("KMSAccessDeniedException"), json, "SetupRefused", "KMS"),
        (502, typed("InvalidRuntimeException"), json, "SetupRefused", "InvalidRuntime"),
        (408, typed("EFSMountTimeoutException"), json, "SetupRefused", "EFS"),
        (408, none(), json, "Lost", "408"),
        (500, typed("ServiceException"), json, "Errored", "ServiceException"),
        (500, none(), page, "Lost", "500"),
        (502, none(), page, "Lost", "Bad Gateway"),
        (503, typed("ServiceUnavailable"), json, "Unavailable", "ServiceUnavailable"),
        (503, none(), json, "Lost", "503"),
        (503, id(), json, "Lost", "503"),
        (503, "x-amzn-errortype: ServiceUnavailable\r\n".to_owned(), json, "Lost", "503"),
        (500, none(), json, "Lost", "500"),
        (503, none(), page, "Lost", "503"),
        (504, none(), page, "Lost", "504"),
        (302, "location: http://127.0.0.1:1/\r\n".to_owned(), "", "SetupRefused", "LAMBDA_ENDPOINT_URL"),
        (200, none(), page, "Malformed", "no id of a request"),
        (200, none(), RESPONSE, "Malformed", "LAMBDA_ENDPOINT_URL"),
        (202, id(), "", "Malformed", "where 200 was due"),
        (204, id(), "", "Malformed", "where 200 was due"),
        (206, id(), RESPONSE, "Malformed", "where 200 was due"),
    ] {
        let peer = Peer::answering(status, &headers, body).await;
        let fault = invoked(&client(&peer.address)).await.expect_err("a fault");
        assert_eq!(kind(&fault), expected, "{status} {headers}: {fault}");
        let text = fault.to_string();
        assert!(text.contains(words) && text.len() < 1000, "{status} {headers}: {text}");
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(peer.asked().len(), 1, "{status} {headers}: an invocation is not idempotent");
        if let Fault::Deferred { after, .. } = fault
            && status == 429
        {
            assert_eq!(after, Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn whoever_names_a_missing_function_is_told() {
    let headers = format!("{}x-amzn-errortype: ResourceNotFoundException\r\n", id());
    let peer = Peer::answering(404, &headers, r#"{"Message":"Function not found"}"#).await;
    let by_settings =
        Invocation { named_by_ticket: false, ..invocation("neural-hive-executor", InvocationType::RequestResponse) };
    let fault = client(&peer.address).invoke(&by_settings).await.expect_err("a fault");
    assert!(matches!(&fault, Fault::SetupRefused { cause } if cause.contains("LAMBDA_FUNCTION_NAME")), "{fault:?}");
}

#[tokio::test]
async fn what_nobody_heard_has_begun_nothing_and_an_answer_that_breaks_off_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    let fault = invoked(&client(&address)).await.expect_err("nobody is there");
    assert!(matches!(&fault, Fault::Unavailable { cause, .. } if cause.contains("cannot be reached")), "{fault:?}");
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"exit_code\":"] {
        let peer = Peer::saying(answer.to_owned(), End::Closed).await;
        let fault = invoked(&client(&peer.address)).await.expect_err("no answer");
        assert_eq!((kind(&fault).as_str(), peer.asked().len()), ("Lost", 1), "{answer:?}: {fault}");
    }
}

#[tokio::test]
async fn an_access_key_is_read_anew_for_each_invocation_and_its_absence_begins_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "FIRST\n").expect("written");
    let peer = Peer::answering(200, &id(), RESPONSE).await;
    let (file, path) = ("LAMBDA_ACCESS_KEY_FILE", key.to_str().expect("a path"));
    let client = client_with(&peer.address, &[(file, path), ("LAMBDA_SECRET_KEY", "secret-secret-secret")]);
    invoked(&client).await.expect("answered");
    std::fs::write(&key, "SECOND\n").expect("written");
    invoked(&client).await.expect("answered");
    let asked = peer.asked();
    assert!(asked[0].contains("Credential=FIRST/") && asked[1].contains("Credential=SECOND/"), "{asked:?}");
    std::fs::remove_file(&key).expect("removed");
    let fault = invoked(&client).await.expect_err("no credentials");
    assert!(matches!(&fault, Fault::Unavailable { cause, .. } if cause.contains("credentials")), "{fault:?}");
    assert!(fault.to_string().contains("LAMBDA_ACCESS_KEY_FILE"), "{fault}");
    assert_eq!(peer.asked().len(), 2, "nobody was asked");
}

#[tokio::test]
async fn a_check_invokes_nothing() {
    let peer = Peer::answering(204, &id(), "").await;
    assert_eq!(client(&peer.address).check().await, Ok(()));
    let asked = peer.asked().remove(0).to_ascii_lowercase();
    assert!(asked.contains("x-amz-invocation-type: dryrun"), "{asked}");
}

#[tokio::test]
async fn an_answer_of_another_kind_is_not_taken_for_what_was_asked_for() {
    let peer = Peer::answering(200, &id(), RESPONSE).await;
    let fault = client(&peer.address).invoke(&invocation("f", InvocationType::Event)).await.expect_err("not accepted");
    assert!(matches!(&fault, Fault::Malformed { cause } if cause.contains("where 202 was due")), "{fault:?}");
    let fault = client(&peer.address).check().await.expect_err("it was invoked");
    assert!(matches!(&fault, Fault::Malformed { cause } if cause.contains("where 204 was due")), "{fault:?}");
}

/// Remembers what it is asked to call, and calls nobody.
#[derive(Debug, Clone, Default)]
struct Remembering(Arc<Mutex<Vec<String>>>);

impl HttpConnector for Remembering {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.0.lock().expect("lock").push(request.uri().to_owned());
        HttpConnectorFuture::ready(Err(ConnectorError::io("nobody is called".into())))
    }
}

#[tokio::test]
async fn only_the_settings_say_where_lambda_is() {
    for (endpoint, place) in [
        (None, "https://lambda.us-east-1.amazonaws.com/"),
        (Some("http://lambda:4566".to_owned()), "http://lambda:4566/"),
    ] {
        let heard = Remembering::default();
        let mut client = client("http://unused");
        client.config.endpoint = endpoint;
        let connector = heard.clone();
        client.http = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
        // As `AWS_ENDPOINT_URL` and profiles say it.
        let elsewhere = client.load().await.into_builder().endpoint_url("http://elsewhere").build();
        let sent = client.client(&elsewhere).invoke().function_name("f").send().await;
        assert!(sent.is_err());
        let asked = heard.0.lock().expect("lock").clone();
        assert!(asked.len() == 1 && asked[0].starts_with(place), "{place}: {asked:?}");
    }
}

#[tokio::test]
async fn an_invocation_that_nobody_waits_for_any_more_has_its_span() {
    let (seen, url) = crate::test_collector::Collector::start().await;
    let settings = MapSource::from([("OTEL_EXPORTER_ENDPOINT", url.as_str())]);
    let config = Config::read(&settings).expect("settings");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let mut client = client(&format!("http://{}", silent.local_addr().expect("address")));
    client.spans = Spans::of(&config, &client.metrics).expect("spans");
    let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let within = TraceContext { traceparent, ..TraceContext::default() };
    let waited = tokio::time::timeout(Duration::from_millis(200), trace::within(within, invoked(&client))).await;
    assert!(waited.is_err(), "nobody answers");
    client.spans.finish().await;
    let [span] = &seen.spans()[..] else { panic!("{:?}", seen.spans()) };
    assert_eq!((span.name.as_str(), span.attribute("error.type")), ("lambda.invoke", "given_up"));
    assert_eq!(span.attribute("lambda.function_name"), "neural-hive-executor");
}
