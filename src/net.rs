//! Outgoing HTTP: one place that builds clients.

use std::error::Error;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, RequestBuilder, Response, Url};
use ticket_workflows::TraceContext;
use zeroize::Zeroizing;

use crate::config::{ClientCertificate, PeerAccess, ProxyConfig};
use crate::dead_letters::shown;

mod guard;
mod link;

pub use guard::{AddressRefused, TicketAddresses, TicketClient};
pub use link::CloudClients;

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
///
/// # Errors
/// When a file of the access cannot be read or holds no certificate, the proxy's password cannot be had, or the TLS set-up
/// fails.
pub fn peer_client(timeout: Duration, access: &PeerAccess) -> anyhow::Result<Client> {
    peer_client_connecting(timeout, timeout, access)
}

/// As [`peer_client`], with a limit of its own for the connection, which is less than `timeout`: what could not be connected to
/// has heard nothing, and the call's own time-out would not say so.
///
/// # Errors
/// As [`peer_client`].
pub fn peer_client_connecting(connecting: Duration, timeout: Duration, access: &PeerAccess) -> anyhow::Result<Client> {
    let builder = peer_builder(timeout, access)?.connect_timeout(connecting);
    Ok(builder.redirect(reqwest::redirect::Policy::none()).build()?)
}

/// As [`peer_client`], of a peer that gets no credentials. It follows redirects within the origin that was configured, to
/// `/tickets/` from `/tickets` for one, and keeps method and body where the answer says so.
///
/// # Errors
/// As [`peer_client`].
pub fn peer_client_within_origin(timeout: Duration, access: &PeerAccess) -> anyhow::Result<Client> {
    let policy = reqwest::redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().map(reqwest::Url::origin);
        if attempt.previous().len() <= MOST_REDIRECTS && first.is_some_and(|first| first == attempt.url().origin()) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    Ok(peer_builder(timeout, access)?.redirect(policy).build()?)
}

/// Redirects of one call.
const MOST_REDIRECTS: usize = 3;

fn peer_builder(timeout: Duration, access: &PeerAccess) -> anyhow::Result<ClientBuilder> {
    let mut builder = builder(timeout);
    if let Some(path) = &access.ca_bundle {
        let pem = std::fs::read(path).with_context(|| path.clone())?;
        let authorities = Certificate::from_pem_bundle(&pem).with_context(|| path.clone())?;
        anyhow::ensure!(!authorities.is_empty(), "{path} holds no PEM certificate");
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(certificate) = &access.outgoing.certificate {
        builder = builder.identity(identity(certificate)?);
    }
    if let Some(settings) = &access.outgoing.proxy {
        builder = builder.proxy(proxy(settings)?);
    }
    Ok(builder)
}

/// What this worker shows to peers that ask for a certificate.
///
/// # Errors
/// When a file cannot be read, or they hold no certificate and key that belong together in form.
pub fn identity(pair: &ClientCertificate) -> anyhow::Result<Identity> {
    let mut pem = Zeroizing::new(std::fs::read(&pair.key).with_context(|| pair.key.clone())?);
    pem.push(b'\n');
    pem.extend(std::fs::read(&pair.certificate).with_context(|| pair.certificate.clone())?);
    Ok(Identity::from_pem(&pem)?)
}

fn proxy(settings: &ProxyConfig) -> anyhow::Result<Proxy> {
    let through = Url::parse(&settings.url).with_context(|| format!("OUTGOING_PROXY_URL={:?}", settings.url))?;
    let chosen = settings.clone();
    let choose = move |url: &Url| {
        let passed_over = url.host_str().is_none_or(|host| chosen.is_passed_over_for(host));
        (!passed_over).then(|| through.clone())
    };
    let mut proxy = Proxy::custom(choose).no_proxy(NoProxy::from_string(&settings.direct));
    if let Some((username, password)) = &settings.login {
        let password = password.read().map_err(anyhow::Error::msg)?;
        proxy = proxy.basic_auth(username, password.expose());
    }
    Ok(proxy)
}

fn builder(timeout: Duration) -> ClientBuilder {
    install_crypto();
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        // HTTP_PROXY and its siblings are the environment's word to tools that go outside, and the environment is read in one
        // place only. A proxy that the settings name comes on top.
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

/// What an answer's `Retry-After` asks for, in seconds or as a date. `None`: nothing that can be understood.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    after(headers.get(RETRY_AFTER)?.to_str().ok()?)
}

/// The same of its text.
pub fn after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let after = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(after.min(MOST_RETRY_AFTER))
}

/// Longer than anything is waited for, and short enough to be added to now.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

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

#[cfg(test)]
mod tests;
