//! Follows `execution.results` from now on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::Value;
use ticket_schemas::{ExecutionResult, Frame, decode_avro_result, decode_json_result};
use ticket_workflows::Evidence;

use crate::config::KafkaConfig;
use crate::dead_letters::headers_of;
use crate::kafka::{self, Clients, Reader, StreamReader};
use crate::registry::RegistryClient;
use crate::results::RESULT_ID_HEADER;

/// How long the brokers may take to say where the topic ends.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(10);

/// A result as it was read.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The result.
    pub result: ExecutionResult,
    /// Equal for copies of one outcome.
    pub result_id: Option<String>,
    /// `avro` or `json`.
    pub encoding: &'static str,
}

impl Followed {
    /// A metadata entry as text.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.result.result.metadata.get(key).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    /// What ran and what it answered, in a line.
    #[must_use]
    pub fn evidence(&self) -> Option<String> {
        let evidence: Evidence = serde_json::from_str(&self.metadata("evidence")?).ok()?;
        Some(format!("{}: {}", evidence.ran(), evidence.answered()))
    }
}

/// Reads the records of a topic that are published after it was made. In nobody's consumer group.
pub struct TopicFollower(StreamReader);

impl TopicFollower {
    /// Starts at the present end of the topic; nothing published from now on is missed.
    ///
    /// # Errors
    /// When the brokers do not answer, or the topic does not exist.
    pub async fn from_now(config: &KafkaConfig, topic: &str) -> anyhow::Result<Self> {
        let clients = Clients::new(config)?;
        let consumer = clients.stream_reader("worker-agents-follow")?;
        let ends = clients.reader("worker-agents-follow")?;
        let name = topic.to_owned();
        let offsets = tokio::task::spawn_blocking(move || ends_of(&ends, &name)).await?.with_context(|| {
            format!("no Kafka broker answered at {}; check KAFKA_BOOTSTRAP_SERVERS", config.bootstrap_servers)
        })?;
        anyhow::ensure!(offsets.count() > 0, "Kafka has no topic {topic:?}; check the KAFKA_*_TOPIC settings");
        consumer.assign(&offsets)?;
        Ok(Self(consumer))
    }

    /// The next record.
    ///
    /// # Errors
    /// When the consumer breaks.
    pub async fn next(&self) -> anyhow::Result<OwnedMessage> {
        loop {
            match self.0.recv().await {
                Ok(message) => return Ok(message.detach()),
                Err(KafkaError::MessageConsumptionFatal(code)) => anyhow::bail!("the topic cannot be read: {code}"),
                // librdkafka reconnects by itself.
                Err(error) => {
                    tracing::debug!(%error, "a topic cannot be read at the moment");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

fn ends_of(client: &Reader, topic: &str) -> anyhow::Result<TopicPartitionList> {
    let metadata = kafka::metadata(client, topic, WATERMARK_TIMEOUT)?;
    let mut offsets = TopicPartitionList::new();
    for found in metadata.topics().iter().filter(|found| found.name() == topic) {
        for partition in found.partitions() {
            let (_, end) = client.fetch_watermarks(topic, partition.id(), WATERMARK_TIMEOUT)?;
            offsets.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
        }
    }
    Ok(offsets)
}

/// Reads results that are published after it was made.
pub struct ResultFollower {
    topic: TopicFollower,
    registry: Option<Arc<RegistryClient>>,
}

impl ResultFollower {
    /// As [`TopicFollower::from_now`], on the results topic.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn from_now(config: &KafkaConfig) -> anyhow::Result<Self> {
        let registry = RegistryClient::of(config)?.map(Arc::new);
        Ok(Self { topic: TopicFollower::from_now(config, &config.results_topic).await?, registry })
    }

    /// The next record, whatever it is. Cancel-safe; what it says is for [`ResultFollower::read`].
    ///
    /// # Errors
    /// When the consumer breaks.
    pub async fn receive(&self) -> anyhow::Result<OwnedMessage> {
        self.topic.next().await
    }

    /// The result in a record. A record that is none is skipped with a warning, unless it is keyed by a ticket that is
    /// `awaited`: there will be no other.
    ///
    /// # Errors
    /// When an awaited result cannot be read.
    pub async fn read(
        &self,
        message: &OwnedMessage,
        awaited: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Option<Followed>> {
        let (headers, _) = headers_of(message);
        let result_id = headers.into_iter().find(|(name, _)| name == RESULT_ID_HEADER);
        let result_id = result_id.and_then(|(_, value)| Some(String::from_utf8_lossy(&value?).into_owned()));
        let key = String::from_utf8_lossy(message.key().unwrap_or_default());
        match self.decode(message.payload()).await {
            Ok((result, encoding)) => Ok(Some(Followed { result, result_id, encoding })),
            Err(error) if awaited(&key) => Err(error.context(format!("the result of ticket {key} cannot be read"))),
            Err(error) => {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::warn!(%error, partition, offset, "a result cannot be read");
                Ok(None)
            }
        }
    }

    async fn decode(&self, value: Option<&[u8]>) -> anyhow::Result<(ExecutionResult, &'static str)> {
        match Frame::detect(value)? {
            Frame::Json(text) => Ok((decode_json_result(text)?, "json")),
            Frame::Avro { schema_id, body } => {
                let registry = self.registry.as_ref().context("the result is Avro; set KAFKA_SCHEMA_REGISTRY_URL")?;
                let writer = registry.writer_schema(schema_id).await?;
                Ok((decode_avro_result(body, &writer)?, "avro"))
            }
        }
    }
}
