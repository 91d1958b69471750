//! Kafka and the Schema Registry.

use super::reader::{Reader, Secret};

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

/// User and password of SASL.
#[derive(Debug, Clone)]
pub struct SaslCredentials {
    /// `KAFKA_SASL_MECHANISM`.
    pub mechanism: String,
    /// `KAFKA_SASL_USERNAME`.
    pub username: String,
    /// `KAFKA_SASL_PASSWORD`.
    pub password: Secret,
}

/// How connections to brokers are secured.
#[derive(Debug, Clone)]
pub struct KafkaSecurity {
    /// `KAFKA_SECURITY_PROTOCOL`, as librdkafka writes it.
    pub protocol: &'static str,
    /// Set for the SASL protocols.
    pub sasl: Option<SaslCredentials>,
    /// `KAFKA_SSL_CA_LOCATION`.
    pub ca: Option<String>,
    /// `KAFKA_SSL_CERTIFICATE_LOCATION`.
    pub certificate: Option<String>,
    /// `KAFKA_SSL_KEY_LOCATION`.
    pub key: Option<String>,
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
    /// `RESULT_ENCODING`.
    pub result_encoding: ResultEncoding,
}

impl KafkaConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let registry = reader.text_or_empty(
            "KAFKA_SCHEMA_REGISTRY_URL",
            "https://schema-registry.kafka.svc.cluster.local:8081",
            "Schema Registry, with or without base path; empty: JSON only",
        );
        if !registry.is_empty() && !registry.starts_with("http://") && !registry.starts_with("https://") {
            reader.error(format!(
                "KAFKA_SCHEMA_REGISTRY_URL={registry:?}: expected an http(s) URL, or nothing for JSON only"
            ));
        }
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
            security: security(reader),
            schema_registry_url: Some(registry).filter(|url| !url.is_empty()),
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

fn topic(reader: &mut Reader<'_>, name: &'static str, default: &str, help: &'static str) -> String {
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

fn security(reader: &mut Reader<'_>) -> KafkaSecurity {
    let protocol = reader
        .one_of(
            "KAFKA_SECURITY_PROTOCOL",
            &[
                ("PLAINTEXT", "plaintext"),
                ("SSL", "ssl"),
                ("SASL_PLAINTEXT", "sasl_plaintext"),
                ("SASL_SSL", "sasl_ssl"),
            ],
            "PLAINTEXT",
            "how connections to brokers are secured",
        )
        .unwrap_or("plaintext");
    let mechanism = reader.text("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "SASL mechanism");
    let username = reader.optional("KAFKA_SASL_USERNAME", "SASL user");
    let password = reader.secret("KAFKA_SASL_PASSWORD", "SASL password");
    let sasl = if protocol.starts_with("sasl") {
        if let (Some(username), Some(password)) = (username, password) {
            Some(SaslCredentials { mechanism, username, password })
        } else {
            reader.error(
                "KAFKA_SECURITY_PROTOCOL asks for SASL; KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must be set"
                    .to_owned(),
            );
            None
        }
    } else {
        None
    };
    let file = |reader: &mut Reader<'_>, name, help| {
        let path = reader.optional(name, help);
        if let Some(path) = path.as_deref()
            && let Err(error) = std::fs::metadata(path)
        {
            reader.error(format!("{name}={path:?}: {error}"));
        }
        path
    };
    KafkaSecurity {
        protocol,
        sasl,
        ca: file(reader, "KAFKA_SSL_CA_LOCATION", "CA file"),
        certificate: file(reader, "KAFKA_SSL_CERTIFICATE_LOCATION", "client certificate file"),
        key: file(reader, "KAFKA_SSL_KEY_LOCATION", "client key file"),
    }
}
