//! Outgoing HTTP: one place that builds clients.

use std::error::Error;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response};
use ticket_workflows::TraceContext;

use crate::dead_letters::shown;

/// Longest text of a peer that is told.
pub const SAID_CHARS: usize = 300;

/// A client whose calls end after `timeout`. TLS is rustls with ring, the product's one provider beside librdkafka's.
///
/// # Errors
/// When the TLS set-up fails.
pub fn client(timeout: Duration) -> anyhow::Result<Client> {
    Ok(builder(timeout).build()?)
}

/// A client of one configured peer. It follows no redirect: credentials go to the address that was configured, or nowhere.
/// With `ca_bundle`, a PEM file, its authorities are trusted and no others; else the system's.
///
/// # Errors
/// When the bundle cannot be read or holds no certificate, or the TLS set-up fails.
pub fn peer_client(timeout: Duration, ca_bundle: Option<&str>) -> anyhow::Result<Client> {
    let mut builder = builder(timeout).redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca_bundle {
        let pem = std::fs::read(path).with_context(|| path.to_owned())?;
        let authorities = Certificate::from_pem_bundle(&pem).with_context(|| path.to_owned())?;
        anyhow::ensure!(!authorities.is_empty(), "{path} holds no PEM certificate");
        builder = builder.tls_certs_only(authorities);
    }
    Ok(builder.build()?)
}

/// As [`peer_client`] with the system's authorities, of a peer that gets no credentials. It follows redirects within the
/// origin that was configured, to `/tickets/` from `/tickets` for one, and keeps method and body where the answer says so.
///
/// # Errors
/// When the TLS set-up fails.
pub fn peer_client_within_origin(timeout: Duration) -> anyhow::Result<Client> {
    let policy = reqwest::redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().map(reqwest::Url::origin);
        if attempt.previous().len() <= MOST_REDIRECTS && first.is_some_and(|first| first == attempt.url().origin()) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    Ok(builder(timeout).redirect(policy).build()?)
}

/// Redirects of one call.
const MOST_REDIRECTS: usize = 3;

fn builder(timeout: Duration) -> ClientBuilder {
    install_crypto();
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        // HTTP_PROXY and its siblings are the environment's word to tools that go outside. These peers are the worker's own,
        // and the environment is read in one place only.
        .no_proxy()
        .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))
}

/// The body of an answer.
///
/// # Errors
/// See [`BodyError`].
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > most {
            return Err(BodyError::TooLarge(most));
        }
    }
    Ok(body)
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before it did.
    #[error("{}", describe(.0))]
    Lost(#[from] reqwest::Error),
    /// It has more bytes than the caller takes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// The request with a trace context (INC-04). What no header can hold is left out.
pub fn traced(request: RequestBuilder, trace: &TraceContext) -> RequestBuilder {
    trace.headers().fold(request, |request, (name, value)| match HeaderValue::from_str(value) {
        Ok(value) => request.header(name, value),
        Err(_) => request,
    })
}

/// Installs ring as the process's TLS provider, once.
pub fn install_crypto() {
    // The second call finds it installed; that is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An error with its causes, for one line: the outermost alone often says only `error sending request`.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// What a gRPC peer said, with its causes, for one line of at most 300 characters.
#[must_use]
pub fn said(status: &tonic::Status) -> String {
    let cause = status.source().map(|cause| format!(" ({})", describe(cause))).unwrap_or_default();
    shown(&format!("{:?}: {}{cause}", status.code(), status.message()), SAID_CHARS)
}

/// Whether the call failed because the peer's certificate is not trusted.
#[must_use]
pub fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if matches!(inner.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // The layers between wrap it in I/O errors, whose content is no source.
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map_or_else(|| inner.source(), |wrapped| Some(wrapped as &dyn Error));
    }
    false
}
