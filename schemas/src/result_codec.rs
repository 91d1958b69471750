//! Results to and from bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::avro_datum;
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::fields::{Fields, MAX_DURATION_MS, wire_text};
use crate::framing::check_size;
use crate::result::{ExecutionResult, ExecutionResultPayload};
use crate::ticket_codec::{json_object, text_map};
use crate::ticket_object::{MAX_ID_CHARS, ticket_id};
use crate::vocabulary::{ExecutionStatus, UnknownWord};
use crate::writer_schema::WriterSchema;

/// Encodes a result as a framed Avro message. Equal results give equal bytes.
///
/// # Errors
///
/// [`EncodeError::Avro`] when the encoder refuses the record, which no value of the type is known to cause.
pub fn encode_avro_result(result: &ExecutionResult, schema_id: u32) -> Result<Vec<u8>, EncodeError> {
    avro_datum::write(schema_id, &WriterSchema::result(), &WireResult::new(result))
        .map_err(|reason| EncodeError::Avro { ticket_id: result.ticket_id.clone(), reason })
}

/// Encodes a result as JSON text. Equal results give equal bytes.
///
/// `extra` holds further top-level keys that readers of the platform look for (INC-12: `execution_time_ms`,
/// `sla_deadline`, `correlation_id`, …). They never replace a key of the contract.
#[must_use]
pub fn encode_json_result(result: &ExecutionResult, extra: &BTreeMap<String, Value>) -> Vec<u8> {
    let mut object: Map<String, Value> = extra.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    // Nothing in a result can fail here: keys are strings and numbers are finite.
    if let Ok(Value::Object(own)) = serde_json::to_value(WireResult::new(result)) {
        object.extend(own);
    }
    Value::Object(object).to_string().into_bytes()
}

/// Decodes the body of a framed Avro message, written with `writer`.
///
/// # Errors
///
/// See [`DecodeErrorKind`].
pub fn decode_avro_result(body: &[u8], writer: &WriterSchema) -> Result<ExecutionResult, DecodeError> {
    check_size(body)?;
    decode(avro_datum::read(body, writer)?)
}

/// Decodes a result from JSON text; keys the schema does not have are ignored.
///
/// # Errors
///
/// See [`DecodeErrorKind`]. A status like `PREEMPTED`, which the schema does not have, is `unknown_execution_status`
/// (INC-11).
pub fn decode_json_result(bytes: &[u8]) -> Result<ExecutionResult, DecodeError> {
    decode(json_object(bytes)?)
}

fn decode(object: Map<String, Value>) -> Result<ExecutionResult, DecodeError> {
    read(&object).map_err(|kind| DecodeError::with_original(kind, Value::Object(object)))
}

fn read(object: &Map<String, Value>) -> Result<ExecutionResult, DecodeErrorKind> {
    let fields = Fields::new(object, "");
    let missing = |field| DecodeErrorKind::MissingField { field };
    let ticket_id = ticket_id(fields)?;
    let payload = fields.object("result")?.ok_or_else(|| missing("result"))?;
    Ok(ExecutionResult {
        ticket_id,
        status: status(fields)?,
        result: read_payload(payload)?,
        error_message: fields.text("error_message")?.map(str::to_owned),
        actual_duration_ms: fields.integer("actual_duration_ms", 0..=MAX_DURATION_MS)?,
        agent_id: fields.id("agent_id", MAX_ID_CHARS)?.ok_or_else(|| missing("agent_id"))?.to_owned(),
        timestamp: fields.time("timestamp")?.ok_or_else(|| missing("timestamp"))?,
        schema_version: fields.small_integer("schema_version", 1..=i32::MAX)?.unwrap_or(1),
    })
}

fn status(fields: Fields<'_>) -> Result<ExecutionStatus, DecodeErrorKind> {
    fields
        .text("status")?
        .ok_or(DecodeErrorKind::MissingField { field: "status" })?
        .parse()
        .map_err(|error: UnknownWord| DecodeErrorKind::UnknownExecutionStatus { reason: error.to_string() })
}

fn read_payload(object: &Map<String, Value>) -> Result<ExecutionResultPayload, DecodeErrorKind> {
    let fields = Fields::new(object, "result.");
    let texts = |key| {
        Ok::<_, DecodeErrorKind>(
            fields.text_map(key)?.into_iter().map(|(key, text)| (key, Value::String(text))).collect(),
        )
    };
    let success = match fields.get("success") {
        Some(Value::Bool(success)) => *success,
        Some(_) => return Err(fields.malformed("success", "expected a boolean")),
        None => {
            return Err(DecodeErrorKind::MissingField { field: "result.success" });
        }
    };
    // Upstream writes each log entry as text whatever it was.
    let logs = fields.array("logs")?.map(Vec::as_slice).unwrap_or_default().iter().filter_map(wire_text).collect();
    Ok(ExecutionResultPayload { success, output: texts("output")?, metadata: texts("metadata")?, logs })
}

/// The record as the schema orders it, with the texts that the wire carries.
#[derive(Serialize)]
struct WireResult<'a> {
    ticket_id: &'a str,
    status: ExecutionStatus,
    result: WirePayload<'a>,
    error_message: Option<&'a str>,
    actual_duration_ms: Option<i64>,
    agent_id: &'a str,
    timestamp: i64,
    schema_version: i32,
}

#[derive(Serialize)]
struct WirePayload<'a> {
    success: bool,
    output: BTreeMap<&'a str, String>,
    metadata: BTreeMap<&'a str, String>,
    logs: &'a [String],
}

impl<'a> WireResult<'a> {
    fn new(result: &'a ExecutionResult) -> Self {
        Self {
            ticket_id: result.ticket_id.as_str(),
            status: result.status,
            result: WirePayload {
                success: result.result.success,
                output: text_map(&result.result.output),
                metadata: text_map(&result.result.metadata),
                logs: &result.result.logs,
            },
            error_message: result.error_message.as_deref(),
            actual_duration_ms: result.actual_duration_ms,
            agent_id: &result.agent_id,
            timestamp: result.timestamp,
            schema_version: result.schema_version,
        }
    }
}
