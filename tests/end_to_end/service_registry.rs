//! The worker at the Service Registry: who finds it, what it tells of itself, and what becomes of tickets while the
//! registry is away.

use std::time::{Duration, Instant};

use platform_proto::service_registry::service_registry_client::ServiceRegistryClient as Grpc;
use platform_proto::service_registry::{AgentInfo, AgentTelemetry, DiscoverRequest};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Endpoint;
use worker_agents::dev::service_registry::ServiceRegistryStandIn;

use crate::world::{Worker, World, eventually, get, until};

/// A registry of one test.
struct Registry {
    agents: ServiceRegistryStandIn,
    port: u16,
    stop: CancellationToken,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Registry {
    /// One that knows nobody.
    fn start() -> Self {
        let (registry, socket) = Self::reserve();
        registry.serve(socket);
        registry
    }

    /// One that is not there yet, and the socket that keeps its port.
    fn reserve() -> (Self, TcpSocket) {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("port");
        let port = socket.local_addr().expect("address").port();
        (Self { agents: ServiceRegistryStandIn::new(), port, stop: CancellationToken::new() }, socket)
    }

    fn serve(&self, socket: TcpSocket) {
        tokio::spawn(self.agents.serve(socket.listen(64).expect("listening"), self.stop.clone()));
    }

    /// Tells the world's workers and commands where it is.
    fn introduce(&self, world: &mut World) {
        world.settings.extend([
            ("SERVICE_REGISTRY_HOST", "127.0.0.1"),
            ("SERVICE_REGISTRY_PORT", &*self.port.to_string().leak()),
            ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
        ]);
    }

    /// The agents, once there are so many.
    async fn agents(&self, count: usize) -> Vec<AgentInfo> {
        eventually(&format!("{count} agents are registered"), || {
            Some(self.agents.agents()).filter(|agents| agents.len() == count)
        })
        .await
    }

    /// What the one agent has told of its work, once it tells of so many executions.
    async fn telemetry(&self, executions: i64) -> AgentTelemetry {
        eventually(&format!("a heartbeat tells of {executions} executions"), || {
            let told = self.agents.agents().first()?.telemetry?;
            (told.total_executions == executions).then_some(told)
        })
        .await
    }

    /// What the orchestrator's scheduler finds for a ticket of this level, as it asks.
    async fn found_for(&self, level: &str) -> Vec<AgentInfo> {
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).expect("an address");
        let mut grpc = Grpc::new(channel.connect().await.expect("connected"));
        let filters = [("namespace", "neural-hive"), ("status", "HEALTHY"), ("security_level", level)];
        let question = DiscoverRequest {
            capabilities: vec!["python".to_owned(), "deploy".to_owned()],
            filters: filters.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            max_results: 0,
        };
        grpc.discover_agents(question).await.expect("an answer").into_inner().agents
    }
}

/// Ends the worker as its platform does; whether it ended well, and how long it took.
async fn end(mut worker: Worker) -> (bool, Duration) {
    let told = Instant::now();
    worker.signal("-TERM");
    let status = tokio::task::spawn_blocking(move || worker.child.wait().expect("ended")).await.expect("join");
    (status.success(), told.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_27_a_worker_registers_once_with_what_others_need_and_deregisters_at_its_end() {
    let mut world = World::new().await;
    let registry = Registry::start();
    registry.introduce(&mut world);
    let worker = world
        .worker(&[
            ("AGENT_ID", "me"),
            ("POD_NAME", "worker-agents-0"),
            ("NODE_NAME", "node-7"),
            ("SPIFFE_ID", "spiffe://neural-hive.local/ns/neural-hive-execution/sa/worker-agents"),
            ("TEMPORAL_DEPLOYMENT_NAME", &world.id),
            ("TEMPORAL_WORKER_BUILD_ID", "b1"),
            ("MAX_CONCURRENT_TASKS", "7"),
            ("SERVICE_VERSION", "3.2.1"),
            ("CLUSTER", "test"),
        ])
        .await;
    let agent = registry.agents(1).await.remove(0);
    for (key, value) in [
        ("agent_id", "me"),
        ("security_level", "INTERNAL"),
        ("max_concurrent_tasks", "7"),
        ("pod_name", "worker-agents-0"),
        ("node_name", "node-7"),
        ("spiffe_id", "spiffe://neural-hive.local/ns/neural-hive-execution/sa/worker-agents"),
        ("temporal_deployment_name", &world.id),
        ("temporal_build_id", "b1"),
    ] {
        assert_eq!(agent.metadata.get(key).map(String::as_str), Some(value), "{key}: {agent:?}");
    }
    assert!(!agent.metadata.contains_key("active_tasks"), "a heartbeat could not keep it true");
    assert_eq!((&*agent.version, &*agent.cluster), ("3.2.1", "test"));
    // INC-26: the endpoint leads to this worker.
    let (status, body) = get(&format!("{}/health", agent.metadata["endpoint"])).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["agent_id"]), (200, &json!("me")));

    worker.reaches("worker_agent_heartbeat_total{status=\"success\"}", 5.0).await;
    assert_eq!(registry.agents.registrations(), 1);
    assert_eq!(worker.metric("worker_agent_registered_total").await, 1.0);
    assert_eq!(worker.metric("worker_agent_registrations").await, 1.0);
    // INC-48: the end is told, and at once.
    let (well, took) = end(worker).await;
    assert!(well && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(registry.agents.agents(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_28_inc_105_heartbeats_tell_what_was_really_done_and_results_by_whom() {
    let mut world = World::new().await;
    let registry = Registry::start();
    registry.introduce(&mut world);
    let _worker = world.worker(&[]).await;
    let nothing = registry.telemetry(0).await;
    assert_eq!((nothing.failed_executions, nothing.last_execution_at), (0, 0));
    let before = ticket_activities::now_ms();
    for (name, script) in [("a", "sleep 0.3"), ("b", "sleep 0.3"), ("c", "sleep 0.3; exit 1"), ("d", "sleep 0.3")] {
        world.publish(&world.ticket(name, script)).await;
    }
    let agent_id = registry.agents(1).await.remove(0).agent_id;
    for name in ["a", "b", "c", "d"] {
        let result = world.result(name).await;
        // INC-105: results have the worker's own id and the registry's.
        assert_eq!(result["result"]["metadata"]["registry_agent_id"], agent_id.as_str(), "{result}");
        assert_ne!(result["agent_id"], agent_id.as_str());
    }
    let told = registry.telemetry(4).await;
    assert_eq!((told.failed_executions, told.success_rate), (1, 0.75));
    assert!((300..20_000).contains(&told.avg_duration_ms), "{told:?}");
    // INC-23: epoch milliseconds.
    assert!((before..=ticket_activities::now_ms()).contains(&told.last_execution_at), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_or_forgets_holds_up_no_ticket_and_has_the_worker_back() {
    let mut world = World::new().await;
    let (registry, socket) = Registry::reserve();
    registry.introduce(&mut world);
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("without", "true")).await;
    let without = world.result("without").await;
    assert_eq!(without["status"], "COMPLETED");
    assert_eq!(without["result"]["metadata"].get("registry_agent_id"), None, "it has none yet");
    assert!(worker.log().contains("agent_registration_failed"), "{}", worker.log());
    assert_eq!(worker.metric("worker_agent_registrations").await, 0.0);

    registry.serve(socket);
    let first = registry.agents(1).await.remove(0).agent_id;
    assert_eq!(registry.telemetry(1).await.failed_executions, 0);

    // It forgets: what counts is the code.
    registry.agents.forget_all();
    let second = registry.agents(1).await.remove(0).agent_id;
    assert_ne!(first, second);

    // It is silent for a while and refuses for a while: no reason to register again.
    for refusal in [Code::Unavailable, Code::PermissionDenied] {
        registry.agents.set_refusal(Some(refusal));
        let failed = worker.metric("worker_agent_heartbeat_total{status=\"error\"}").await;
        worker.reaches("worker_agent_heartbeat_total{status=\"error\"}", failed + 2.0).await;
        registry.agents.set_refusal(None);
    }
    let taken = worker.metric("worker_agent_heartbeat_total{status=\"success\"}").await;
    worker.reaches("worker_agent_heartbeat_total{status=\"success\"}", taken + 1.0).await;
    assert_eq!((registry.agents.registrations(), registry.agents(1).await.remove(0).agent_id), (2, second));

    // It is killed and comes back without its memory after a while; tickets run meanwhile.
    let (begun, gate) = (world.shared("kept/begun"), world.shared("kept/gate"));
    world.publish(&world.ticket_in("kept", "begun", &format!("touch begun; {}", until(&gate)))).await;
    eventually("it runs", || begun.exists().then_some(())).await;
    registry.agents.set_refusal(Some(Code::Unavailable));
    registry.agents.restart();
    std::fs::write(&gate, "").expect("opened");
    world.publish(&world.ticket("meanwhile", "true")).await;
    for name in ["begun", "meanwhile"] {
        assert_eq!(world.result(name).await["status"], "COMPLETED");
    }
    registry.agents.set_refusal(None);
    assert_eq!(registry.telemetry(3).await.failed_executions, 0);
    assert_eq!(registry.agents.registrations(), 3);
    assert_eq!(worker.metric("worker_agent_registrations").await, 1.0);
    assert_eq!((worker.get("/health").await.0, worker.get("/ready").await.0), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_no_tickets_before_its_strict_checks_have_passed_is_not_found_either() {
    let mut world = World::new().await;
    let registry = Registry::start();
    registry.introduce(&mut world);
    let worker = world.worker(&[("STRICT_STARTUP_CHECKS", "true")]).await;
    // The embedded Kafka does not say how its topics are set.
    eventually("the checks are made", || worker.log().contains("startup_check_not_ok").then_some(())).await;
    assert_eq!((worker.get("/health").await.0, worker.get("/ready").await.0), (200, 503));
    assert!(end(worker).await.0);
    assert_eq!(registry.agents.registrations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_48_a_registry_that_says_nothing_does_not_hold_up_a_shutdown() {
    let mut world = World::new().await;
    let registry = Registry::start();
    registry.introduce(&mut world);
    let worker = world.worker(&[("SERVICE_REGISTRY_TIMEOUT_SECONDS", "60")]).await;
    registry.agents(1).await;
    registry.agents.set_silent(true);
    let (well, took) = end(worker).await;
    assert!(well && took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_24_inc_25_the_orchestrator_finds_the_worker_in_its_own_namespace_at_every_level() {
    let mut world = World::new().await;
    let registry = Registry::start();
    registry.introduce(&mut world);
    let levels = [("SECURITY_LEVELS", "INTERNAL,CONFIDENTIAL"), ("POD_NAMESPACE", "neural-hive-execution")];
    let worker = world.worker(&levels).await;
    let agents = registry.agents(2).await;
    assert!(agents.iter().all(|agent| agent.metadata["namespace"] == "neural-hive-execution"), "{agents:?}");
    for level in ["INTERNAL", "CONFIDENTIAL"] {
        let found = registry.found_for(level).await;
        assert_eq!(found.len(), 1, "{level}: {found:?}");
        assert_eq!(found[0].metadata["security_level"], level);
    }
    assert_eq!(registry.found_for("RESTRICTED").await, []);
    assert_eq!(worker.metric("worker_agent_registrations").await, 2.0);
    // One is forgotten: it comes back, the other one stays.
    registry.agents.forget_all();
    registry.agents(2).await;
    assert_eq!(registry.agents.registrations(), 4);
    assert!(end(worker).await.0);
    assert_eq!(registry.agents.agents(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_listed_and_watched() {
    let mut world = World::new().await;
    let told = world.command(&["agents", "list"], "");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && said.contains("SERVICE_REGISTRY_HOST"), "{said}");

    let registry = Registry::start();
    registry.introduce(&mut world);
    let list = |arguments: &[&str]| {
        let told = world.command(&[&["agents", "list", "--json"], arguments].concat(), "");
        let lines = String::from_utf8(told.stdout).expect("UTF-8");
        let agents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (told.status.code(), agents, String::from_utf8_lossy(&told.stderr).into_owned())
    };
    let (code, agents, said) = list(&[]);
    assert_eq!((code, agents.len()), (Some(1), 0), "{said}");

    let worker = world.worker(&[("AGENT_ID", "me"), ("CAPABILITIES", "python,read")]).await;
    registry.agents(1).await;
    for (arguments, count) in [
        (&[][..], 1),
        (&["--type", "worker", "--status", "healthy", "--namespace", "neural-hive", "--level", "internal"], 1),
        (&["--capability", "python,read", "--limit", "1"], 1),
        (&["--capability", "python", "--type", "worker"], 1),
        (&["--capability", "python", "--capability", "deploy"], 0),
        (&["--capability", "python", "--type", "guard"], 0),
        (&["--type", "scout"], 0),
        (&["--status", "UNHEALTHY"], 0),
        (&["--level", "PUBLIC"], 0),
    ] {
        let (code, agents, said) = list(arguments);
        assert_eq!((code, agents.len()), (Some(i32::from(count == 0)), count), "{arguments:?}: {said}");
        if let Some(agent) = agents.first() {
            assert_eq!((&agent["metadata"]["agent_id"], &agent["status"]), (&json!("me"), &json!("HEALTHY")));
        }
    }
    let table = world.command(&["agents", "list"], "");
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    assert!(table.starts_with("AGENT") && table.contains("HEALTHY") && table.contains("http://127.0.0.1:"), "{table}");

    registry.agents.set_refusal(Some(Code::PermissionDenied));
    let (code, _, said) = list(&[]);
    assert!(code == Some(3) && said.contains("PermissionDenied") && said.contains("ENABLE_MTLS"), "{said}");
    registry.agents.set_refusal(None);

    // The watch sees the worker go; it ends when its registry does.
    let watched = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| world.command(&["agents", "watch", "--json"], ""));
            tokio::runtime::Handle::current().block_on(async {
                eventually("it is watched", || (registry.agents.watchers() > 0).then_some(())).await;
                assert!(end(worker).await.0);
                registry.stop.cancel();
            });
            watch.join().expect("joined")
        })
    });
    let lines = String::from_utf8(watched.stdout).expect("UTF-8");
    let last: Value = serde_json::from_str(lines.lines().last().expect("an event")).expect("JSON");
    assert_eq!((&last["event_type"], &last["agent"]["metadata"]["agent_id"]), (&json!("DEREGISTERED"), &json!("me")));
    assert_eq!(watched.status.code(), Some(3), "{}", String::from_utf8_lossy(&watched.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_08_the_schedulers_choice_of_a_worker_is_a_hint() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let mut ticket = world.ticket("allocated", "true");
    ticket["allocation_metadata"] = json!({ "agent_id": "somebody-else", "agent_type": "worker-agent" });
    world.publish(&ticket).await;
    assert_eq!(world.result("allocated").await["status"], "COMPLETED");
}
