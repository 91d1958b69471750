//! The dead-letter topic: published, and acknowledged, before the source offset is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use ticket_activities::{border, now_ms};
use ticket_schemas::{DlqEnvelope, MAX_DLQ_RECORD_BYTES, TaskType};

use super::decode::Rejection;
use super::pace::pause;
use super::record::Record;
use crate::events::{DeadLetterFailed, RecordDeadLettered};
use crate::kafka::{DELIVERY_TIMEOUT, Producer};
use crate::metrics::Metrics;

/// Publishes dead letters.
pub(crate) struct DeadLetters {
    producer: Producer,
    topic: String,
    metrics: Arc<Metrics>,
    /// Records whose last try failed.
    failing: AtomicUsize,
}

/// Counts a record as failing until it is published or given up.
struct Failing<'a>(&'a AtomicUsize);

impl<'a> Failing<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DeadLetters {
    pub(crate) fn new(producer: Producer, topic: String, metrics: Arc<Metrics>) -> Self {
        Self { producer, topic, metrics, failing: AtomicUsize::default() }
    }

    /// Publishes until the broker has acknowledged it: the record has no other place to be safe in.
    pub(crate) async fn publish(&self, record: &Record, rejection: &Rejection) {
        let started = Instant::now();
        let (mut failures, mut limit) = (0u32, MAX_DLQ_RECORD_BYTES);
        let mut failing = None;
        loop {
            match self.try_publish(record, rejection, limit).await {
                Ok(()) => break,
                Err(error) => {
                    failing.get_or_insert_with(|| Failing::new(&self.failing));
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                        // A topic with a smaller `max.message.bytes` than the contract's: the original bytes alone fit.
                        limit = 0;
                    }
                    self.metrics.emit(DeadLetterFailed { position: record.position(), error: &error.to_string() });
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(pause(failures, fastrand::f64())).await;
                }
            }
        }
        drop(failing);
        self.metrics.emit(RecordDeadLettered {
            ticket_id: rejection.ticket_id.as_deref(),
            task_type: task_type_label(rejection.task_type.as_deref()),
            position: record.position(),
            code: rejection.code,
            error: &rejection.error,
            failures: record.failures(),
            took: started.elapsed(),
        });
    }

    /// Whether the brokers take no dead letters.
    pub(crate) fn is_away(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
    }

    async fn try_publish(&self, record: &Record, rejection: &Rejection, limit: usize) -> Result<(), KafkaError> {
        let now = now_ms();
        let headers = record.dlq_headers();
        let envelope = DlqEnvelope {
            original: rejection.original.as_ref(),
            ticket_id_hint: rejection.ticket_id.as_deref(),
            task_type_hint: rejection.task_type.as_deref(),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            headers_incomplete: !record.all_headers,
            source: record.dlq_source(),
            error: &rejection.error,
            error_type: rejection.code,
            error_code: rejection.code,
            retry_count: record.failures(),
            last_failure_at_ms: now,
            published_at_ms: now,
            software_version: env!("CARGO_PKG_VERSION"),
        };
        let payload = envelope.to_json_bytes_within(limit);
        let headers = envelope.platform_headers().into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key: &key, value: Some(&value) })
        });
        let message = FutureRecord::to(&self.topic).key(envelope.key()).payload(&payload).headers(headers);
        border("kafka.dead_letter", self.producer.send(message, Timeout::After(DELIVERY_TIMEOUT)))
            .await
            .map(drop)
            .map_err(|(error, _)| error)
    }
}

/// A bounded label: a task type of ours, or `unknown` (INC-92).
fn task_type_label(hint: Option<&str>) -> &'static str {
    hint.and_then(|hint| hint.parse::<TaskType>().ok()).map_or("unknown", TaskType::as_str)
}
