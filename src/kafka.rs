//! Kafka clients: one place that turns settings into client configuration.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::FutureProducer;

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
        // A member learns of a rebalance by its heartbeat: so long may a partition be nobody's when the group changes.
        .set("heartbeat.interval.ms", (config.session_timeout_ms / 10).min(1_000).to_string())
        .set("fetch.wait.max.ms", config.fetch_wait_max_ms.to_string())
        // Each partition has a queue of its own; this bounds what waits in it, in KiB.
        .set("queued.max.messages.kbytes", "1024")
        .set("fetch.message.max.bytes", "1048576");
    client
}

/// What a topic looks like to this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// It exists, with so many partitions.
    Partitions(usize),
    /// The brokers do not know it.
    Missing,
}

/// Asks the brokers for the given topics. Blocks up to [`METADATA_TIMEOUT`] for each.
///
/// # Errors
/// When no broker answers: the sentence names the brokers and the setting.
pub fn describe_topics<'a>(config: &KafkaConfig, topics: &[&'a str]) -> anyhow::Result<Vec<(&'a str, TopicState)>> {
    let client: BaseConsumer = base(config).set("group.id", "worker-agents-doctor").create()?;
    topics
        .iter()
        .map(|topic| {
            let metadata = client.fetch_metadata(Some(topic), METADATA_TIMEOUT).map_err(|error| {
                anyhow::anyhow!(
                    "no Kafka broker answered at {} ({error}); check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the network",
                    config.bootstrap_servers
                )
            })?;
            let partitions = metadata
                .topics()
                .iter()
                .find(|found| found.name() == *topic && found.error().is_none())
                .map_or(0, |found| found.partitions().len());
            Ok((*topic, if partitions == 0 { TopicState::Missing } else { TopicState::Partitions(partitions) }))
        })
        .collect()
}
