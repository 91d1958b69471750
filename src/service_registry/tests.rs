//! The client and the registrations against the registry of the development stack.

mod spiffe;

use std::sync::Arc;
use std::time::Duration;

use platform_proto::service_registry::{
    AgentTelemetry, AgentType, DiscoverRequest, RegisterRequest, WatchAgentsRequest,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;
use crate::config::{Config, MapSource, Origin};
use crate::dev::service_registry::ServiceRegistryStandIn;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::test_authority::Authority;

/// Generous: machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of a worker whose registry is at `port` on this machine.
fn config_of(port: u16, settings: &[(&str, &str)]) -> Config {
    let mut source = MapSource::from([("SERVICE_REGISTRY_HOST", "localhost")]);
    source.set("SERVICE_REGISTRY_PORT", port.to_string(), Origin::Environment);
    settings.iter().for_each(|(name, value)| source.set(name, *value, Origin::Environment));
    Config::read(&source).expect("valid")
}

/// A client with these settings, and its metrics.
fn client_of(port: u16, settings: &[(&str, &str)]) -> (ServiceRegistryClient, Arc<Metrics>) {
    let config = config_of(port, settings);
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    (ServiceRegistryClient::of(&config, None, Arc::clone(&metrics)).expect("configured"), metrics)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let port = listener.local_addr().expect("address").port();
    (listener, port)
}

async fn registry() -> (ServiceRegistryStandIn, u16) {
    let (registry, (listener, port)) = (ServiceRegistryStandIn::new(), listen().await);
    tokio::spawn(registry.serve(listener, CancellationToken::new()));
    (registry, port)
}

async fn until(probe: impl Fn() -> bool) {
    let probing = async {
        while !probe() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, probing).await.expect("it comes");
}

fn introduction() -> RegisterRequest {
    RegisterRequest {
        agent_type: AgentType::Worker.into(),
        capabilities: vec!["python".to_owned()],
        ..RegisterRequest::default()
    }
}

#[tokio::test]
async fn each_code_means_what_a_worker_can_do_about_it() {
    let (registry, port) = registry().await;
    let (client, _) = client_of(port, &[]);
    for (code, kind) in [
        (Code::NotFound, "unknown"),
        (Code::InvalidArgument, "refused"),
        (Code::Unauthenticated, "refused"),
        (Code::PermissionDenied, "refused"),
        (Code::Unimplemented, "refused"),
        (Code::Unavailable, "unavailable"),
        (Code::Internal, "unavailable"),
        (Code::ResourceExhausted, "unavailable"),
        (Code::Unknown, "unavailable"),
    ] {
        registry.set_refusal(Some(code));
        let error = client.heartbeat("x", AgentTelemetry::default()).await.expect_err("refused");
        let found = match error {
            ServiceRegistryError::UnknownAgent(_) => "unknown",
            ServiceRegistryError::Refused(_) => "refused",
            ServiceRegistryError::Unavailable { .. } => "unavailable",
            ServiceRegistryError::Files(_) | ServiceRegistryError::Identity(_) => "not called",
        };
        assert_eq!(found, kind, "{code:?}: {error}");
    }
}

#[tokio::test]
async fn an_agent_that_is_not_known_is_told_by_the_code_whatever_the_text() {
    let (_registry, port) = registry().await;
    let (client, _) = client_of(port, &[]);
    let stranger = "0b0e4c6e-54a1-4f0d-9a6d-6a3f0f3a2d11";
    for (agent_id, said) in [(stranger, "não encontrado"), ("no-uuid", "badly formed")] {
        let error = client.heartbeat(agent_id, AgentTelemetry::default()).await.expect_err("not known");
        assert!(matches!(&error, ServiceRegistryError::UnknownAgent(text) if text.contains(said)), "{error}");
    }
    assert!(!client.deregister(stranger).await.expect("an answer"));
    let nothing = client.register(RegisterRequest { capabilities: Vec::new(), ..introduction() }).await;
    assert!(
        matches!(&nothing, Err(ServiceRegistryError::Refused(said)) if said.contains("capabilities")),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn no_call_waits_for_longer_than_its_deadline() {
    let (registry, port) = registry().await;
    registry.set_silent(true);
    // Something that takes connections and says nothing, and nothing at all.
    let (listener, mute) = listen().await;
    let reserved = TcpSocket::new_v4().expect("socket");
    reserved.bind("127.0.0.1:0".parse().expect("an address")).expect("port");
    let nobody = reserved.local_addr().expect("address").port();
    for (port, seconds, reason) in
        [(port, "0.2", "nothing came within 200 ms"), (mute, "0.2", "nothing came within"), (nobody, "20", "efused")]
    {
        let (client, _) = client_of(port, &[("SERVICE_REGISTRY_TIMEOUT_SECONDS", seconds)]);
        let waited = tokio::time::timeout(PATIENCE, client.register(introduction())).await;
        let error = waited.expect("in time").expect_err("no answer").to_string();
        for part in [reason, "localhost:", "SERVICE_REGISTRY_HOST"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }
    drop((listener, reserved));
    // The same client, once the registry answers.
    let (client, _) = client_of(port, &[("SERVICE_REGISTRY_TIMEOUT_SECONDS", "3")]);
    client.register(introduction()).await.expect_err("no answer");
    registry.set_silent(false);
    let agent_id = client.register(introduction()).await.expect("registered");
    assert!(client.deregister(&agent_id).await.expect("an answer"));
}

#[tokio::test]
async fn a_watch_waits_for_its_first_event_beyond_the_deadline_of_calls() {
    let (registry, port) = registry().await;
    let (watcher, _) = client_of(port, &[("SERVICE_REGISTRY_TIMEOUT_SECONDS", "1")]);
    let later = async {
        until(|| registry.watchers() > 0).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        client_of(port, &[]).0.register(introduction()).await.expect("registered")
    };
    let (events, agent_id) = tokio::join!(watcher.watch(WatchAgentsRequest::default()), later);
    let event = watcher.next(&mut events.expect("watched")).await.expect("an answer").expect("an event");
    assert_eq!(event.agent.map(|agent| agent.agent_id), Some(agent_id));
}

#[tokio::test]
async fn inc_48_a_registry_that_is_away_for_a_moment_at_the_end_is_told_after_it() {
    let (registry, port) = registry().await;
    let config = config_of(port, &[("SHUTDOWN_GRACE_SECONDS", "30")]);
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let client = ServiceRegistryClient::of(&config, None, Arc::clone(&metrics)).map(Arc::new);
    let http = "127.0.0.1:8080".parse().expect("an address");
    let registrar = Registrar::of(&config, client, http, &metrics, &Health::default()).expect("configured");
    let stop = CancellationToken::new();
    let registered = tokio::spawn(registrar.run(stop.clone()));
    until(|| !registry.agents().is_empty()).await;
    registry.set_refusal(Some(Code::Unavailable));
    stop.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    registry.set_refusal(None);
    registered.await.expect("ended");
    assert_eq!(registry.agents(), []);
}

#[tokio::test]
async fn discoveries_are_counted() {
    let (registry, port) = registry().await;
    let (client, metrics) = client_of(port, &[]);
    for _ in 0..2 {
        client.register(introduction()).await.expect("registered");
    }
    assert_eq!(client.discover(DiscoverRequest::default()).await.expect("found").len(), 2);
    registry.set_refusal(Some(Code::Unavailable));
    client.discover(DiscoverRequest::default()).await.expect_err("away");
    let requests = |status| metrics.discovery_requests.with_label_values(&[status]).get();
    assert_eq!((requests("success"), requests("error")), (1, 1));
    assert_eq!(metrics.discovery_agents_found.get_sample_sum(), 2.0);
    assert_eq!(metrics.discovery_duration.get_sample_count(), 2);
}

/// A server with this certificate, which wants clients to have one of this authority.
fn demanding(authority: CertificateDer<'static>, (chain, key): Chain) -> TlsAcceptor {
    crate::net::install_crypto();
    let mut trusted = RootCertStore::empty();
    trusted.add(authority).expect("added");
    let verifier = WebPkiClientVerifier::builder(Arc::new(trusted)).build().expect("verifier");
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("server");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A certificate with its key.
type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A registry that wants certificates of `authority`; connections end with it.
async fn mutual_tls(authority: &Authority) -> (ServiceRegistryStandIn, u16) {
    let acceptor = demanding(authority.der(), authority.issue().chain());
    let (registry, (listener, port)) = (ServiceRegistryStandIn::new(), listen().await);
    let serving = registry.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, registry) = (acceptor.clone(), serving.clone());
            tokio::spawn(async move {
                // A client that we do not trust, or that does not trust us, is not served.
                if let Ok(connection) = acceptor.accept(connection).await {
                    registry.serve_connection(connection).await;
                }
            });
        }
    });
    (registry, port)
}

#[tokio::test]
async fn mutual_tls_takes_the_right_authorities_on_both_sides_and_reads_its_files_again() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (registry, port) = mutual_tls(&ours).await;
    let folder = tempfile::tempdir().expect("folder");
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    other.issue().write(&certificate, &key);
    let settings = [
        ("ENABLE_MTLS", "true"),
        ("MTLS_CERT_PATH", certificate.to_str().expect("utf-8")),
        ("MTLS_KEY_PATH", key.to_str().expect("utf-8")),
        ("MTLS_CA_PATH", ours.path()),
    ];
    let (client, _) = client_of(port, &settings);
    client.register(introduction()).await.expect_err("a stranger's certificate");
    // The call after one that got no answer uses what the files hold by then.
    ours.issue().write(&certificate, &key);
    client.register(introduction()).await.expect("registered");
    // And so does any call once they were written. Times of files go in steps of some milliseconds.
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.issue().write(&certificate, &key);
    client.register(introduction()).await.expect_err("a stranger's certificate");
    ours.issue().write(&certificate, &key);
    client.register(introduction()).await.expect("registered");

    let mut distrustful = settings;
    distrustful[3].1 = other.path();
    let error = client_of(port, &distrustful).0.register(introduction()).await.expect_err("a stranger's registry");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    client_of(port, &[]).0.register(introduction()).await.expect_err("no plaintext");
    assert_eq!(registry.registrations(), 2);

    std::fs::write(&key, "no key").expect("written");
    let error = client_of(port, &settings).0.register(introduction()).await.expect_err("no key");
    assert!(matches!(&error, ServiceRegistryError::Files(_)) && error.to_string().contains("MTLS_KEY_PATH"), "{error}");
}
