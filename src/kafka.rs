//! Kafka clients: one place that turns settings into client configuration.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::FutureProducer;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::config::KafkaConfig;

/// How long a message may wait for its acknowledgement.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a start-up check waits for brokers.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// What every client shares: brokers and security.
#[must_use]
pub fn base(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", "worker-agents")
        .set("security.protocol", config.security.protocol)
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000");
    if let Some(sasl) = &config.security.sasl {
        client
            .set("sasl.mechanisms", &sasl.mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.expose());
    }
    let files = [
        ("ssl.ca.location", &config.security.ca),
        ("ssl.certificate.location", &config.security.certificate),
        ("ssl.key.location", &config.security.key),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            client.set(key, path);
        }
    }
    client
}

/// The producer of results and dead letters: idempotent, acknowledged by all in-sync replicas.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn producer(config: &KafkaConfig) -> anyhow::Result<FutureProducer> {
    let producer = base(config)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "zstd")
        // A result is waited for one by one; lingering only adds latency.
        .set("linger.ms", "1")
        .set("delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
        // The DLQ takes 2 MiB (contracts/kafka.md §1).
        .set("message.max.bytes", "2097152")
        .create()?;
    Ok(producer)
}

/// The consumer of tickets. Offsets are committed by the bridge alone, never by the library.
#[must_use]
pub fn consumer(config: &KafkaConfig) -> ClientConfig {
    let mut client = base(config);
    client
        .set("group.id", &config.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", config.auto_offset_reset)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", (config.session_timeout_ms / 10).to_string())
        .set("fetch.wait.max.ms", config.fetch_wait_max_ms.to_string())
        // Each partition has a queue of its own; this bounds what waits in it, in KiB.
        .set("queued.max.messages.kbytes", "1024")
        .set("fetch.message.max.bytes", "1048576");
    client
}

/// A client that asks on behalf of the group without joining it.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn reader(config: &KafkaConfig) -> anyhow::Result<BaseConsumer> {
    Ok(base(config).set("group.id", &config.group_id).create()?)
}

/// A client of the brokers' administration.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub fn admin(config: &KafkaConfig) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(base(config).create()?)
}

/// The consumer of rejections, in a group of its own.
#[must_use]
pub fn rejections(config: &KafkaConfig) -> ClientConfig {
    let mut client = consumer(config);
    client.set("group.id", format!("{}-rejected", config.group_id));
    client
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
pub fn describe_topic(config: &KafkaConfig, client: &BaseConsumer, topic: &str) -> anyhow::Result<TopicState> {
    let metadata = client.fetch_metadata(Some(topic), METADATA_TIMEOUT).map_err(|error| {
        anyhow::anyhow!(
            "no Kafka broker answered at {} ({error}); check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the network",
            config.bootstrap_servers
        )
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
