//! What the store's client sends, by this worker's own HTTP client: one TLS, the proxy, the authorities and the certificate of the
//! settings (`docs/adr/0025-outgoing-http.md`).

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, Error};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use ticket_activities::border;

use crate::config::PeerAccess;
use crate::dead_letters::shown;
use crate::net::{self, CloudClients, SAID_CHARS};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest call: half of what whoever keeps a log waits, so that what got no answer can be asked again.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Largest answer read, in bytes: well above the largest segment, and a thousand names.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Reaches the store, and those who say as whom.
#[derive(Debug, Clone)]
pub(super) struct Http(CloudClients);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(String);

/// The store has done nothing, and may do so later.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {said}")]
pub(super) struct Busy {
    pub(super) status: StatusCode,
    pub(super) said: String,
}

impl Busy {
    /// Whether an answer says so. Other statuses of servers may be those of something in front of the store, which does not know.
    fn is_said_by(status: StatusCode, said: &str) -> bool {
        let is_stores_own = status == StatusCode::SERVICE_UNAVAILABLE && said.starts_with("SlowDown");
        status == StatusCode::TOO_MANY_REQUESTS || is_stores_own
    }

    /// Whether that is why a call has failed.
    pub(super) fn is_cause_of(error: &Error) -> bool {
        causes(error).any(|cause| cause.is::<Self>())
    }
}

/// What an error comes from in the end, in its words.
pub(super) fn last_cause(error: &Error) -> String {
    causes(error).last().map_or_else(String::new, |cause| cause.to_string())
}

/// An error and what it comes from.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let error: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(error), |&error| error.source())
}

impl Http {
    /// # Errors
    /// When the clients cannot be built.
    pub(super) fn new(access: &PeerAccess) -> anyhow::Result<Self> {
        CloudClients::connecting(CONNECT_TIMEOUT, CALL_TIMEOUT, access).map(Self)
    }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let asked =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut builder = self.0.to(&url).request(parts.method, url).headers(parts.headers);
        let body = body.collect().await?.to_bytes();
        if !body.is_empty() {
            builder = builder.body(body);
        }
        let response = border("s3.send", builder.send()).await.map_err(|error| unanswered(&asked, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = border("s3.body", net::body(response, MAX_ANSWER_BYTES)).await;
        let body = body.map_err(|error| match error {
            net::BodyError::Lost(error) => unanswered(&asked, error),
            error @ net::BodyError::TooLarge(_) => HttpError::new(HttpErrorKind::Unknown, error),
        })?;
        let body = if status.is_success() {
            body
        } else {
            let said = said(&body);
            if Busy::is_said_by(status, &said) {
                return Err(HttpError::new(HttpErrorKind::Unknown, Busy { status, said }));
            }
            if said.is_empty() { format!("{asked} gives no reason").into_bytes() } else { said.into_bytes() }
        };
        let mut answer = HttpResponse::new(body.into());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// What was asked may have been heard, and may still be done later. Names whoever was asked: it may be who gives credentials.
fn unanswered(asked: &str, error: reqwest::Error) -> HttpError {
    // What cannot be connected to has a limit of its own.
    let said = if error.is_timeout() && !error.is_connect() {
        format!("no answer from {asked} within {} s", CALL_TIMEOUT.as_secs_f64())
    } else {
        format!("{asked}: {}", net::describe(&error.without_url()))
    };
    HttpError::new(HttpErrorKind::Unknown, Unanswered(said))
}

/// How the agents that give a pod or a container its credentials refuse.
#[derive(Deserialize)]
struct Refusal {
    #[serde(alias = "Code")]
    code: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

/// What a refusal says: code and message. The rest of it repeats what was signed, and with which key, or is anybody's.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let said = match serde_json::from_str(&text) {
        Ok(Refusal { code, message }) => [code, message],
        Err(_) => ["Code", "Message"].map(|name| element(&text, name).map(str::to_owned)),
    };
    let said: Vec<String> = said.into_iter().flatten().collect();
    shown(&said.join(": "), SAID_CHARS)
}

/// The text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_what_was_signed() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>not as you say\x1b</Message>\
                    <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>AWS4</StringToSign></Error>";
        assert_eq!(said(body.as_bytes()), "SignatureDoesNotMatch: not as you say\\u{1b}");
        for agent in [
            r#"{"code":"InvalidIdInRequest","message":"no such task\u001b","HTTPErrorCode":400}"#,
            r#"{"Code":"InvalidIdInRequest","Message":"no such task\u001b"}"#,
        ] {
            assert_eq!(said(agent.as_bytes()), "InvalidIdInRequest: no such task\\u{1b}");
        }
        for nothing in ["", "<html>Forbidden</html>", "<Code>cut", "\u{fffd}", "{}", r#"{"message":7}"#, "[1]"] {
            assert_eq!(said(nothing.as_bytes()), "", "{nothing}");
        }
    }
}
