//! What a check found: what, why it matters, how to fix it.

use serde::Serialize;

/// The checks: a closed set, since they are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Check {
    /// Settings as a whole.
    Settings,
    /// Brokers answer, and the topics exist.
    KafkaTopics,
    /// The consumer group may be used.
    KafkaGroup,
    /// `max.message.bytes` of the topics.
    KafkaMessageSize,
    /// `cleanup.policy` of the topics.
    KafkaCleanupPolicy,
    /// Session, poll and hand-over times of the consumer.
    KafkaTimeouts,
    /// The server answers, and knows the namespace.
    Temporal,
    /// The namespace has the search attributes of tickets.
    SearchAttributes,
    /// Temporal remembers tickets for as long as Kafka keeps their records.
    Retention,
    /// The tickets of the task queue go to workers of this worker's version.
    WorkerVersion,
    /// The registry answers.
    SchemaRegistry,
    /// Tickets of the registry's newest schema can be read.
    TicketSchema,
    /// The registry takes the schema of results.
    ResultSchema,
    /// The Service Registry answers.
    ServiceRegistry,
    /// Vault gives the secrets that settings name.
    Vault,
    /// This worker can prove who it is.
    Identity,
    /// Clocks agree.
    Clock,
    /// Local commands have a folder to work in.
    LocalRuntime,
    /// Logs of attempts have a folder.
    Logs,
    /// The Docker engine answers, and keeps containers to their limits.
    Docker,
    /// Code Forge answers.
    CodeForge,
    /// AWS Lambda lets this worker invoke its function.
    Lambda,
    /// New work goes to the endpoints of providers.
    Endpoints,
    /// The Kubernetes cluster answers, and lets this worker run Jobs.
    Kubernetes,
}

impl Check {
    /// As it stands in metrics, logs and `doctor --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::KafkaTopics => "kafka_topics",
            Self::KafkaGroup => "kafka_group",
            Self::KafkaMessageSize => "kafka_message_size",
            Self::KafkaCleanupPolicy => "kafka_cleanup_policy",
            Self::KafkaTimeouts => "kafka_timeouts",
            Self::Temporal => "temporal",
            Self::SearchAttributes => "search_attributes",
            Self::Retention => "retention",
            Self::WorkerVersion => "worker_version",
            Self::SchemaRegistry => "schema_registry",
            Self::TicketSchema => "ticket_schema",
            Self::ResultSchema => "result_schema",
            Self::ServiceRegistry => "service_registry",
            Self::Vault => "vault",
            Self::Identity => "identity",
            Self::Clock => "clock",
            Self::LocalRuntime => "local_runtime",
            Self::Logs => "logs",
            Self::Docker => "docker",
            Self::CodeForge => "code_forge",
            Self::Lambda => "lambda",
            Self::Endpoints => "endpoints",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Whether strict start-up checks wait for it. A version is made current when its workers are ready: they cannot wait
    /// for that. Nothing waits for the Service Registry, or for the identity that it asks for: a worker that is not in it takes
    /// tickets all the same. So does one that finds no Code Forge or no Lambda, which are services that come and go; their tickets are
    /// tried again. A log that cannot be kept costs no ticket.
    #[must_use]
    pub fn holds_back(self) -> bool {
        !matches!(
            self,
            Self::WorkerVersion | Self::ServiceRegistry | Self::Identity | Self::Logs | Self::CodeForge | Self::Lambda
        )
    }

    /// Why it matters.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Settings => "a setting that is not used does not do what its author meant",
            Self::KafkaTopics => {
                "tickets come from Kafka and results go there; a topic that a broker creates by itself has the broker's \
                 defaults, often one partition"
            }
            Self::KafkaGroup => "without its consumer group the worker gets no partition and reads no ticket",
            Self::KafkaMessageSize => {
                "a ticket that the topic does not take is never published; a dead letter that it does not take stops its \
                 partition; a result that it does not take loses its output"
            }
            Self::KafkaCleanupPolicy => {
                "compaction keeps the newest record of a key only, and a plan's tickets share one"
            }
            Self::KafkaTimeouts => {
                "a member that hands partitions over more slowly than the group waits, or with a session time-out that \
                 brokers refuse, is put out of the group"
            }
            Self::Temporal => "every ticket is a workflow",
            Self::SearchAttributes => "no ticket can start without them",
            Self::Retention => {
                "a record older than what Temporal remembers cannot be told from a new one; it goes to the dead-letter \
                 topic as record_older_than_retention"
            }
            Self::WorkerVersion => {
                "a worker gets new tickets only while its version is current or ramping; tickets that go to workers of \
                 which none runs wait"
            }
            Self::SchemaRegistry => "tickets in Avro wait until it answers, and results go out as JSON or wait too",
            Self::TicketSchema => "tickets that cannot be read go to the dead-letter topic",
            Self::ResultSchema => "a schema that the registry refuses keeps results from going out as Avro",
            Self::ServiceRegistry => {
                "the orchestrator publishes a ticket only when it finds a worker for it there, in its own namespace"
            }
            Self::Vault => "a secret that changes in Vault does not reach this worker until Vault gives it",
            Self::Identity => {
                "without an identity the worker is not in the Service Registry, and callers of the HTTP API are not known by theirs"
            }
            Self::Clock => {
                "a late duplicate is told from a re-drive by comparing a record's time with Temporal's, and deadlines are \
                 compared with both"
            }
            Self::LocalRuntime => "a command that has no folder to work in fails",
            Self::Logs => "the whole output of tickets is nowhere, and results hold both ends of it only",
            Self::Docker => "tickets that ask for a container fail without an engine, and are not run elsewhere",
            Self::CodeForge => "tickets that ask for code of a template fail without it: nothing else makes any",
            Self::Lambda => "tickets that ask for a function fail without it, and are not run elsewhere",
            Self::Endpoints => {
                "while the circuit of a provider is open, its tickets wait for another attempt, or run elsewhere where settings \
                 let them"
            }
            Self::Kubernetes => "tickets that ask for a Job fail without a cluster, and are not run elsewhere",
        }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is as it should be.
    Ok,
    /// It could not be found out: neither a pass nor a failure.
    Unknown,
    /// It is not as it should be.
    Failed,
}

impl State {
    /// As it stands in metrics and `doctor --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when it is ok.
    pub fix: String,
    /// Whether `run` ends with it instead of going on.
    pub fatal: bool,
}

impl Finding {
    /// It is as it should be.
    #[must_use]
    pub fn ok(check: Check, what: impl Into<String>) -> Self {
        Self { check, state: State::Ok, what: what.into(), fix: String::new(), fatal: false }
    }

    /// It is not.
    #[must_use]
    pub fn failed(check: Check, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Failed, what: what.into(), fix: fix.into(), fatal: false }
    }

    /// It is not, and nothing works without it.
    #[must_use]
    pub fn fatal(check: Check, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::failed(check, what, fix) }
    }

    /// It could not be found out.
    #[must_use]
    pub fn unknown(check: Check, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::failed(check, what, fix) }
    }

    /// What and how to fix it, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.fix.is_empty() { self.what.clone() } else { format!("{}; {}", self.what, self.fix) }
    }
}

/// Fails with the first finding that nothing works without.
///
/// # Errors
/// Its sentence.
pub(super) fn demand(findings: &[Finding]) -> anyhow::Result<()> {
    match findings.iter().find(|finding| finding.fatal) {
        Some(finding) => Err(anyhow::anyhow!(finding.sentence())),
        None => Ok(()),
    }
}
