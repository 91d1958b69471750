//! The connection to the registry: how it is secured, and when it is made anew.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tower::service_fn;

use super::client::ServiceRegistryError;
use crate::config::{MtlsFiles, ServiceRegistryConfig};
use crate::net;
use crate::spiffe::WorkloadIdentity;

/// How often a connection that carries a stream only shows that it lives; it is closed when that is not answered in time.
/// A server made of gRPC's C core, as Python's are, puts out who does so within 300 s and gets no data (`too_many_pings`).
const KEEP_ALIVE: Duration = Duration::from_secs(330);

/// What connections are authenticated by. There is no way from one to another: a registry that cannot be called with the
/// X.509-SVID is not called with less.
#[derive(Debug)]
enum Security {
    Plaintext,
    Files(MtlsFiles),
    Spiffe(Arc<WorkloadIdentity>),
}

/// What a connection was made of; it is made anew when that is something else.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    Plain,
    /// When each of the files was last written.
    Files(Vec<Option<SystemTime>>),
    /// The Workload API's delivery.
    Delivery(u64),
}

/// Gives out the connection. One that is replaced ends when the calls on it have.
#[derive(Debug)]
pub(super) struct Channels {
    address: String,
    timeout: Duration,
    security: Security,
    current: Mutex<Option<(Made, Channel)>>,
}

impl Channels {
    pub(super) fn new(address: &str, config: &ServiceRegistryConfig, identity: Option<&Arc<WorkloadIdentity>>) -> Self {
        let security = match (identity.filter(|identity| identity.settings().x509), &config.mtls) {
            (Some(identity), _) => Security::Spiffe(Arc::clone(identity)),
            (None, Some(files)) => Security::Files(files.clone()),
            (None, None) => Security::Plaintext,
        };
        Self { address: address.to_owned(), timeout: config.timeout, security, current: Mutex::default() }
    }

    /// The next call opens another one.
    pub(super) fn forget(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The connection, which its first call opens.
    pub(super) fn current(&self) -> Result<Channel, ServiceRegistryError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is read: what changes meanwhile is news to the next call.
        let (made, tls) = match &self.security {
            Security::Plaintext => (Made::Plain, None),
            Security::Files(files) => (Made::Files(files.paths().map(written).collect()), None),
            Security::Spiffe(identity) => {
                let (tls, delivery) = identity.registry_tls()?;
                (Made::Delivery(delivery), Some(tls))
            }
        };
        if let Some((before, channel)) = &*current
            && *before == made
        {
            return Ok(channel.clone());
        }
        let channel = self.open(tls).map_err(ServiceRegistryError::Files)?;
        *current = Some((made, channel.clone()));
        Ok(channel)
    }

    fn open(&self, tls: Option<Arc<ClientConfig>>) -> Result<Channel, String> {
        if let Some(tls) = tls {
            return self.open_by_identity(tls);
        }
        let Security::Files(files) = &self.security else { return Ok(self.endpoint("http")?.connect_lazy()) };
        net::install_crypto();
        let identity = Identity::from_pem(read(&files.certificate)?, read(&files.key)?);
        let tls = match &files.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        Ok(self.endpoint("https")?.tls_config(tls.identity(identity)).map_err(broken)?.connect_lazy())
    }

    /// tonic's own TLS checks names of hosts; here the peer is known by its SPIFFE id.
    fn open_by_identity(&self, tls: Arc<ClientConfig>) -> Result<Channel, String> {
        let https = Uri::try_from(format!("https://{}", self.address)).map_err(|error| error.to_string())?;
        let host = https.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let (address, connector) = (self.address.clone(), TlsConnector::from(tls));
        let dial = service_fn(move |_: Uri| {
            let (address, connector, name) = (address.clone(), connector.clone(), name.clone());
            async move {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        // The scheme is that of what `dial` gives; the server hears `https`.
        Ok(self.endpoint("http")?.origin(https).connect_with_connector_lazy(dial))
    }

    fn endpoint(&self, scheme: &str) -> Result<Endpoint, String> {
        Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(broken)?
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(self.timeout)
            .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))
            .map_err(broken)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn broken(error: tonic::transport::Error) -> String {
    net::describe(&error)
}

/// `None` where that cannot be told: reading says why.
fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
