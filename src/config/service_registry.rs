//! The Service Registry: where it is, and how this worker introduces itself there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ticket_schemas::SecurityLevel;

use super::http_api::DEVELOPMENT;
use super::near::is_near;
use super::reader::Reader;
use super::secrets::SecretSource;
use super::spiffe::SpiffeConfig;

/// Settings of the registry's client and of the registrations.
#[derive(Debug, Clone)]
pub struct ServiceRegistryConfig {
    /// `SERVICE_REGISTRY_HOST`:`SERVICE_REGISTRY_PORT`; `None`: the worker does not register. The platform's default,
    /// `localhost`, is no place where a registry is, so there is none here.
    pub address: Option<String>,
    /// `SERVICE_REGISTRY_TIMEOUT_SECONDS`: longest call.
    pub timeout: Duration,
    /// `HEARTBEAT_INTERVAL_SECONDS`. The registry calls an agent unhealthy that is silent for 120 s.
    pub heartbeat_interval: Duration,
    /// `SERVICE_REGISTRY_NAMESPACE`: the namespace that is registered. The scheduler looks for workers in its own, wherever
    /// they run (INC-24).
    pub namespace: String,
    /// `CAPABILITIES`: words that tickets ask for.
    pub capabilities: Vec<String>,
    /// `SECURITY_LEVELS`: those of the tickets that this worker may run. Each is a registration of its own (INC-25).
    pub security_levels: BTreeSet<SecurityLevel>,
    /// `ENABLE_MTLS`, `MTLS_CERT_PATH`, `MTLS_KEY_PATH`, `MTLS_CA_PATH`; `None`: an X.509-SVID when there is one, or else
    /// plaintext.
    pub mtls: Option<MtlsFiles>,
    /// `AGENT_ENDPOINT`: base URL of this worker's HTTP API for others; `None`: it is put together from what is known of
    /// the pod (INC-26).
    pub endpoint: Option<String>,
    /// `POD_IP`, `POD_NAME`, `NODE_NAME`: what the cluster says of this pod.
    pub pod: PodFacts,
    /// `SPIFFE_ID`: this worker's identity, as metadata.
    pub spiffe_id: Option<String>,
}

/// What the cluster says of this pod (downward API).
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    /// `POD_IP`.
    pub ip: Option<IpAddr>,
    /// `POD_NAME`.
    pub name: Option<String>,
    /// `NODE_NAME`.
    pub node: Option<String>,
}

/// PEM files of a mutually authenticated connection. They are read for each new connection, and one is made when any of
/// them has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtlsFiles {
    /// `MTLS_CERT_PATH`: this worker's certificate, then its intermediates.
    pub certificate: PathBuf,
    /// `MTLS_KEY_PATH`: its key.
    pub key: PathBuf,
    /// `MTLS_CA_PATH`: the only authorities trusted; `None`: the system's.
    pub ca: Option<PathBuf>,
}

impl MtlsFiles {
    /// All of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.ca).map(PathBuf::as_path)
    }
}

impl ServiceRegistryConfig {
    pub(super) fn read(reader: &mut Reader<'_>, spiffe: Option<&SpiffeConfig>, environment: &str) -> Self {
        let mtls = mtls(reader);
        let x509 = spiffe.is_some_and(|spiffe| spiffe.x509);
        if x509 && mtls.is_some() {
            reader.warn(
                "ENABLE_MTLS has no effect with SPIFFE_ENABLED and SPIFFE_ENABLE_X509: the Service Registry is called with the X.509-SVID"
                    .to_owned(),
            );
        }
        let encrypted = x509 || mtls.is_some();
        let address = address(reader);
        if let Some(address) = address.as_deref().filter(|_| !encrypted) {
            plaintext(reader, address, spiffe.is_some(), environment);
        }
        Self {
            address,
            timeout: reader.seconds(
                "SERVICE_REGISTRY_TIMEOUT_SECONDS",
                5.0,
                "longest call to the Service Registry; added by this product",
            ),
            heartbeat_interval: reader.seconds("HEARTBEAT_INTERVAL_SECONDS", 30.0, "between two heartbeats"),
            namespace: reader.text(
                "SERVICE_REGISTRY_NAMESPACE",
                "neural-hive",
                "namespace that is registered: the one in which the orchestrator looks for workers; added by this product",
            ),
            capabilities: capabilities(reader),
            security_levels: security_levels(reader),
            mtls,
            endpoint: reader.url(
                "AGENT_ENDPOINT",
                "base URL of this worker's HTTP API for others; unset: from HTTP_BIND, POD_IP or the host's name; added by this product",
            ),
            pod: pod(reader),
            spiffe_id: spiffe_id(reader),
        }
    }
}

/// Kubernetes sets the name itself, to a URL, beside a Service that is called `service-registry`.
const PORT: &str = "a port number; where Kubernetes sets it, give the pod enableServiceLinks: false";

fn address(reader: &mut Reader<'_>) -> Option<String> {
    let host =
        reader.optional("SERVICE_REGISTRY_HOST", "host of the Service Registry; unset: the worker does not register");
    let port: u16 = reader.parsed("SERVICE_REGISTRY_PORT", 50051, PORT, "port of the Service Registry");
    let host = host?;
    let address = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    if reqwest::Url::parse(&format!("http://{address}")).is_err() || host.contains(['/', '@', '?', '#']) {
        reader.error(format!("SERVICE_REGISTRY_HOST={host:?}: expected the name or the IP address of a host"));
        return None;
    }
    Some(address)
}

/// What is to be said of a registry that is called in plaintext. `token`: with a JWT-SVID.
fn plaintext(reader: &mut Reader<'_>, address: &str, token: bool, environment: &str) {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    if !is_near(host) {
        let told = format!(
            "the Service Registry at {address} is called in plaintext, beyond this machine and the cluster; set SPIFFE_ENABLED or ENABLE_MTLS"
        );
        if environment == DEVELOPMENT {
            reader.warn(told);
        } else {
            reader.error(format!("SERVICE_REGISTRY_HOST: {told}, or ENVIRONMENT={DEVELOPMENT}"));
        }
    } else if token {
        reader.warn(format!(
            "the JWT-SVID goes to the Service Registry at {address} in plaintext; set SPIFFE_ENABLE_X509 or ENABLE_MTLS"
        ));
    }
}

fn mtls(reader: &mut Reader<'_>) -> Option<MtlsFiles> {
    let enabled = reader.boolean(
        "ENABLE_MTLS",
        false,
        "whether the Service Registry is called with mutual TLS; the platform's default, true, has no effect there",
    );
    let certificate = reader.text("MTLS_CERT_PATH", "/etc/certs/tls.crt", "PEM file with this worker's certificate");
    let key = reader.text("MTLS_KEY_PATH", "/etc/certs/tls.key", "PEM file with its key");
    let ca = reader.optional("MTLS_CA_PATH", "PEM file with the only authorities trusted; added by this product");
    if !enabled {
        return None;
    }
    for (name, path) in
        [("MTLS_CERT_PATH", Some(&certificate)), ("MTLS_KEY_PATH", Some(&key)), ("MTLS_CA_PATH", ca.as_ref())]
    {
        if let Some(path) = path
            && let Err(error) = std::fs::metadata(Path::new(path))
        {
            reader.error(format!("{name}={path:?}: {error}; ENABLE_MTLS needs the file"));
        }
    }
    reader.remember(&SecretSource::of_file("MTLS_KEY_PATH", &key));
    Some(MtlsFiles { certificate: certificate.into(), key: key.into(), ca: ca.map(PathBuf::from) })
}

fn capabilities(reader: &mut Reader<'_>) -> Vec<String> {
    let capabilities = reader.list(
        "CAPABILITIES",
        "python,terraform,kubernetes,read,write,compute,analyze,transform,test,code,security,scan,compliance,deploy",
        "words that tickets ask for in required_capabilities; a worker is found for a ticket when it has all of them",
    );
    if capabilities.is_empty() {
        reader.error("CAPABILITIES: at least one is needed; the Service Registry refuses an agent without".to_owned());
    }
    capabilities
}

fn security_levels(reader: &mut Reader<'_>) -> BTreeSet<SecurityLevel> {
    let levels = reader.words(
        "SECURITY_LEVELS",
        "INTERNAL",
        "security levels of tickets that the orchestrator may find this worker for; added by this product",
    );
    if levels.is_empty() {
        reader.error("SECURITY_LEVELS: at least one level is needed".to_owned());
    }
    levels
}

fn pod(reader: &mut Reader<'_>) -> PodFacts {
    let ip = reader.optional("POD_IP", "this pod's IP address, for AGENT_ENDPOINT");
    let parsed = ip.as_deref().map(str::parse);
    if let Some(Err(_)) = parsed {
        reader.error(format!("POD_IP={:?}: expected an IP address", ip.unwrap_or_default()));
    }
    PodFacts {
        ip: parsed.and_then(Result::ok),
        name: reader.optional("POD_NAME", "this pod's name, told to the Service Registry"),
        node: reader.optional("NODE_NAME", "this pod's node, told to the Service Registry"),
    }
}

fn spiffe_id(reader: &mut Reader<'_>) -> Option<String> {
    let id = reader.optional("SPIFFE_ID", "this worker's SPIFFE id, told to the Service Registry");
    if id.as_deref().is_some_and(|id| !id.starts_with("spiffe://")) {
        reader.error(format!(
            "SPIFFE_ID={:?}: expected spiffe://<trust domain>/<path>",
            id.as_deref().unwrap_or_default()
        ));
    }
    id
}
