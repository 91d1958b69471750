//! The SDK's HTTP by this worker's own client: one TLS, the proxy, the authorities and the certificate of the settings
//! (`docs/adr/0025-outgoing-http.md`).

use std::time::Duration;

use aws_sdk_lambda::config::SharedHttpClient;
use aws_sdk_lambda::config::http::{HttpRequest, HttpResponse};
use aws_sdk_lambda::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use reqwest::header::CONNECTION;
use reqwest::{Method, RequestBuilder, Url};
use ticket_activities::border;

use crate::config::PeerAccess;
use crate::net::{self, BodyError, CloudClients};

/// Longest wait for a connection, the name's resolution and a proxy included. Less than an invocation's answer is waited for before
/// it counts as running: whom nobody can connect to has begun nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest call: no function runs longer than 900 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(930);
/// Largest answer read, in bytes: a function answers with 6 MB at most.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The SDK asks for what this client does not send; nobody has heard it.
    #[error("it cannot be sent: {0}")]
    Unfit(String),
    /// Nobody has heard it.
    #[error("nobody can be connected to: {0}")]
    NotConnected(String),
    /// It may have been heard.
    #[error("no answer: {0}")]
    Lost(String),
    /// It was answered with what cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The SDK's client, which reaches AWS as `access` says.
pub(super) fn http_client(access: &PeerAccess) -> anyhow::Result<SharedHttpClient> {
    let clients = CloudClients::connecting(CONNECT_TIMEOUT, CALL_TIMEOUT, access)?;
    Ok(http_client_fn(move |settings, _| {
        SharedHttpConnector::new(Connector { clients: clients.clone(), timeout: timeout(settings) })
    }))
}

/// The time of a call for which the SDK has one: those for credentials.
fn timeout(settings: &HttpConnectorSettings) -> Option<Duration> {
    settings.read_timeout().map(|read| read + settings.connect_timeout().unwrap_or_default())
}

#[derive(Debug)]
struct Connector {
    clients: CloudClients,
    timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = self.request(&request);
        HttpConnectorFuture::new(async move {
            match request {
                Ok(request) => send(request).await,
                Err(error) => Err(error),
            }
            .map_err(|error| match error {
                CallError::Unfit(_) => ConnectorError::user(error.into()),
                _ => ConnectorError::io(error.into()),
            })
        })
    }
}

impl Connector {
    /// Each call has a connection of its own: one that is lost with a connection that was closed because it was idle would be in
    /// doubt for nothing.
    fn request(&self, request: &HttpRequest) -> Result<RequestBuilder, CallError> {
        let unfit = |what: &str| CallError::Unfit(what.to_owned());
        let body = request.body().bytes().ok_or_else(|| unfit("its body is a stream"))?;
        let method = Method::from_bytes(request.method().as_bytes()).map_err(|_| unfit("its method is none"))?;
        let url =
            Url::parse(request.uri()).map_err(|error| CallError::Unfit(format!("its address is none: {error}")))?;
        let mut builder = self.clients.to(&url).request(method, url).body(body.to_vec()).header(CONNECTION, "close");
        for (name, value) in request.headers().iter() {
            builder = builder.header(name, value);
        }
        Ok(match self.timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        })
    }
}

async fn send(request: RequestBuilder) -> Result<HttpResponse, CallError> {
    let response = border("aws.send", request.send()).await.map_err(|error| unanswered(&error))?;
    let unreadable = |what: String| CallError::Unreadable(what);
    let status = StatusCode::try_from(response.status().as_u16()).map_err(|error| unreadable(error.to_string()))?;
    let headers = response.headers().clone();
    let body = border("aws.body", net::body(response, MAX_ANSWER_BYTES)).await.map_err(|error| match error {
        BodyError::Lost(error) => unanswered(&error),
        BodyError::TooLarge(_) => unreadable(format!("{} was answered, and {error}", status.as_u16())),
    })?;
    let mut answer = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        // A header that is no text is none that the SDK reads.
        if let Ok(value) = value.to_str() {
            let appended = answer.headers_mut().try_append(name.as_str().to_owned(), value.to_owned());
            appended.map_err(|error| unreadable(error.to_string()))?;
        }
    }
    Ok(answer)
}

fn unanswered(error: &reqwest::Error) -> CallError {
    let why = net::describe(error);
    if error.is_connect() { CallError::NotConnected(why) } else { CallError::Lost(why) }
}
