//! The embedded peers together: Kafka, Schema Registry, ticket service, Service Registry, Temporal.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::kafka::MockKafka;
use super::proxy;
use super::registry::SchemaRegistry;
use super::service_registry::ServiceRegistryStandIn;
use super::temporal::{TemporalDevOptions, TemporalDevServer, find_cli};
use super::tickets::TicketStandIn;
use crate::config::{DEVELOPMENT, MapSource, Origin, Source as _};
use crate::http;
use crate::worker::supervisor;

/// Between TERM and KILL for the Temporal dev server.
const TEMPORAL_GRACE: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "default";
/// Topics with the partitions of `contracts/kafka.md §1`.
const TOPICS: [(&str, i32); 4] =
    [("execution.tickets", 12), ("execution.results", 6), ("execution.tickets.dlq", 3), ("sre.alerts", 1)];

/// Ports to listen on; 0: any free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// Kafka.
    pub kafka: u16,
    /// Schema Registry.
    pub registry: u16,
    /// Temporal.
    pub temporal: u16,
    /// Temporal UI.
    pub ui: u16,
    /// The worker.
    pub http: u16,
    /// The worker's metrics.
    pub metrics: u16,
}

/// Where the peers are. The ready file is made of these.
#[derive(Debug, Clone, Serialize)]
pub struct Peers {
    /// Bootstrap address.
    pub kafka_bootstrap: String,
    /// Base URL.
    pub schema_registry_url: String,
    /// host:port.
    pub temporal_address: String,
    /// Namespace.
    pub temporal_namespace: String,
    /// Base URL of the UI.
    pub temporal_ui_url: String,
    /// Base URL.
    pub execution_ticket_service_url: String,
    /// host:port of its gRPC.
    pub execution_ticket_service_grpc_address: String,
    /// host:port.
    pub service_registry_address: String,
}

/// The running peers.
pub struct DevStack {
    // Dropped last: its thread ends with it.
    kafka: MockKafka,
    registry: SchemaRegistry,
    agents: ServiceRegistryStandIn,
    temporal: TemporalDevServer,
    peers: Peers,
    stop: CancellationToken,
}

impl DevStack {
    /// Starts all peers and waits until they answer.
    ///
    /// # Errors
    /// One sentence: a port in use, a missing CLI.
    pub async fn start(ports: &Ports) -> anyhow::Result<Self> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stop = CancellationToken::new();
        // The cheap things that can fail, first.
        let cli = find_cli(&path(), Path::new(".tools"))
            .or_else(|_| find_cli(&path(), &Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools")))?;
        let kafka_listener = http::bind(local(ports.kafka), "--kafka-port").await?;
        let registry_listener = http::bind(local(ports.registry), "--registry-port").await?;

        let kafka = tokio::task::spawn_blocking(|| MockKafka::start(&TOPICS))
            .await?
            .context("the embedded Kafka did not start")?;
        let kafka_bootstrap = kafka_listener.local_addr()?.to_string();
        tokio::spawn(proxy::forward(kafka_listener, kafka.bootstrap_servers().to_owned(), stop.clone()));

        let registry = SchemaRegistry::new();
        let schema_registry_url = format!("http://{}", registry_listener.local_addr()?);
        tokio::spawn(registry.serve(registry_listener, stop.clone()));

        let tickets = TicketStandIn::new();
        // It reads no Kafka: what the worker tells it about, it has heard of.
        tickets.know_all();
        let tickets_listener = http::bind(local(0), "ticket service").await?;
        let execution_ticket_service_url = format!("http://{}", tickets_listener.local_addr()?);
        tokio::spawn(publish(tickets.created(), producer(&kafka_bootstrap)?));
        tokio::spawn(tickets.serve(tickets_listener, stop.clone()));
        let tickets_grpc_listener = http::bind(local(0), "ticket service's gRPC").await?;
        let execution_ticket_service_grpc_address = tickets_grpc_listener.local_addr()?.to_string();
        tokio::spawn(tickets.serve_grpc(tickets_grpc_listener, stop.clone()));

        let agents_listener = http::bind(local(0), "service registry").await?;
        let service_registry_address = agents_listener.local_addr()?.to_string();
        let agents = ServiceRegistryStandIn::new();
        tokio::spawn(agents.serve(agents_listener, stop.clone()));

        let temporal = TemporalDevServer::start(TemporalDevOptions {
            cli,
            supervisor: supervisor(),
            // 0 goes on as it is: a free port that somebody else takes meanwhile is then chosen anew.
            port: ports.temporal,
            ui_port: ports.ui,
            namespace: NAMESPACE.to_owned(),
            db_file: None,
            log_file: None,
            search_attributes: ticket_workflows::search_attributes(),
            grace: TEMPORAL_GRACE,
        })
        .await?;
        let peers = Peers {
            kafka_bootstrap,
            schema_registry_url,
            temporal_address: temporal.address().to_owned(),
            temporal_namespace: NAMESPACE.to_owned(),
            temporal_ui_url: temporal.ui_url().to_owned(),
            execution_ticket_service_url,
            execution_ticket_service_grpc_address,
            service_registry_address,
        };
        Ok(Self { kafka, registry, agents, temporal, peers, stop })
    }

    /// Where the peers are.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The embedded Kafka, for its faults.
    #[must_use]
    pub fn kafka(&self) -> &MockKafka {
        &self.kafka
    }

    /// The embedded Schema Registry, for its faults.
    #[must_use]
    pub fn registry(&self) -> &SchemaRegistry {
        &self.registry
    }

    /// The embedded Service Registry, for its faults.
    #[must_use]
    pub fn service_registry(&self) -> &ServiceRegistryStandIn {
        &self.agents
    }

    /// Resolves, with the reason, when the Temporal dev server ends by itself.
    pub fn temporal_exited(&self) -> impl Future<Output = String> + Send + use<> {
        self.temporal.exited()
    }

    /// Settings of a worker of this stack: `base`, with the peers' addresses over it.
    #[must_use]
    pub fn source(&self, base: MapSource, ports: &Ports) -> MapSource {
        let mut source = defaults(base);
        let peers = &self.peers;
        let (agents_host, agents_port) = peers.service_registry_address.rsplit_once(':').unwrap_or_default();
        for (name, value) in [
            ("KAFKA_BOOTSTRAP_SERVERS", peers.kafka_bootstrap.clone()),
            ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT".to_owned()),
            ("KAFKA_TICKETS_TOPIC", TOPICS[0].0.to_owned()),
            ("KAFKA_RESULTS_TOPIC", TOPICS[1].0.to_owned()),
            ("KAFKA_DLQ_TOPIC", TOPICS[2].0.to_owned()),
            ("DLQ_ALERT_KAFKA_TOPIC", TOPICS[3].0.to_owned()),
            ("KAFKA_SCHEMA_REGISTRY_URL", peers.schema_registry_url.clone()),
            // Empty is unset: nothing meant for another registry goes to this one.
            ("SCHEMA_REGISTRY_USERNAME", String::new()),
            ("SCHEMA_REGISTRY_PASSWORD", String::new()),
            ("SCHEMA_REGISTRY_TOKEN", String::new()),
            ("EXECUTION_TICKET_SERVICE_URL", peers.execution_ticket_service_url.clone()),
            ("EXECUTION_TICKET_SERVICE_GRPC_ADDRESS", String::new()),
            ("SERVICE_REGISTRY_HOST", agents_host.to_owned()),
            ("SERVICE_REGISTRY_PORT", agents_port.to_owned()),
            // It takes no TLS.
            ("ENABLE_MTLS", String::new()),
            ("TEMPORAL_ADDRESS", peers.temporal_address.clone()),
            ("TEMPORAL_NAMESPACE", peers.temporal_namespace.clone()),
            ("TEMPORAL_UI_URL", peers.temporal_ui_url.clone()),
            // Nobody would make its version current.
            ("TEMPORAL_DEPLOYMENT_NAME", String::new()),
            ("TEMPORAL_WORKER_BUILD_ID", String::new()),
            ("HTTP_PORT", ports.http.to_string()),
            ("PROMETHEUS_PORT", ports.metrics.to_string()),
        ] {
            source.set(name, value, Origin::DevStack);
        }
        source
    }

    /// Ends all peers; nothing of them is left afterwards.
    pub async fn stop(self) {
        self.stop.cancel();
        self.temporal.stop().await;
    }
}

/// Defaults of a development worker; what the environment sets stands.
pub(super) fn defaults(mut source: MapSource) -> MapSource {
    for (name, value) in [
        ("HTTP_BIND", "127.0.0.1"),
        // Who reaches it runs on this machine.
        ("HTTP_API_AUTH", "false"),
        ("SHUTDOWN_GRACE_SECONDS", "1"),
        ("LOCAL_RUNTIME_KILL_GRACE_SECONDS", "1"),
        // What the worker has done is seen at once.
        ("HEARTBEAT_INTERVAL_SECONDS", "1"),
        // The embedded broker lets every rebalance take a session time-out.
        ("KAFKA_SESSION_TIMEOUT_MS", "4000"),
        // It does not wake a fetch that waits.
        ("KAFKA_FETCH_WAIT_MAX_MS", "10"),
    ] {
        if source.get(name).is_none() {
            source.set(name, value, Origin::DevStack);
        }
    }
    source.set("ENVIRONMENT", DEVELOPMENT, Origin::DevStack);
    source
}

fn path() -> OsString {
    #[expect(clippy::disallowed_methods, reason = "tools are looked for where the shell would")]
    std::env::var_os("PATH").unwrap_or_default()
}

fn producer(bootstrap: &str) -> anyhow::Result<FutureProducer> {
    let producer = ClientConfig::new().set("bootstrap.servers", bootstrap).create();
    producer.context("the ticket service has no Kafka producer")
}

/// Publishes created tickets as the ticket service does: as JSON, keyed by plan.
async fn publish(mut created: Receiver<Value>, producer: FutureProducer) {
    while let Some(ticket) = created.recv().await {
        let text = ticket.to_string();
        let key =
            ["plan_id", "ticket_id"].into_iter().find_map(|key| ticket[key].as_str().filter(|key| !key.is_empty()));
        let record = FutureRecord::to(TOPICS[0].0).key(key.unwrap_or_default()).payload(&text);
        if let Err((error, _)) = producer.send(record, Timeout::After(Duration::from_secs(20))).await {
            tracing::warn!(%error, "the ticket service did not publish a ticket");
        }
    }
}
