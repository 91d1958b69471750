//! Reads a topic up to its present end, or one record of it. In nobody's consumer group: nothing is committed, and the
//! consumer of alerts is not disturbed. One record is in memory at a time, beside what librdkafka fetches ahead.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::config::KafkaConfig;
use crate::kafka::{Clients, METADATA_TIMEOUT, Reader, StreamReader, metadata};

/// librdkafka wants a name; no group is joined.
const GROUP: &str = "worker-agents-scan";
/// How long the brokers may take to give the next record.
const PATIENCE: Duration = Duration::from_secs(20);

/// One partition as it was at one time: offsets `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    partition: i32,
    low: i64,
    high: i64,
}

/// What a topic held at one time. Scans of one extent see the same records, whatever is written meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    topic: String,
    ranges: Vec<Range>,
}

impl Extent {
    /// What `topic` holds now.
    ///
    /// # Errors
    /// When the brokers do not answer, or the topic does not exist.
    pub async fn of(config: &KafkaConfig, topic: &str) -> anyhow::Result<Self> {
        let client = Clients::new(config)?.reader(GROUP)?;
        let name = topic.to_owned();
        let ranges = tokio::task::spawn_blocking(move || ranges(&client, &name)).await?.with_context(|| {
            format!("no Kafka broker answered at {}; check KAFKA_BOOTSTRAP_SERVERS", config.bootstrap_servers)
        })?;
        anyhow::ensure!(!ranges.is_empty(), "Kafka has no topic {topic:?}; check the KAFKA_*_TOPIC settings");
        Ok(Self { topic: topic.to_owned(), ranges })
    }

    fn range(&self, partition: i32) -> Option<Range> {
        self.ranges.iter().find(|range| range.partition == partition).copied()
    }
}

fn ranges(client: &Reader, topic: &str) -> anyhow::Result<Vec<Range>> {
    let metadata = metadata(client, topic, METADATA_TIMEOUT).map_err(anyhow::Error::msg)?;
    let found = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
    let mut partitions: Vec<i32> = found.flat_map(|found| found.partitions()).map(|found| found.id()).collect();
    partitions.sort_unstable();
    let range = |partition| {
        let (low, high) = client.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
        Ok(Range { partition, low, high })
    };
    partitions.into_iter().map(range).collect()
}

/// Reads the records of an extent: partition by partition, in order of their offsets.
pub struct TopicScan {
    consumer: StreamReader,
    topic: String,
    ahead: VecDeque<Range>,
    current: Option<Range>,
}

impl TopicScan {
    /// A scan of `extent`.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(config: &KafkaConfig, extent: &Extent) -> anyhow::Result<Self> {
        let clients = Clients::new(config)?;
        let mut client = clients.tickets_config();
        // A reset would skip or repeat silently; the end is told even where the last offsets hold no records.
        client.set("group.id", GROUP).set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        let ahead = extent.ranges.iter().filter(|range| range.low < range.high).copied().collect();
        let consumer = client.create_with_context(clients.context("reader"))?;
        Ok(Self { consumer, topic: extent.topic.clone(), ahead, current: None })
    }

    /// The next record, `None` at the end.
    ///
    /// # Errors
    /// When the brokers do not give it in time.
    pub async fn next(&mut self) -> anyhow::Result<Option<OwnedMessage>> {
        loop {
            let range = match self.current {
                Some(range) if range.low < range.high => range,
                _ => match self.ahead.pop_front() {
                    None => return Ok(None),
                    Some(range) => {
                        let mut offsets = TopicPartitionList::new();
                        offsets.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.low))?;
                        self.consumer.assign(&offsets)?;
                        range
                    }
                },
            };
            self.current = None;
            let Some(message) = self.receive(range).await? else { continue };
            self.current = Some(Range { low: message.offset() + 1, ..range });
            if message.offset() < range.high {
                return Ok(Some(message));
            }
        }
    }

    /// The next record of the partition, `None` when there is none before its present end.
    async fn receive(&self, range: Range) -> anyhow::Result<Option<OwnedMessage>> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = "no answer".to_owned();
        loop {
            let received = tokio::time::timeout_at(deadline, self.consumer.recv()).await;
            match received {
                Err(_) => anyhow::bail!(
                    "partition {} of topic {} could not be read from offset {} on within {} s: {last}",
                    range.partition,
                    self.topic,
                    range.low,
                    PATIENCE.as_secs()
                ),
                Ok(Err(KafkaError::PartitionEOF(partition))) if partition == range.partition => return Ok(None),
                // Of the partition before.
                Ok(Err(KafkaError::PartitionEOF(_))) => {}
                Ok(Ok(message)) if message.partition() != range.partition || message.offset() < range.low => {}
                Ok(Ok(message)) => return Ok(Some(message.detach())),
                Ok(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    anyhow::bail!("topic {} cannot be read: {code}", self.topic)
                }
                // It reconnects by itself.
                Ok(Err(error)) => {
                    last = error.to_string();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// The record at an offset; `None` when it is not there (any more).
///
/// # Errors
/// When the brokers do not answer, or the topic does not exist.
pub async fn fetch(
    config: &KafkaConfig,
    topic: &str,
    partition: i32,
    offset: i64,
) -> anyhow::Result<Option<OwnedMessage>> {
    let extent = Extent::of(config, topic).await?;
    let Some(range) = extent.range(partition).filter(|range| (range.low..range.high).contains(&offset)) else {
        return Ok(None);
    };
    let one = Extent { topic: extent.topic, ranges: vec![Range { low: offset, high: offset + 1, ..range }] };
    TopicScan::new(config, &one)?.next().await
}
