//! The API of a worker that has a SPIFFE identity, and callers who have one.

use std::net::SocketAddr;
use std::sync::Mutex;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::test_workload_api::{Agent, Serving, TrustDomain};

/// Generous: machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker with an agent.
pub(super) struct World {
    pub(super) domain: Arc<TrustDomain>,
    /// Its API without connections.
    pub(super) port: Router,
    /// Its API with them.
    address: SocketAddr,
    agent: Agent,
    identity: Arc<WorkloadIdentity>,
    stop: CancellationToken,
    socket: std::path::PathBuf,
    serving: Option<Serving>,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// One whose agent does not serve yet.
    pub(super) async fn without_agent(name: &str, pairs: &[(&str, &str)]) -> Self {
        crate::net::install_crypto();
        let domain = Arc::new(TrustDomain::new(name));
        let agent = Agent::new(&domain, &domain.id("/worker"));
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("agent.sock");
        let spiffe = [
            ("SPIFFE_ENABLED", "true"),
            ("SPIFFE_TRUST_DOMAIN", name),
            ("SPIFFE_SOCKET_PATH", socket.to_str().expect("UTF-8")),
        ];
        let config = settings(&[pairs, &spiffe].concat());
        let surface = Surface {
            health: Health::default(),
            metrics: Arc::new(Metrics::new().expect("metrics")),
            sdk_metrics: Arc::new(SdkMetrics::start().expect("the SDK's metrics")),
        };
        let identity = WorkloadIdentity::of(config.spiffe.as_ref(), Arc::clone(&surface.metrics)).expect("on");
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&identity).follow(stop.clone()));
        let port = router(&Api::new(&config, surface, Some(Arc::clone(&identity))));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        tokio::spawn(serve(listener, port.clone(), Some(Arc::clone(&identity)), stop.clone()));
        Self { domain, port, address, agent, identity, stop, socket, serving: None, _folder: folder }
    }

    pub(super) async fn start(name: &str, pairs: &[(&str, &str)]) -> Self {
        let mut world = Self::without_agent(name, pairs).await;
        world.begin().await;
        world
    }

    async fn begin(&mut self) {
        self.serving = Some(self.agent.serve(&self.socket));
        self.identity.settled(PATIENCE).await;
    }
}

/// A caller over TLS.
pub(super) struct Secured {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    /// The certificate that the worker has presented last.
    presented: Arc<Mutex<Vec<u8>>>,
}

impl Secured {
    /// With this certificate, or with none.
    pub(super) fn with(
        world: &World,
        certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Self {
        let presented = Arc::<Mutex<Vec<u8>>>::default();
        let id = format!("spiffe://{}/worker", domain_of(world));
        let builder = rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OfWorker { id, presented: Arc::clone(&presented) }));
        let config = match certificate {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a key of the certificate"),
            None => builder.with_no_client_auth(),
        };
        Self { address: world.address, config: Arc::new(config), presented }
    }

    /// The answer to a request; `None`: the other side ends the connection.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Response> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await.ok()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // What came before a connection ended untidily counts.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse::<u16>().expect("a status");
        let mut response = Response::builder().status(status);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            response = response.header(name, value);
        }
        Some(response.body(Body::from(body.to_owned())).expect("a response"))
    }
}

fn domain_of(world: &World) -> &str {
    world.identity.settings().trust_domain.as_str()
}

/// Believes who proves to hold the key of a certificate with this id. Its authority is not looked at: the worker's side is
/// what is tested here.
#[derive(Debug)]
struct OfWorker {
    id: String,
    presented: Arc<Mutex<Vec<u8>>>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::clone(CryptoProvider::get_default().expect("installed"))
}

impl ServerCertVerifier for OfWorker {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let id = crate::spiffe::spiffe_id(certificate).map(|id| id.to_string());
        if id.as_ref() == Some(&self.id) {
            *self.presented.lock().expect("no panic") = certificate.to_vec();
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(format!("{id:?} is not the worker")))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

const CALLER: &str = "spiffe://td/caller";
const ALLOWED: (&str, &str) = ("HTTP_API_ALLOW", "spiffe://td/caller=status");

fn bearer(world: &World) -> String {
    format!("Bearer {}", world.domain.token(CALLER, &["worker-agents.td".to_owned()], 60))
}

#[tokio::test]
async fn one_port_takes_tls_and_plain_connections() {
    let world = World::start("td", &[ALLOWED]).await;
    let caller = Secured::with(&world, Some(world.domain.issue(CALLER, 60).chain()));
    let status = caller.ask("GET", "/api/v1/status", &[], "").await.expect("an answer");
    assert_eq!(status.status(), StatusCode::OK);
    let status = json_of(status).await;
    assert_eq!(status["identity"]["spiffe_id"], "spiffe://td/worker");
    assert_eq!(status["identity"]["service_registry"], "not called");

    let mut plain = TcpStream::connect(world.address).await.expect("connected");
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn inc_31_a_rotation_of_either_side_reaches_the_next_connection() {
    let world = World::start("td", &[ALLOWED]).await;
    let caller = || Secured::with(&world, Some(world.domain.issue(CALLER, 60).chain()));
    let mut before = Vec::new();
    for _ in 0..3 {
        let rotated = async {
            loop {
                let caller = caller();
                let answer = caller.ask("GET", "/api/v1/status", &[], "").await.expect("an answer");
                assert_eq!(answer.status(), StatusCode::OK);
                let presented = caller.presented.lock().expect("no panic").clone();
                if presented != before {
                    break presented;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        before = tokio::time::timeout(PATIENCE, rotated).await.expect("the worker presents its new SVID");
        world.agent.rotate(3600);
    }
    // An authority that is replaced vouches for nobody any more, in either form.
    let successor = TrustDomain::new("td");
    world.agent.deliver(&world.domain.issue("spiffe://td/worker", 3600), &successor);
    let before = bearer(&world);
    let status = async || ask(&world.port, "GET", "/api/v1/status", &[("authorization", &before)], "").await.status();
    let waited = tokio::time::timeout(PATIENCE, async {
        while status().await != StatusCode::UNAUTHORIZED || caller().ask("GET", "/health", &[], "").await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("it comes to count");
    let renewed = Secured::with(&world, Some(successor.issue(CALLER, 60).chain()));
    let answer = renewed.ask("GET", "/api/v1/status", &[], "").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn inc_31_an_agent_that_is_away_at_the_start_keeps_callers_out_and_nothing_else() {
    let token = ("HTTP_API_TOKEN", "ops=ops-token-0123456789");
    let allow = ("HTTP_API_ALLOW", "ops=status, spiffe://td/caller=status");
    let mut world = World::without_agent("td", &[token, allow]).await;
    let jwt = bearer(&world);
    let status = async |world: &World, header: &str| {
        ask(&world.port, "GET", "/api/v1/status", &[("authorization", header)], "").await
    };
    assert_eq!(status(&world, &jwt).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let caller = Secured::with(&world, Some(world.domain.issue(CALLER, 60).chain()));
    assert!(caller.ask("GET", "/api/v1/status", &[], "").await.is_none(), "no connection");
    let by_token = json_of(status(&world, "Bearer ops-token-0123456789").await).await;
    let missing = by_token["identity"]["missing"].as_str().expect("what is missing");
    assert!(missing.contains("SPIFFE_SOCKET_PATH"), "{missing}");
    assert_eq!(ask(&world.port, "GET", "/health", &[], "").await.status(), StatusCode::OK);

    world.begin().await;
    assert_eq!(status(&world, &jwt).await.status(), StatusCode::OK);
    let answer = caller.ask("GET", "/api/v1/status", &[], "").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_fallback_lets_those_in_who_prove_nothing_and_knows_the_others() {
    let settings = [("ENVIRONMENT", "development"), ("SPIFFE_FALLBACK_ALLOWED", "true"), ALLOWED];
    let world = World::start("td", &settings).await;
    for (header, proved) in
        [(None, Value::Null), (Some(bearer(&world)), json!(CALLER)), (Some("Bearer x".to_owned()), Value::Null)]
    {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = ask(&world.port, "GET", "/api/v1/status", &headers, "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{header:?}");
        assert_eq!(json_of(answer).await["authenticated_spiffe_id"], proved, "{header:?}");
    }
}
