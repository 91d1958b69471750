//! Where results go: `execution.results`, acknowledged by the broker before a ticket closes
//! (`docs/adr/0006-results.md`).

mod delivery;
mod encoding;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ticket_activities::{PublishError, ResultSink};
use ticket_workflows::Report;

use crate::config::KafkaConfig;
use crate::events::ResultDelayed;
use crate::kafka::Producer;
use crate::metrics::Metrics;
use crate::registry::RegistryClient;
use crate::spans::Spans;
use delivery::{Deliveries, Undelivered};
use encoding::Encoder;

/// Header that recognises copies of one result.
pub const RESULT_ID_HEADER: &str = "x-neural-hive-result-id";

/// How often a result is sent again, one at a time, before it loses its output: brokers refuse a batch as a whole, so a
/// record may be refused for the size of another one. (Seen with Kafka 4.4.)
const TRIES_ALONE: usize = 2;

/// Publishes results to Kafka.
pub struct KafkaResultSink {
    encoder: Encoder,
    deliveries: Deliveries,
    /// Held by a record that is sent again after it was refused for its size.
    alone: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

impl KafkaResultSink {
    /// A sink that sends through `producer`.
    #[must_use]
    pub fn new(
        producer: Producer,
        config: &KafkaConfig,
        registry: Option<Arc<RegistryClient>>,
        metrics: Arc<Metrics>,
        spans: Spans,
    ) -> Self {
        metrics.kafka_producer_initialized.inc();
        let topic = config.results_topic.clone();
        Self {
            encoder: Encoder::new(topic.clone(), config.result_encoding, registry, Arc::clone(&metrics)),
            deliveries: Deliveries::new(producer, topic, Arc::clone(&metrics), spans),
            alone: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// Waits for the delivery of the report that is under way, or sends it: whole, and without its output when the topic
    /// does not take it.
    async fn send(&self, report: &Report) -> Result<(), Undelivered> {
        let refused = match self.deliveries.wait(&report.result_id).await {
            None => false,
            Some(Err(Undelivered::TooLarge { .. })) => true,
            Some(ended) => return ended,
        };
        let whole = self.encoder.encode(report).await.map_err(Undelivered::Failed)?;
        let bytes = whole.payload.len();
        if !refused || whole.omits_output {
            let mut ended = self.deliveries.send(report, whole.clone()).await;
            for _ in 0..TRIES_ALONE {
                if too_large(&ended) {
                    let _alone = self.alone.lock().await;
                    ended = self.deliveries.send(report, whole.clone()).await;
                }
            }
            if !too_large(&ended) || whole.omits_output {
                return ended;
            }
        }
        let small = self.encoder.encode_without_output(report, bytes).await.map_err(Undelivered::Failed)?;
        self.deliveries.send(report, small).await
    }
}

fn too_large(ended: &Result<(), Undelivered>) -> bool {
    matches!(ended, Err(Undelivered::TooLarge { .. }))
}

impl ResultSink for KafkaResultSink {
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            self.send(report).await.map_err(|error| {
                let cause = error.to_string();
                self.metrics.emit(ResultDelayed { ticket_id: report.result.ticket_id.as_str(), error: &cause });
                PublishError {
                    result_id: report.result_id.clone(),
                    ticket_id: report.result.ticket_id.as_str().to_owned(),
                    cause,
                }
            })
        }
        .boxed()
    }
}
