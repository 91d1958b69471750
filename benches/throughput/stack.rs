//! What is measured against: in-process Kafka and Schema Registry, and a Temporal dev server of its own.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use temporalio_client::Client;
use temporalio_common::protos::temporal::api::workflowservice::v1::GetSystemInfoRequest;
use ticket_activities::supervisor::SupervisorCommand;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use worker_agents::config::{Config, MapSource, Origin};
use worker_agents::dev::kafka::MockKafka;
use worker_agents::dev::registry::SchemaRegistry;
use worker_agents::dev::temporal::{TemporalDevOptions, TemporalDevServer, find_cli};

use crate::meter::Meter;

/// Partitions of the tickets topic.
pub(crate) const PARTITIONS: i32 = 4;
const TICKETS: &str = "execution.tickets";
const RESULTS: &str = "execution.results";
const DEAD_LETTERS: &str = "execution.tickets.dlq";
const NAMESPACE: &str = "bench";

/// The running peers.
pub(crate) struct Stack {
    kafka: MockKafka,
    temporal: TemporalDevServer,
    registry_url: String,
    stop: CancellationToken,
}

impl Stack {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let registry_url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(SchemaRegistry::new().serve(listener, stop.clone()));
        let topics = [(TICKETS, PARTITIONS), (RESULTS, PARTITIONS), (DEAD_LETTERS, 1)];
        let kafka = tokio::task::spawn_blocking(move || MockKafka::start(&topics)).await??;
        let temporal = TemporalDevServer::start(server_options()?).await?;
        Ok(Self { kafka, temporal, registry_url, stop })
    }

    /// Settings of a worker of this stack, `settings` over them.
    pub(crate) fn config(&self, settings: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut source = MapSource::from([
            ("ENVIRONMENT", "development"),
            ("HTTP_BIND", "127.0.0.1"),
            ("HTTP_PORT", "0"),
            ("PROMETHEUS_PORT", "0"),
            ("SHUTDOWN_GRACE_SECONDS", "1"),
            // The embedded broker does not wake a fetch that waits.
            ("KAFKA_FETCH_WAIT_MAX_MS", "10"),
            ("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers()),
            ("KAFKA_SCHEMA_REGISTRY_URL", &self.registry_url),
            ("KAFKA_TICKETS_TOPIC", TICKETS),
            ("KAFKA_RESULTS_TOPIC", RESULTS),
            ("KAFKA_DLQ_TOPIC", DEAD_LETTERS),
            ("TEMPORAL_ADDRESS", self.temporal.address()),
            ("TEMPORAL_NAMESPACE", NAMESPACE),
        ]);
        for (name, value) in settings {
            source.set(name, *value, Origin::Environment);
        }
        Ok(Config::read(&source)?)
    }

    pub(crate) fn kafka(&self) -> &MockKafka {
        &self.kafka
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::new(self.temporal.pid())
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.temporal.stop().await;
    }
}

fn server_options() -> anyhow::Result<TemporalDevOptions> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    Ok(TemporalDevOptions {
        // What is on PATH is not looked at: figures of different servers do not compare.
        cli: find_cli(OsStr::new(""), &tools)?,
        supervisor: SupervisorCommand {
            program: env!("CARGO_BIN_EXE_worker-agents").into(),
            arguments: vec!["supervise-process".into()],
        },
        port: 0,
        ui_port: 0,
        namespace: NAMESPACE.into(),
        db_file: None,
        log_file: None,
        search_attributes: ticket_workflows::search_attributes()
            .into_iter()
            .map(|attribute| (attribute.name.to_owned(), attribute.kind.to_owned()))
            .collect(),
        grace: Duration::from_secs(2),
    })
}

/// What the server calls itself.
pub(crate) async fn server_name(client: &Client) -> anyhow::Result<String> {
    let request = Request::new(GetSystemInfoRequest::default());
    let answer = client.connection().workflow_service().get_system_info(request).await;
    let version = answer.context("the server does not say its version")?.into_inner().server_version;
    Ok(format!("temporal {version}, dev server in memory"))
}
