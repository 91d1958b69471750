//! The client with an identity of a SPIFFE Workload API, against a registry that demands one and proves its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use platform_proto::service_registry::service_registry_server::ServiceRegistryServer;
use tonic::{Request, Status};

use super::*;
use crate::spiffe::{IdentityError, WorkloadIdentity};
use crate::test_workload_api::{Agent, Serving, TrustDomain};

const WORKER: &str = "spiffe://td/ns/neural-hive-execution/sa/worker-agents";
const REGISTRY: &str = "spiffe://td/ns/neural-hive/sa/service-registry";

/// A registry that believes an authority, and whom its callers have proved to be.
struct Registry {
    agents: ServiceRegistryStandIn,
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Of each connection.
    certificates: Vec<CertificateDer<'static>>,
    /// Of each call.
    authorizations: Vec<Option<String>>,
}

impl Registry {
    async fn start(believed: &TrustDomain, chain: Chain) -> Self {
        let acceptor = demanding(believed.authority(), chain);
        let (agents, seen, (listener, port)) = (ServiceRegistryStandIn::new(), Arc::default(), listen().await);
        let registry = Self { agents, port, seen };
        let (agents, seen) = (registry.agents.clone(), Arc::clone(&registry.seen));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, agents, seen) = (acceptor.clone(), agents.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    // A caller that is not believed, or does not believe, is not served.
                    let Ok(connection) = acceptor.accept(connection).await else { return };
                    let certificates = connection.get_ref().1.peer_certificates().expect("demanded");
                    noted(&seen).certificates.push(certificates[0].clone());
                    serve(connection, agents, seen).await;
                });
            }
        });
        registry
    }

    async fn of(domain: &TrustDomain) -> Self {
        Self::start(domain, domain.issue(REGISTRY, 3600).chain()).await
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        noted(&self.seen)
    }

    /// A client of it with this identity.
    fn client(&self, identity: &Arc<WorkloadIdentity>, settings: &[(&str, &str)]) -> ServiceRegistryClient {
        let config = config_of(self.port, &[settings, &spiffe_settings("/unused")].concat());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        ServiceRegistryClient::of(&config, Some(Arc::clone(identity)), metrics).expect("configured")
    }
}

fn noted(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    agents: ServiceRegistryStandIn,
    seen: Arc<Mutex<Seen>>,
) {
    let note = move |request: Request<()>| {
        let authorization =
            request.metadata().get("authorization").map(|value| value.to_str().expect("text").to_owned());
        noted(&seen).authorizations.push(authorization);
        Ok::<_, Status>(request)
    };
    let service = TowerToHyperService::new(ServiceRegistryServer::with_interceptor(agents, note));
    let _ = Builder::new(TokioExecutor::new()).http2_only().serve_connection(TokioIo::new(connection), service).await;
}

/// Settings of a worker of the trust domain `td` whose agent is at this socket.
fn spiffe_settings(socket: &str) -> [(&str, &str); 3] {
    [("SPIFFE_ENABLED", "true"), ("SPIFFE_TRUST_DOMAIN", "td"), ("SPIFFE_SOCKET_PATH", socket)]
}

/// A worker's identity, with its trust domain, its agent and the agent's socket.
struct Worker {
    domain: Arc<TrustDomain>,
    agent: Agent,
    identity: Arc<WorkloadIdentity>,
    metrics: Arc<Metrics>,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// One whose agent does not serve yet.
    fn new(settings: &[(&str, &str)]) -> Self {
        let domain = Arc::new(TrustDomain::new("td"));
        let agent = Agent::new(&domain, WORKER);
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("agent.sock");
        let config = config_of(1, &[&spiffe_settings(socket.to_str().expect("UTF-8")), settings].concat());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let identity = WorkloadIdentity::of(config.spiffe.as_ref(), Arc::clone(&metrics)).expect("SPIFFE is on");
        tokio::spawn(Arc::clone(&identity).follow(CancellationToken::new()));
        Self { domain, agent, identity, metrics, socket, _folder: folder }
    }

    async fn settled(&self) {
        self.identity.settled(PATIENCE).await;
    }
}

/// A worker whose agent serves, a registry of its trust domain, and its client of that.
async fn peers() -> (Worker, Serving, Registry, ServiceRegistryClient) {
    let worker = Worker::new(&[]);
    let serving = worker.agent.serve(&worker.socket);
    worker.settled().await;
    let registry = Registry::of(&worker.domain).await;
    let client = registry.client(&worker.identity, &[]);
    (worker, serving, registry, client)
}

async fn call(client: &ServiceRegistryClient) -> Result<(), ServiceRegistryError> {
    client.discover(DiscoverRequest::default()).await.map(drop)
}

/// What is said of the identity, when that is why the call was not made.
fn identity_error(called: Result<(), ServiceRegistryError>) -> IdentityError {
    match called {
        Err(ServiceRegistryError::Identity(error)) => error,
        other => panic!("not for want of an identity: {other:?}"),
    }
}

#[tokio::test]
async fn inc_30_inc_31_both_sides_prove_who_they_are_and_calls_carry_a_token_for_the_registry() {
    let (worker, _serving, registry, client) = peers().await;
    for _ in 0..3 {
        client.register(introduction()).await.expect("registered");
    }
    let standing = worker.identity.standing();
    assert_eq!(standing.spiffe_id.map(|id| id.to_string()).as_deref(), Some(WORKER));
    assert!((3590..=3600).contains(&standing.expires_in.expect("an SVID")), "{:?}", standing.expires_in);

    let seen = registry.seen();
    let [certificate] = seen.certificates.as_slice() else { panic!("{} connections", seen.certificates.len()) };
    let caller = crate::spiffe::spiffe_id(certificate).expect("a SPIFFE id");
    assert_eq!(caller.to_string(), WORKER);
    assert_eq!(seen.authorizations.len(), 3);
    for authorization in &seen.authorizations {
        let token = authorization.as_deref().and_then(|it| it.strip_prefix("Bearer ")).expect("a bearer token");
        let svid = ::spiffe::JwtSvid::parse_insecure(token).expect("a JWT-SVID");
        assert_eq!(
            (svid.spiffe_id().to_string().as_str(), svid.audience()),
            (WORKER, &["service-registry.td".to_owned()][..])
        );
    }
    assert_eq!(worker.agent.tokens(), 1, "one token serves many calls");
    let count = |kind| worker.metrics.spiffe.svid_fetch.with_label_values(&[kind, "success"]).get();
    assert_eq!((count("x509"), count("jwt")), (1, 1));
}

#[tokio::test]
async fn inc_31_a_registry_that_is_somebody_else_is_not_called() {
    let worker = Worker::new(&[]);
    let _serving = worker.agent.serve(&worker.socket);
    worker.settled().await;
    let (domain, namesake, foreign) = (&worker.domain, TrustDomain::new("td"), TrustDomain::new("other"));
    let by_name = Authority::new("td");
    for (who, chain, reason) in [
        ("another service", domain.issue(&domain.id("/ns/neural-hive/sa/other"), 3600).chain(), Some("not authorized")),
        ("an id that begins alike", domain.issue(&format!("{REGISTRY}-2"), 3600).chain(), Some("not authorized")),
        ("an SVID that has expired", domain.issue(REGISTRY, -10).chain(), Some("xpired")),
        ("another authority of that name", namesake.issue(REGISTRY, 3600).chain(), Some("certificate")),
        ("a foreign trust domain", foreign.issue(&foreign.id("/registry"), 3600).chain(), Some("not allowed")),
        ("the name of a host", by_name.issue().chain(), Some("missing SPIFFE ID")),
        ("the registry", domain.issue(REGISTRY, 3600).chain(), None),
    ] {
        let registry = Registry::start(domain, chain).await;
        let called = call(&registry.client(&worker.identity, &[("SERVICE_REGISTRY_TIMEOUT_SECONDS", "10")])).await;
        match reason {
            None => called.expect(who),
            Some(reason) => {
                let Err(ServiceRegistryError::Unavailable { reason: said, .. }) = &called else {
                    panic!("{who}: {called:?}")
                };
                assert!(said.contains(reason), "{who}: {said}");
                assert_eq!(registry.seen().authorizations, [], "{who} got no token");
            }
        }
    }
}

#[tokio::test]
async fn inc_31_a_worker_that_the_registry_does_not_believe_is_not_served() {
    let (worker, _serving, registry, client) = peers().await;
    let (namesake, foreign) = (TrustDomain::new("td"), TrustDomain::new("other"));
    for svid in [namesake.issue(WORKER, 3600), foreign.issue("spiffe://other/worker", 3600)] {
        let before = worker.metrics.spiffe.svid_fetch.with_label_values(&["x509", "success"]).get();
        worker.agent.deliver(&svid, &worker.domain);
        until(|| worker.metrics.spiffe.svid_fetch.with_label_values(&["x509", "success"]).get() > before).await;
        // Handshakes use a delivery a moment after it is seen.
        tokio::time::sleep(Duration::from_millis(50)).await;
        call(&client).await.expect_err("not believed");
    }
    assert_eq!(registry.seen().authorizations, []);
    let plain = client_of(registry.port, &[]).0;
    plain.register(introduction()).await.expect_err("no plaintext");
    worker.agent.rotate(3600);
    let again = async {
        while call(&client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("believed again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inc_31_a_rotation_reaches_a_live_connection_without_a_failed_call() {
    let (worker, _serving, registry, client) = peers().await;
    let client = Arc::new(client);
    let (calling, stop) = (Arc::clone(&client), CancellationToken::new());
    let stopped = stop.clone();
    let made = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&made);
    let calls = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            call(&calling).await.expect("no call fails");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let connections = || registry.seen().certificates.len();
    for rotation in 1..=5 {
        until(|| connections() == rotation).await;
        worker.agent.rotate(3600);
    }
    until(|| connections() == 6).await;
    // The last connection goes on being used: a rotation may follow the first call of each other one.
    until(|| made.load(Ordering::Relaxed) > 6).await;
    stop.cancel();
    calls.await.expect("no call fails");
    let certificates = registry.seen().certificates.clone();
    let distinct: std::collections::BTreeSet<&[u8]> = certificates.iter().map(AsRef::as_ref).collect();
    assert_eq!(distinct.len(), 6, "each connection has the SVID of its time");
}

#[tokio::test]
async fn inc_31_an_authority_that_is_replaced_is_believed_no_more() {
    let (worker, _serving, _registry, client) = peers().await;
    call(&client).await.expect("believed");
    let updates = || worker.metrics.spiffe.trust_bundle_updates.with_label_values(&["success"]).get();
    let before = updates();
    let successor = TrustDomain::new("td");
    worker.agent.deliver(&worker.domain.issue(WORKER, 3600), &successor);
    // One of each kind.
    until(|| updates() == before + 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    call(&client).await.expect_err("signed by nobody who counts");
    let renewed = Registry::start(&worker.domain, successor.issue(REGISTRY, 3600).chain()).await;
    call(&renewed.client(&worker.identity, &[])).await.expect("believed");
}

#[tokio::test]
async fn inc_31_an_agent_that_is_away_at_the_start_is_waited_for_by_nobody() {
    let worker = Worker::new(&[]);
    let registry = Registry::of(&worker.domain).await;
    let client = Arc::new(registry.client(&worker.identity, &[]));
    let error = identity_error(call(&client).await).to_string();
    for part in ["no X.509-SVID", "agent.sock", "SPIFFE_SOCKET_PATH"] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
    let config = config_of(registry.port, &spiffe_settings("/unused"));
    let http = "127.0.0.1:8080".parse().expect("an address");
    let registrar =
        Registrar::of(&config, Some(client), http, &worker.metrics, &Health::default()).expect("configured");
    let stop = CancellationToken::new();
    let registered = tokio::spawn(registrar.run(stop.clone()));
    until(|| worker.identity.standing().away).await;
    assert_eq!(registry.agents.agents(), []);
    let _serving = worker.agent.serve(&worker.socket);
    until(|| registry.agents.agents().len() == 1).await;
    assert_eq!(registry.agents.agents()[0].metadata["spiffe_id"], WORKER);
    stop.cancel();
    registered.await.expect("ended");
    assert_eq!(registry.agents.agents(), []);
}

#[tokio::test]
async fn inc_31_what_an_agent_has_delivered_counts_while_it_is_away_until_it_expires() {
    let worker = Worker::new(&[]);
    worker.agent.rotate(8);
    worker.agent.set_token_lifetime(6);
    let serving = worker.agent.serve(&worker.socket);
    worker.settled().await;
    let registry = Registry::of(&worker.domain).await;
    let client = registry.client(&worker.identity, &[]);
    call(&client).await.expect("while the agent is there");
    drop(serving);
    until(|| worker.identity.standing().away).await;
    call(&client).await.expect("while it is away");
    assert!(worker.identity.standing().missing.is_none());
    // The token goes first: it is not presented in its last two seconds.
    let refused = async {
        loop {
            match call(&client).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(100)).await,
                refused => break identity_error(refused),
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.expect("it expires");
    assert!(matches!(&error, IdentityError::NoToken { audience, .. } if audience == "service-registry.td"), "{error}");
    until(|| worker.identity.standing().spiffe_id.is_none()).await;
    let calls = registry.seen().authorizations.len();
    let error = identity_error(call(&client).await);
    assert!(matches!(&error, IdentityError::Gone { reason, .. } if reason == "it has expired"), "{error}");
    assert_eq!(registry.seen().authorizations.len(), calls, "nothing is sent in an expired name");

    worker.agent.rotate(3600);
    worker.agent.set_token_lifetime(300);
    let _serving = worker.agent.serve(&worker.socket);
    until(|| worker.identity.standing().spiffe_id.is_some()).await;
    let back = async {
        while call(&client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("once the agent is back");
}

#[tokio::test]
async fn an_identity_that_is_taken_back_is_not_used() {
    let (worker, _serving, _registry, client) = peers().await;
    call(&client).await.expect("somebody");
    worker.agent.deny();
    until(|| worker.identity.standing().spiffe_id.is_none()).await;
    let error = identity_error(call(&client).await);
    assert!(matches!(&error, IdentityError::Gone { .. }), "{error}");
    // Nor is the token that was had before, which has not expired.
    until(|| worker.identity.standing().missing.is_some()).await;
    let audience = &worker.identity.settings().registry_audience;
    let refused = async {
        while worker.identity.token(audience, PATIENCE).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("taken back too");
    worker.agent.rotate(3600);
    until(|| worker.identity.standing().missing.is_none()).await;
    call(&client).await.expect("somebody again");
}

#[tokio::test]
async fn without_x509_svids_the_token_goes_over_the_connection_that_there_is() {
    let worker = Worker::new(&[("SPIFFE_ENABLE_X509", "false"), ("SPIFFE_JWT_AUDIENCE", "registry")]);
    let _serving = worker.agent.serve(&worker.socket);
    worker.settled().await;
    let (agents, seen) = (ServiceRegistryStandIn::new(), Arc::<Mutex<Seen>>::default());
    let (listener, port) = listen().await;
    let serving = (agents.clone(), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, serving.0.clone(), Arc::clone(&serving.1)));
        }
    });
    let registry = Registry { agents, port, seen };
    let settings = [("SPIFFE_ENABLE_X509", "false")];
    let config = config_of(port, &[&spiffe_settings("/unused")[..], &settings].concat());
    let metrics = Arc::clone(&worker.metrics);
    let client = ServiceRegistryClient::of(&config, Some(Arc::clone(&worker.identity)), metrics).expect("configured");
    call(&client).await.expect("served");
    let authorization = registry.seen().authorizations[0].clone().expect("a token");
    let token = authorization.strip_prefix("Bearer ").expect("a bearer token");
    assert_eq!(::spiffe::JwtSvid::parse_insecure(token).expect("a JWT-SVID").audience(), ["registry"]);
}
