//! Where results go: `execution.results`, acknowledged by the broker before a ticket closes.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use serde_json::json;
use ticket_activities::{PublishError, ResultSink, border};
use ticket_schemas::{ExecutionResult, RESULT_SCHEMA_JSON, encode_avro_result, encode_json_result};
use ticket_workflows::Report;

use crate::config::{KafkaConfig, ResultEncoding};
use crate::events::{ResultDelayed, ResultPublished};
use crate::kafka::{DELIVERY_TIMEOUT, Producer};
use crate::metrics::Metrics;
use crate::registry::RegistryClient;

/// Header that recognises copies of one result.
pub const RESULT_ID_HEADER: &str = "x-neural-hive-result-id";
/// Largest result sent, in bytes: below the topic's `max.message.bytes` of 1 MiB, with room for key and headers.
const MAX_RESULT_BYTES: usize = 1_000_000;

/// Publishes results to Kafka.
pub struct KafkaResultSink {
    producer: Producer,
    topic: String,
    encoding: ResultEncoding,
    registry: Option<Arc<RegistryClient>>,
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
    ) -> Self {
        metrics.kafka_producer_initialized.inc();
        Self { producer, topic: config.results_topic.clone(), encoding: config.result_encoding, registry, metrics }
    }

    async fn send(&self, report: &Report) -> Result<&'static str, String> {
        let (mut payload, mut encoding) = self.encode(report).await?;
        if payload.len() > MAX_RESULT_BYTES {
            let small = without_output(report, payload.len());
            (payload, encoding) = self.encode(&small).await?;
        }
        let result = &report.result;
        let text = |name: &str| report.extra.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let header = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(header(RESULT_ID_HEADER, report.result_id.as_str()))
            .insert(header("x-neural-hive-source", "worker-agents"))
            .insert(header("x-neural-hive-plan-id", text("plan_id")))
            .insert(header("x-neural-hive-intent-id", text("intent_id")));
        let record = FutureRecord::to(&self.topic).key(result.ticket_id.as_str()).payload(&payload).headers(headers);
        match border("kafka.result", self.producer.send(record, Timeout::After(DELIVERY_TIMEOUT))).await {
            Ok(_) => Ok(encoding),
            Err((error, _)) => Err(error.to_string()),
        }
    }

    async fn encode(&self, report: &Report) -> Result<(Vec<u8>, &'static str), String> {
        let json = || Ok((encode_json_result(&report.result, &report.extra), "json"));
        let registry = match (self.encoding, &self.registry) {
            (ResultEncoding::Json, _) | (_, None) => return json(),
            (_, Some(registry)) => registry,
        };
        let subject = format!("{}-value", self.topic);
        match registry.register(&subject, RESULT_SCHEMA_JSON).await {
            Ok(id) => {
                encode_avro_result(&report.result, id).map(|bytes| (bytes, "avro")).map_err(|error| error.to_string())
            }
            Err(error) if self.encoding == ResultEncoding::Auto => {
                tracing::warn!(ticket_id = %report.result.ticket_id, %error, "kafka_result_as_json");
                json()
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The same result, its output left out because it would not fit a message.
fn without_output(report: &Report, bytes: usize) -> Report {
    let mut small = report.clone();
    let result: &mut ExecutionResult = &mut small.result;
    result.result.output.clear();
    result.result.logs.clear();
    result.result.metadata.retain(|_, value| value.to_string().len() <= 4096);
    result.result.metadata.insert("output_omitted_bytes".to_owned(), json!(bytes));
    small
}

impl ResultSink for KafkaResultSink {
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>> {
        async move {
            match self.send(report).await {
                Ok(encoding) => {
                    self.metrics.emit(ResultPublished { report, encoding });
                    Ok(())
                }
                Err(cause) => {
                    self.metrics.emit(ResultDelayed { ticket_id: report.result.ticket_id.as_str(), error: &cause });
                    Err(PublishError {
                        result_id: report.result_id.clone(),
                        ticket_id: report.result.ticket_id.as_str().to_owned(),
                        cause,
                    })
                }
            }
        }
        .boxed()
    }
}
