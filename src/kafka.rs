//! Kafka clients: one place that turns settings into clients, with one source of credentials for all of them (INC-13).

mod context;
mod faults;
mod login;
mod producer;
mod repeats;
mod rotation;
#[cfg(test)]
mod tests;
mod token;
mod token_endpoint;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use tokio::sync::watch;

pub use context::{Context, Reader, StreamReader};
pub use faults::{ACCESS_CHECK, Faults};
pub use producer::Producer;
pub(crate) use repeats::Repeats;
pub(crate) use rotation::Watch;

use crate::config::{KafkaConfig, Sasl, SecretSource};
use crate::health::Health;
use crate::metrics::Metrics;
use login::Login;

/// How long a message may wait for its acknowledgement.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a start-up check waits for brokers.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes every Kafka client of this process. Clones share settings and credentials.
#[derive(Clone)]
pub struct Clients(Arc<Inner>);

struct Inner {
    config: KafkaConfig,
    login: watch::Sender<Login>,
    faults: Faults,
}

impl Clients {
    /// Clients of a command.
    ///
    /// # Errors
    /// When a file with credentials cannot be read.
    pub fn new(config: &KafkaConfig) -> anyhow::Result<Self> {
        Self::with(config, Faults::default())
    }

    /// Clients of a worker: a broker that refuses them is counted and takes readiness away.
    ///
    /// # Errors
    /// When a file with credentials cannot be read.
    pub fn of_worker(config: &KafkaConfig, metrics: Arc<Metrics>, health: Health) -> anyhow::Result<Self> {
        Self::with(config, Faults::of_worker(metrics, health))
    }

    fn with(config: &KafkaConfig, faults: Faults) -> anyhow::Result<Self> {
        let login = Login::read(&config.security).map_err(anyhow::Error::msg)?;
        Ok(Self(Arc::new(Inner { config: config.clone(), login: watch::Sender::new(login), faults })))
    }

    /// What every client shares: brokers, security, credentials. Give it [`Clients::context`] when a client is made of it,
    /// or OAUTHBEARER does not work and refusals stay unseen.
    #[must_use]
    pub fn base_config(&self) -> ClientConfig {
        self.base_of(&self.0.login.borrow())
    }

    fn base_of(&self, login: &Login) -> ClientConfig {
        let config = &self.0.config;
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.bootstrap_servers)
            .set("client.id", "worker-agents")
            .set("security.protocol", config.security.protocol)
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000");
        login.apply(&mut client);
        client
    }

    /// The producer of results and dead letters: idempotent, acknowledged by all in-sync replicas.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn producer(&self) -> anyhow::Result<Producer> {
        Producer::new(self.clone())
    }

    fn producer_config(&self) -> ClientConfig {
        let mut client = self.base_config();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            // A result is waited for one by one; lingering only adds latency.
            .set("linger.ms", "1")
            .set("delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
            // The DLQ takes 2 MiB (contracts/kafka.md §1).
            .set("message.max.bytes", "2097152");
        client
    }

    /// The consumer of tickets. Offsets are committed by the bridge alone, never by the library.
    #[must_use]
    pub fn tickets_config(&self) -> ClientConfig {
        let config = &self.0.config;
        let mut client = self.base_config();
        client
            .set("group.id", &config.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", config.auto_offset_reset)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", config.session_timeout_ms.to_string())
            // A member learns of a rebalance by its heartbeat: so long may a partition be nobody's when the group changes.
            .set("heartbeat.interval.ms", (config.session_timeout_ms / 10).min(1_000).to_string())
            .set("fetch.wait.max.ms", config.fetch_wait_max_ms.to_string())
            // Each partition has a queue of its own; this bounds what waits in it, in KiB.
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.message.max.bytes", "1048576");
        client
    }

    /// A client of the brokers' administration.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn admin(&self) -> anyhow::Result<AdminClient<Context>> {
        Ok(self.base_config().create_with_context(self.context("admin"))?)
    }

    /// A consumer in nobody's group; `name` only shows at the brokers.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn reader(&self, name: &str) -> anyhow::Result<Reader> {
        Ok(self.base_config().set("group.id", name).create_with_context(self.context("reader"))?)
    }

    /// The same as a stream that starts at the end of what is assigned to it.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn stream_reader(&self, name: &str) -> anyhow::Result<StreamReader> {
        let mut client = self.tickets_config();
        client.set("group.id", name).set("auto.offset.reset", "latest");
        Ok(client.create_with_context(self.context("reader"))?)
    }

    /// Callbacks of a client; `client` names it in logs and refusals.
    #[must_use]
    pub fn context(&self, client: &'static str) -> Context {
        let tokens = match &self.0.config.security.sasl {
            Some(Sasl::Token(source)) => Some(source.clone()),
            _ => None,
        };
        Context { client, tokens, faults: self.0.faults.clone() }
    }

    /// Changes whenever the credentials do. What is there already counts as seen.
    #[must_use]
    pub(crate) fn renewals(&self) -> watch::Receiver<Login> {
        self.0.login.subscribe()
    }

    fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Whether anything that clients log in with may change.
    fn may_change(&self) -> bool {
        let security = &self.0.config.security;
        let sasl = match &security.sasl {
            Some(Sasl::Password { username, password, .. }) => username.changes() || password.changes(),
            _ => false,
        };
        let key_password = security.key_password.as_ref().is_some_and(SecretSource::changes);
        sasl || security.encrypts() && (security.ca.is_some() || security.certificate.is_some() || key_password)
    }

    fn read_login(&self) -> Result<Login, String> {
        Login::read(&self.0.config.security)
    }

    fn has(&self, login: &Login) -> bool {
        *self.0.login.borrow() == *login
    }

    fn renew(&self, login: Login) {
        self.0.login.send_replace(login);
    }

    /// Whether a broker lets these credentials in. Blocks up to [`METADATA_TIMEOUT`].
    fn try_login(&self, login: &Login) -> Result<(), String> {
        // Refusals of a try are not those of a client in use.
        let context = Context { faults: Faults::default(), ..self.context("new credentials") };
        let reader: Reader = self
            .base_of(login)
            .set("group.id", "worker-agents-login")
            .create_with_context(context)
            .map_err(|error| error.to_string())?;
        metadata(&reader, &self.0.config.tickets_topic, METADATA_TIMEOUT).map(drop).map_err(|error| error.to_string())
    }
}

/// What a topic looks like to this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// It exists, with so many partitions.
    Partitions(usize),
    /// The brokers do not know it.
    Missing,
    /// The brokers do not let this client see it.
    Denied,
    /// The brokers could not tell.
    Unclear(String),
}

/// Asks the brokers for a topic. Blocks up to [`METADATA_TIMEOUT`].
///
/// # Errors
/// When no broker answers: the sentence names the brokers and the setting.
pub fn describe_topic(config: &KafkaConfig, client: &Reader, topic: &str) -> anyhow::Result<TopicState> {
    let metadata = metadata(client, topic, METADATA_TIMEOUT).map_err(|error| match error {
        NoMetadata::Refused(_) => anyhow::Error::new(error),
        NoMetadata::Unanswered(_) => anyhow::anyhow!(
            "no Kafka broker answered at {} ({error}); check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the network",
            config.bootstrap_servers
        ),
    })?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(TopicState::Missing);
    };
    Ok(match found.error() {
        None if found.partitions().is_empty() => TopicState::Missing,
        None => TopicState::Partitions(found.partitions().len()),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => TopicState::Denied,
        Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
        ) => TopicState::Missing,
        Some(other) => TopicState::Unclear(RDKafkaErrorCode::from(other).to_string()),
    })
}

/// Why there is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum NoMetadata {
    /// A broker does not let the client in, or there is no token to show it.
    #[error("{0}")]
    Refused(String),
    /// No broker answered in time.
    #[error("{0}")]
    Unanswered(String),
}

/// librdkafka's name of an error, for logs and labels: a closed set.
pub(crate) fn error_code(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"))
}

/// Lets waiting callbacks run.
fn serve(client: &Reader) {
    while client.poll(Duration::from_millis(10)).is_some() {}
}

/// Metadata of a topic. Callbacks run in between, so that tokens are fetched and a refusal ends the wait.
///
/// # Errors
/// The refusal, or that nobody answered.
pub fn metadata(client: &Reader, topic: &str, patience: Duration) -> Result<Metadata, NoMetadata> {
    let deadline = Instant::now() + patience;
    let mut slice = Duration::from_millis(500);
    loop {
        serve(client);
        let left = deadline.saturating_duration_since(Instant::now());
        match client.fetch_metadata(Some(topic), slice.min(left).max(Duration::from_millis(10))) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => {
                serve(client);
                if let Some(refusal) = client.context().faults.standing_text() {
                    return Err(NoMetadata::Refused(refusal));
                }
                if Instant::now() >= deadline {
                    let said = client.context().faults.last_said(client.context().client);
                    return Err(NoMetadata::Unanswered(said.unwrap_or_else(|| error.to_string())));
                }
            }
        }
        slice *= 2;
    }
}
