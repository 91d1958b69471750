//! SPIFFE: where this worker's identity comes from, and for whom it is.

use spiffe::transport::Endpoint;
use spiffe::{SpiffeId, TrustDomain};

use super::http_api::DEVELOPMENT;
use super::reader::Reader;

/// Where agents of SPIRE listen.
const SOCKET: &str = "unix:///run/spire/sockets/agent.sock";

/// Settings of the workload identity.
#[derive(Debug, Clone)]
pub struct SpiffeConfig {
    /// `SPIFFE_SOCKET_PATH`, or the standard's own `SPIFFE_ENDPOINT_SOCKET`: the Workload API, as a URI.
    pub endpoint: String,
    /// `SPIFFE_TRUST_DOMAIN`: that of this worker, and the only one whose callers of the HTTP API are known.
    pub trust_domain: TrustDomain,
    /// `SPIFFE_ENABLE_X509`: whether connections are authenticated by X.509-SVIDs.
    pub x509: bool,
    /// `SPIFFE_JWT_AUDIENCE`: the Service Registry's audience (INC-30).
    pub registry_audience: String,
    /// `SERVICE_REGISTRY_SPIFFE_ID`: who the Service Registry must be.
    pub registry_id: SpiffeId,
    /// `HTTP_API_AUDIENCE`: the audience of JWT-SVIDs that are for this worker's HTTP API.
    pub api_audience: String,
    /// `SPIFFE_FALLBACK_ALLOWED`: whether callers of the HTTP API who prove nothing may do everything.
    pub fallback: bool,
}

impl SpiffeConfig {
    /// `None`: SPIFFE is off.
    pub(super) fn read(reader: &mut Reader<'_>, environment: &str) -> Option<Self> {
        let enabled = reader.boolean(
            "SPIFFE_ENABLED",
            false,
            "whether this worker's identity comes from a SPIFFE Workload API, and callers of the HTTP API have theirs by it",
        );
        let endpoint = endpoint(reader);
        let trust_domain = trust_domain(reader);
        let x509 = reader.boolean(
            "SPIFFE_ENABLE_X509",
            true,
            "whether the Service Registry is called, and the HTTP API can be, with mutual TLS of X.509-SVIDs",
        );
        let named = trust_domain.as_ref().map_or("neural-hive.local", TrustDomain::as_str).to_owned();
        let registry_audience = reader.text(
            "SPIFFE_JWT_AUDIENCE",
            &format!("service-registry.{named}"),
            "audience of the JWT-SVID sent to the Service Registry; the platform's default is Vault's (INC-30)",
        );
        let registry_id = registry_id(reader, &named);
        let api_audience = reader.text(
            "HTTP_API_AUDIENCE",
            &format!("worker-agents.{named}"),
            "audience that JWT-SVIDs of the HTTP API's callers must have; added by this product",
        );
        let fallback = fallback(reader, environment);
        obsolete(reader);
        if !enabled {
            return None;
        }
        // What is missing of these is an error by now.
        let (endpoint, trust_domain, registry_id) = (endpoint?, trust_domain?, registry_id?);
        Some(Self { endpoint, trust_domain, x509, registry_audience, registry_id, api_audience, fallback })
    }
}

/// A plain path is one of a socket.
fn endpoint(reader: &mut Reader<'_>) -> Option<String> {
    let standard = reader.optional(
        "SPIFFE_ENDPOINT_SOCKET",
        "the Workload API's socket by its name in the SPIFFE standard; SPIFFE_SOCKET_PATH wins",
    );
    let text = reader.text("SPIFFE_SOCKET_PATH", standard.as_deref().unwrap_or(SOCKET), "the Workload API's socket");
    let uri = if text.starts_with('/') { format!("unix://{text}") } else { text.clone() };
    match Endpoint::parse(&uri) {
        Ok(_) => Some(uri),
        Err(error) => {
            reader.error(format!(
                "SPIFFE_SOCKET_PATH={text:?}: {error}; expected a path, unix:///path/to/agent.sock or tcp://ip:port"
            ));
            None
        }
    }
}

fn trust_domain(reader: &mut Reader<'_>) -> Option<TrustDomain> {
    let text = reader.text("SPIFFE_TRUST_DOMAIN", "neural-hive.local", "SPIFFE trust domain of this worker");
    TrustDomain::new(&text).inspect_err(|error| reader.error(format!("SPIFFE_TRUST_DOMAIN={text:?}: {error}"))).ok()
}

fn registry_id(reader: &mut Reader<'_>, trust_domain: &str) -> Option<SpiffeId> {
    let text = reader.text(
        "SERVICE_REGISTRY_SPIFFE_ID",
        &format!("spiffe://{trust_domain}/ns/neural-hive/sa/service-registry"),
        "SPIFFE id that the Service Registry must prove; added by this product",
    );
    SpiffeId::new(&text).inspect_err(|error| reader.error(format!("SERVICE_REGISTRY_SPIFFE_ID={text:?}: {error}"))).ok()
}

fn fallback(reader: &mut Reader<'_>, environment: &str) -> bool {
    let allowed = reader.boolean(
        "SPIFFE_FALLBACK_ALLOWED",
        false,
        "whether callers of the HTTP API who prove nothing may do everything; with ENVIRONMENT=development only",
    );
    if allowed && environment != DEVELOPMENT {
        reader.error(format!(
            "SPIFFE_FALLBACK_ALLOWED=true lets anyone in reach cancel tickets; it needs ENVIRONMENT={DEVELOPMENT}, which is {environment:?}"
        ));
    }
    allowed
}

fn obsolete(reader: &mut Reader<'_>) {
    const TTL: &str = "SPIFFE_JWT_TTL_SECONDS";
    if reader.optional(TTL, "without effect: a request for a JWT-SVID has no such field").is_some() {
        reader.warn(format!(
            "{TTL} has no effect: the SPIFFE Workload API takes no lifetime; set it at the registration entry (jwtSVIDTTL)"
        ));
    }
}
