//! The X.509-SVID, and TLS with it: what a handshake presents and whom it believes are those of its moment.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use spiffe::{X509Source, X509Svid};
use spiffe_rustls::{TlsStatus, TrustDomainPolicy, authorizer, mtls_client, mtls_server};

use super::error::IdentityError;
use super::recorder::Recorder;
use crate::config::SpiffeConfig;
use crate::net;

/// The identity for connections.
pub(super) struct X509 {
    source: X509Source,
    client: Arc<ClientConfig>,
    status: TlsStatus,
    server: Arc<ServerConfig>,
}

impl X509 {
    /// Waits until the Workload API has delivered one.
    ///
    /// # Errors
    /// When it refuses the question itself, or what it delivers is of no use.
    pub(super) async fn first(settings: &SpiffeConfig, recorder: Recorder) -> anyhow::Result<Self> {
        net::install_crypto();
        let source = X509Source::builder().endpoint(&settings.endpoint).metrics(Arc::new(recorder)).build().await?;
        let registry = &settings.registry_id;
        let (client, status) = mtls_client(source.clone())
            .authorize(authorizer::exact([registry.clone()])?)
            .trust_domain_policy(TrustDomainPolicy::LocalOnly(registry.trust_domain().clone()))
            .with_alpn_protocols([b"h2"])
            .build_with_status()?;
        // What each caller may do is the allow-list's word.
        let server = mtls_server(source.clone())
            .authorize(authorizer::any())
            .trust_domain_policy(TrustDomainPolicy::LocalOnly(settings.trust_domain.clone()))
            .with_alpn_protocols([b"http/1.1"])
            .build()?;
        Ok(Self { source, client: Arc::new(client), status, server: Arc::new(server) })
    }

    /// Deliveries, by the source.
    pub(super) fn source(&self) -> &X509Source {
        &self.source
    }

    /// The SVID, while it counts.
    pub(super) fn svid(&self) -> Result<Arc<X509Svid>, IdentityError> {
        let reason = |error: spiffe::x509_source::X509SourceError| match error {
            spiffe::x509_source::X509SourceError::NoSuitableSvid => "it has expired".to_owned(),
            error => net::describe(&error),
        };
        // A source that was closed keeps what it had: connections may outlive it at a shutdown.
        self.source.state().svid().map_err(|error| IdentityError::Gone { what: "X.509-SVID", reason: reason(error) })
    }

    /// For connections to the Service Registry.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// For connections of the HTTP API's callers.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Which delivery handshakes use. It changes once the new one is in use: a connection that is made for a new number
    /// never meets a delivery that is still taken in.
    pub(super) fn revision(&self) -> u64 {
        self.status.current().applied_revision
    }
}
