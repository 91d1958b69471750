//! What is measured against: Kafka, a Schema Registry, and a Temporal server of its own.
//!
//! By default Kafka runs in this process and Temporal is the dev server in memory. `SERVER=postgres` and `KAFKA=real` take
//! those of `scripts/real`, which are as durable as in production.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
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
use worker_agents::temporal;

use crate::instance::Instance;
use crate::meter::Meter;

/// Partitions of the tickets topic.
pub(crate) const PARTITIONS: i32 = 4;
const TICKETS: &str = "execution.tickets";
const RESULTS: &str = "execution.results";
const DEAD_LETTERS: &str = "execution.tickets.dlq";
const NAMESPACE: &str = "bench";

/// A peer that this process owns, or one of `scripts/real`.
enum Peer<T> {
    Embedded(T),
    Real(Instance),
}

impl<T: Send + 'static> Peer<T> {
    async fn real(component: &'static str) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || {
            // Removed by the instance's end.
            let folder = tempfile::tempdir()?.keep();
            Ok(Self::Real(Instance::start(component, &folder, &[])?))
        })
        .await?
    }
}

/// Which peers are wanted: `SERVER` and `KAFKA`.
pub(crate) struct Choice {
    real_server: bool,
    real_kafka: bool,
}

impl Choice {
    /// Reads the names; an empty one is the default.
    ///
    /// # Errors
    /// When a name is not known.
    pub(crate) fn of(server: &str, kafka: &str) -> anyhow::Result<Self> {
        let real_server = match server {
            "" | "dev" => false,
            "postgres" => true,
            _ => bail!("SERVER={server:?}: dev and postgres are known"),
        };
        let real_kafka = match kafka {
            "" | "embedded" => false,
            "real" => true,
            _ => bail!("KAFKA={kafka:?}: embedded and real are known"),
        };
        Ok(Self { real_server, real_kafka })
    }
}

/// The running peers.
pub(crate) struct Stack {
    kafka: Peer<MockKafka>,
    brokers: String,
    server: Peer<TemporalDevServer>,
    temporal: String,
    registry_url: String,
    stop: CancellationToken,
}

impl Stack {
    pub(crate) async fn start(choice: &Choice) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let registry_url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(SchemaRegistry::new().serve(listener, stop.clone()));
        let topics = [(TICKETS, PARTITIONS), (RESULTS, PARTITIONS), (DEAD_LETTERS, 1)];
        let kafka = if choice.real_kafka {
            Peer::real("kafka").await?
        } else {
            Peer::Embedded(tokio::task::spawn_blocking(move || MockKafka::start(&topics)).await??)
        };
        let server = if choice.real_server {
            Peer::real("temporal-postgres").await?
        } else {
            Peer::Embedded(TemporalDevServer::start(server_options()?).await?)
        };
        let brokers = match &kafka {
            Peer::Embedded(kafka) => kafka.bootstrap_servers().to_owned(),
            Peer::Real(kafka) => kafka.address("KAFKA_BOOTSTRAP_SERVERS")?.to_owned(),
        };
        let temporal = match &server {
            Peer::Embedded(server) => server.address().to_owned(),
            Peer::Real(server) => server.address("TEMPORAL_ADDRESS")?.to_owned(),
        };
        let stack = Self { kafka, brokers, server, temporal, registry_url, stop };
        if choice.real_kafka {
            for (topic, partitions) in topics {
                stack.create_topic(topic, partitions)?;
            }
        }
        // The dev server was started with them.
        let client = temporal::connect(&stack.config(&[])?).await?;
        let missing = temporal::search_attribute_faults(&client).await?.missing;
        if !missing.is_empty() {
            temporal::create_search_attributes(&client, &missing).await?;
        }
        Ok(stack)
    }

    /// Settings of a worker of this stack, `settings` over them.
    pub(crate) fn config(&self, settings: &[(&str, &str)]) -> anyhow::Result<Config> {
        // The embedded broker does not wake a fetch that waits.
        let fetch_wait = if self.kafka_is_embedded() { "10" } else { "500" };
        let mut source = MapSource::from([
            ("ENVIRONMENT", "development"),
            ("HTTP_BIND", "127.0.0.1"),
            ("HTTP_PORT", "0"),
            ("PROMETHEUS_PORT", "0"),
            ("SHUTDOWN_GRACE_SECONDS", "1"),
            ("KAFKA_FETCH_WAIT_MAX_MS", fetch_wait),
            ("KAFKA_BOOTSTRAP_SERVERS", &self.brokers),
            ("KAFKA_SCHEMA_REGISTRY_URL", &self.registry_url),
            ("KAFKA_TICKETS_TOPIC", TICKETS),
            ("KAFKA_RESULTS_TOPIC", RESULTS),
            ("KAFKA_DLQ_TOPIC", DEAD_LETTERS),
            ("TEMPORAL_ADDRESS", &self.temporal),
            ("TEMPORAL_NAMESPACE", if matches!(self.server, Peer::Embedded(_)) { NAMESPACE } else { "default" }),
        ]);
        for (name, value) in settings {
            source.set(name, *value, Origin::Environment);
        }
        Ok(Config::read(&source)?)
    }

    /// Creates a topic. Blocks.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        match &self.kafka {
            Peer::Embedded(kafka) => kafka.create_topic(topic, partitions),
            Peer::Real(kafka) => {
                let created = || kafka.run("topics", &[&format!("{topic}:{partitions}")]);
                tokio::task::block_in_place(created).map(drop)
            }
        }
    }

    /// Whether Kafka runs in this process.
    pub(crate) fn kafka_is_embedded(&self) -> bool {
        matches!(self.kafka, Peer::Embedded(_))
    }

    /// What Kafka is, in words.
    pub(crate) fn kafka_name(&self) -> anyhow::Result<String> {
        Ok(match &self.kafka {
            Peer::Embedded(_) => "embedded, in memory".to_owned(),
            Peer::Real(kafka) => format!("Apache Kafka {}, one broker", kafka.address("KAFKA_VERSION")?),
        })
    }

    /// Measures this process and the server, its database included.
    pub(crate) fn meter(&self) -> anyhow::Result<Meter> {
        let pid = |file: &str| -> anyhow::Result<i32> {
            let text = std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
            Ok(text.split(' ').next().unwrap_or_default().parse()?)
        };
        Ok(Meter::new(match &self.server {
            Peer::Embedded(server) => vec![server.pid()],
            Peer::Real(server) => vec![
                pid(server.address("TEMPORAL_SERVER_PID_FILE")?)?,
                pid(server.address("TEMPORAL_DATABASE_PID_FILE")?)?,
            ],
        }))
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Peer::Embedded(server) = self.server {
            server.stop().await;
        }
    }

    /// What the server calls itself, and what it keeps its data in.
    pub(crate) async fn server_name(&self, client: &Client) -> anyhow::Result<String> {
        let request = Request::new(GetSystemInfoRequest::default());
        let answer = client.connection().workflow_service().get_system_info(request).await;
        let version = answer.context("the server does not say its version")?.into_inner().server_version;
        Ok(match &self.server {
            Peer::Embedded(_) => format!("temporal {version}, dev server in memory"),
            Peer::Real(server) => format!("temporal {version}, {}, durable", server.address("TEMPORAL_DATABASE")?),
        })
    }
}

/// The worker's: this program is none.
pub(crate) fn supervisor() -> SupervisorCommand {
    SupervisorCommand {
        program: env!("CARGO_BIN_EXE_worker-agents").into(),
        arguments: vec!["supervise-process".into()],
    }
}

fn server_options() -> anyhow::Result<TemporalDevOptions> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    Ok(TemporalDevOptions {
        // What is on PATH is not looked at: figures of different servers do not compare.
        cli: find_cli(OsStr::new(""), &tools)?,
        supervisor: supervisor(),
        port: 0,
        ui_port: 0,
        namespace: NAMESPACE.into(),
        db_file: None,
        log_file: None,
        search_attributes: ticket_workflows::search_attributes(),
        grace: Duration::from_secs(2),
    })
}
