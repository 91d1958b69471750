//! Outgoing HTTP: one place that builds clients.

use std::error::Error as _;
use std::time::Duration;

/// A client whose calls end after `timeout`. TLS is rustls with ring, the product's one provider beside librdkafka's.
///
/// # Errors
/// When the TLS set-up fails.
pub fn client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    install_crypto();
    let client = reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Installs ring as the process's TLS provider, once.
pub fn install_crypto() {
    // The second call finds it installed; that is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An error with its causes, for one line: the outermost alone often says only `error sending request`.
#[must_use]
pub fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
