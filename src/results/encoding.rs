//! A result as bytes: Avro or JSON, and small enough for the topic.

use std::sync::Arc;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use ticket_schemas::{ExecutionResult, RESULT_SCHEMA_JSON, encode_avro_result, encode_json_result};
use ticket_workflows::{Report, TraceContext};

use super::RESULT_ID_HEADER;
use crate::config::ResultEncoding;
use crate::events::ResultFellBack;
use crate::metrics::Metrics;
use crate::registry::{RegistryClient, value_subject};

/// Largest result sent, in bytes: below the topic's `max.message.bytes` of 1 MiB, with room for key and headers.
const MAX_RESULT_BYTES: usize = 1_000_000;
/// Longest value that stays in the metadata of a result without its output, in bytes of JSON.
const MAX_METADATA_VALUE_BYTES: usize = 4096;

/// A result, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) payload: Vec<u8>,
    /// `avro` or `json`.
    pub(super) encoding: &'static str,
    /// Whether output and logs were left out.
    pub(super) omits_output: bool,
}

/// Encodes results for one topic.
pub(super) struct Encoder {
    topic: String,
    encoding: ResultEncoding,
    registry: Option<Arc<RegistryClient>>,
    metrics: Arc<Metrics>,
}

impl Encoder {
    pub(super) fn new(
        topic: String,
        encoding: ResultEncoding,
        registry: Option<Arc<RegistryClient>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { topic, encoding, registry, metrics }
    }

    /// Encodes the report; without its output when it would be too large.
    pub(super) async fn encode(&self, report: &Report) -> Result<Encoded, String> {
        let whole = self.bytes(report).await?;
        if whole.payload.len() <= MAX_RESULT_BYTES {
            return Ok(whole);
        }
        self.encode_without_output(report, whole.payload.len()).await
    }

    /// Encodes the report without its output, which made it `bytes` long.
    pub(super) async fn encode_without_output(&self, report: &Report, bytes: usize) -> Result<Encoded, String> {
        let encoded = self.bytes(&without_output(report, bytes)).await?;
        Ok(Encoded { omits_output: true, ..encoded })
    }

    async fn bytes(&self, report: &Report) -> Result<Encoded, String> {
        let json = || Encoded {
            payload: encode_json_result(&report.result, &report.extra),
            encoding: "json",
            omits_output: false,
        };
        let registry = match (self.encoding, &self.registry) {
            (ResultEncoding::Json, _) | (_, None) => return Ok(json()),
            (_, Some(registry)) => registry,
        };
        let avro = match registry.register(&value_subject(&self.topic), RESULT_SCHEMA_JSON).await {
            Ok(id) => encode_avro_result(&report.result, id).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match avro {
            Ok(payload) => Ok(Encoded { payload, encoding: "avro", omits_output: false }),
            // For this message only: the next one asks again (INC-07).
            Err(error) if self.encoding == ResultEncoding::Auto => {
                self.metrics.emit(ResultFellBack { ticket_id: report.result.ticket_id.as_str(), error: &error });
                Ok(json())
            }
            Err(error) => Err(error),
        }
    }
}

/// The headers of a result: its id, what it belongs to, and its place in the trace of its ticket (`contracts/kafka.md §3`,
/// INC-04).
pub(super) fn headers(report: &Report, trace: &TraceContext) -> OwnedHeaders {
    let text = |name: &str| report.extra.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let own = [
        (RESULT_ID_HEADER, report.result_id.as_str()),
        ("x-neural-hive-source", "worker-agents"),
        ("x-neural-hive-plan-id", text("plan_id")),
        ("x-neural-hive-intent-id", text("intent_id")),
    ];
    own.into_iter()
        .chain(trace.headers())
        .filter(|(_, value)| !value.is_empty())
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// The same result, its output left out because it would not fit a message.
fn without_output(report: &Report, bytes: usize) -> Report {
    let mut small = report.clone();
    let result: &mut ExecutionResult = &mut small.result;
    result.result.output.clear();
    result.result.logs.clear();
    result.result.metadata.retain(|_, value| value.to_string().len() <= MAX_METADATA_VALUE_BYTES);
    result.result.metadata.insert("output_omitted_bytes".to_owned(), json!(bytes));
    small
}
