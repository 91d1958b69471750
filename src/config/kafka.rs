//! Kafka and the Schema Registry.

use super::kafka_security::KafkaSecurity;
use super::reader::Reader;
use super::schema_registry::{self, RegistryAccess};

/// How results are encoded on `execution.results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultEncoding {
    /// Avro; JSON for a message whose schema cannot be had from the registry (INC-07), and when there is no registry.
    Auto,
    /// Always JSON.
    Json,
    /// Always Avro; a registry that is away delays results.
    Avro,
}

/// Kafka settings.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `KAFKA_BOOTSTRAP_SERVERS`.
    pub bootstrap_servers: String,
    /// `KAFKA_TICKETS_TOPIC`.
    pub tickets_topic: String,
    /// `KAFKA_RESULTS_TOPIC`.
    pub results_topic: String,
    /// `KAFKA_DLQ_TOPIC`.
    pub dlq_topic: String,
    /// `KAFKA_REJECTED_TOPIC`; `None` (empty): rejections of guard-agents are not followed (INC-02).
    pub rejected_topic: Option<String>,
    /// `KAFKA_CONSUMER_GROUP_ID`.
    pub group_id: String,
    /// `KAFKA_AUTO_OFFSET_RESET`.
    pub auto_offset_reset: &'static str,
    /// `KAFKA_SESSION_TIMEOUT_MS`: how long the group waits for a member that says nothing.
    pub session_timeout_ms: u64,
    /// `KAFKA_FETCH_WAIT_MAX_MS`: how long a broker may hold a fetch that finds nothing.
    pub fetch_wait_max_ms: u64,
    /// `KAFKA_SECURITY_PROTOCOL` and what belongs to it.
    pub security: KafkaSecurity,
    /// `KAFKA_SCHEMA_REGISTRY_URL`; `None` (empty): JSON only, said so at start-up.
    pub schema_registry_url: Option<String>,
    /// `SCHEMA_REGISTRY_*`: credentials and trust.
    pub schema_registry: RegistryAccess,
    /// `RESULT_ENCODING`.
    pub result_encoding: ResultEncoding,
}

impl KafkaConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let (schema_registry_url, schema_registry) = schema_registry::read(reader);
        if reader.boolean("KAFKA_ENABLE_AUTO_COMMIT", false, "not supported: offsets follow durable tickets") {
            reader.warn(
                "KAFKA_ENABLE_AUTO_COMMIT=true is not followed: an offset is committed when its ticket is durable"
                    .to_owned(),
            );
        }
        let config = Self {
            bootstrap_servers: reader.text("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "brokers to connect to first"),
            tickets_topic: topic(reader, "KAFKA_TICKETS_TOPIC", "execution.tickets", "tickets are read here"),
            results_topic: topic(reader, "KAFKA_RESULTS_TOPIC", "execution.results", "results are written here"),
            dlq_topic: topic(reader, "KAFKA_DLQ_TOPIC", "execution.tickets.dlq", "records that cannot become tickets"),
            rejected_topic: rejected_topic(reader),
            group_id: reader.text("KAFKA_CONSUMER_GROUP_ID", "worker-agents", "consumer group"),
            auto_offset_reset: reader
                .one_of(
                    "KAFKA_AUTO_OFFSET_RESET",
                    &[("earliest", "earliest"), ("latest", "latest"), ("error", "error")],
                    "earliest",
                    "where a new group starts",
                )
                .unwrap_or("earliest"),
            session_timeout_ms: reader.number(
                "KAFKA_SESSION_TIMEOUT_MS",
                30_000,
                1_000,
                "how long the consumer group waits for a silent member; added by this product",
            ),
            fetch_wait_max_ms: reader.number(
                "KAFKA_FETCH_WAIT_MAX_MS",
                500,
                1,
                "how long a broker may hold a fetch that finds nothing; added by this product",
            ),
            security: KafkaSecurity::read(reader),
            schema_registry_url,
            schema_registry,
            result_encoding: reader
                .one_of(
                    "RESULT_ENCODING",
                    &[("auto", ResultEncoding::Auto), ("json", ResultEncoding::Json), ("avro", ResultEncoding::Avro)],
                    "auto",
                    "auto (Avro, else JSON), json or avro; added by this product",
                )
                .unwrap_or(ResultEncoding::Auto),
        };
        if config.result_encoding == ResultEncoding::Avro && config.schema_registry_url.is_none() {
            reader.error("RESULT_ENCODING=avro needs KAFKA_SCHEMA_REGISTRY_URL".to_owned());
        }
        if config.dlq_topic == config.tickets_topic || config.results_topic == config.tickets_topic {
            reader.error(
                "KAFKA_DLQ_TOPIC and KAFKA_RESULTS_TOPIC must differ from KAFKA_TICKETS_TOPIC, or the worker feeds itself"
                    .to_owned(),
            );
        }
        let others = [&config.tickets_topic, &config.results_topic, &config.dlq_topic];
        if config.rejected_topic.as_ref().is_some_and(|topic| others.contains(&topic)) {
            reader.error(
                "KAFKA_REJECTED_TOPIC must differ from the topics of tickets, results and dead letters".to_owned(),
            );
        }
        config
    }
}

pub(super) fn topic(reader: &mut Reader<'_>, name: &'static str, default: &str, help: &'static str) -> String {
    let topic = reader.text(name, default, help);
    check_topic(reader, name, &topic);
    topic
}

fn rejected_topic(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "KAFKA_REJECTED_TOPIC";
    let topic = reader.optional(
        NAME,
        "tickets rejected by guard-agents are cancelled; empty: they are not (execution.tickets.rejected on the platform); \
         added by this product",
    );
    if let Some(topic) = &topic {
        check_topic(reader, NAME, topic);
    }
    topic
}

fn check_topic(reader: &mut Reader<'_>, name: &str, topic: &str) {
    let legal = topic.len() <= 249 && topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !legal || topic == "." || topic == ".." {
        reader.error(format!("{name}={topic:?}: expected a topic name ([A-Za-z0-9._-], at most 249)"));
    }
}
