//! Tickets to and from bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::avro_datum;
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::fields::{type_name, wire_text};
use crate::framing::check_size;
use crate::ids::TicketId;
use crate::ticket::{Qos, Ticket};
use crate::ticket_object;
use crate::vocabulary::{Priority, RiskBand, SecurityLevel, TaskType, TicketStatus};
use crate::writer_schema::WriterSchema;

/// Decodes the body of a framed Avro message, written with `writer`.
///
/// # Errors
///
/// See [`DecodeErrorKind`]. Bytes left over are an error: they mean that the schema is not the writer's.
pub fn decode_avro_ticket(body: &[u8], writer: &WriterSchema) -> Result<Ticket, DecodeError> {
    check_size(body)?;
    let mut object = avro_datum::read(body, writer)?;
    // The reader's schema states defaults for two fields that a JSON ticket must have: a writer whose schema lacks one of
    // them means its default. All other defaults are those of a field that is absent.
    object.entry("status").or_insert_with(|| TicketStatus::Pending.as_str().into());
    object.entry("dependencies").or_insert_with(|| Value::Array(Vec::new()));
    ticket(object)
}

/// Decodes a ticket from JSON text, with the tolerance that `contracts/kafka.md §5.1` and INC-39 ask for.
///
/// # Errors
///
/// See [`DecodeErrorKind`].
pub fn decode_json_ticket(bytes: &[u8]) -> Result<Ticket, DecodeError> {
    ticket(json_object(bytes)?)
}

fn ticket(mut object: Map<String, Value>) -> Result<Ticket, DecodeError> {
    ticket_object::read(&mut object).map_err(|kind| DecodeError::with_original(kind, Value::Object(object)))
}

/// The one object that a JSON message holds.
pub(crate) fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, DecodeErrorKind> {
    check_size(bytes)?;
    let text =
        std::str::from_utf8(bytes).map_err(|error| DecodeErrorKind::InvalidUtf8 { offset: error.valid_up_to() })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(DecodeErrorKind::NotAnObject { found: type_name(&other) }),
        Err(error) => Err(DecodeErrorKind::InvalidJson { reason: error.to_string() }),
    }
}

/// Encodes a ticket as a framed Avro message.
///
/// Parameter values that are not strings become JSON text and nulls are left out (`contracts/kafka.md §5.3`). A
/// missing `decision_id` becomes the empty text and a missing `qos` the default. Equal tickets give equal bytes.
///
/// # Errors
///
/// [`EncodeError::MissingField`] when the ticket lacks `sla`, one of its fields, or `created_at`: inventing a deadline
/// would be worse than publishing as JSON.
pub fn encode_avro_ticket(ticket: &Ticket, schema_id: u32) -> Result<Vec<u8>, EncodeError> {
    let missing = |field| EncodeError::MissingField { ticket_id: ticket.ticket_id.clone(), field };
    let sla = ticket.sla.as_ref().ok_or_else(|| missing("sla"))?;
    let record = AvroTicket {
        ticket_id: ticket.ticket_id.as_str(),
        plan_id: ticket.plan_id.as_str(),
        intent_id: ticket.intent_id.as_str(),
        decision_id: ticket.decision_id.as_deref().unwrap_or_default(),
        correlation_id: ticket.correlation_id.as_deref(),
        trace_id: ticket.trace_id.as_deref(),
        span_id: ticket.span_id.as_deref(),
        task_id: ticket.task_id.as_str(),
        task_type: ticket.task_type,
        description: &ticket.description,
        dependencies: &ticket.dependencies,
        status: ticket.status,
        priority: ticket.priority,
        risk_band: ticket.risk_band,
        sla: AvroSla {
            deadline: sla.deadline.ok_or_else(|| missing("sla.deadline"))?,
            timeout_ms: sla.timeout_ms.ok_or_else(|| missing("sla.timeout_ms"))?,
            max_retries: sla.max_retries.ok_or_else(|| missing("sla.max_retries"))?,
        },
        qos: ticket.qos.clone().unwrap_or_default(),
        parameters: text_map(&ticket.parameters),
        required_capabilities: &ticket.required_capabilities,
        security_level: ticket.security_level,
        created_at: ticket.created_at.ok_or_else(|| missing("created_at"))?,
        started_at: ticket.started_at,
        completed_at: ticket.completed_at,
        estimated_duration_ms: ticket.estimated_duration_ms,
        actual_duration_ms: ticket.actual_duration_ms,
        retry_count: ticket.retry_count,
        error_message: ticket.error_message.as_deref(),
        compensation_ticket_id: ticket.compensation_ticket_id.as_deref(),
        metadata: &ticket.metadata,
        schema_version: ticket.schema_version,
    };
    avro_datum::write(schema_id, &WriterSchema::ticket(), &record)
        .map_err(|reason| EncodeError::Avro { ticket_id: ticket.ticket_id.clone(), reason })
}

/// Encodes a ticket as JSON text with all 29 fields.
#[must_use]
pub fn encode_json_ticket(ticket: &Ticket) -> Vec<u8> {
    ticket.to_json().to_string().into_bytes()
}

/// The values as the texts that a map of strings carries.
pub(crate) fn text_map(values: &BTreeMap<String, Value>) -> BTreeMap<&str, String> {
    values.iter().filter_map(|(key, value)| Some((key.as_str(), wire_text(value)?))).collect()
}

/// The record as the schema orders it.
#[derive(Serialize)]
struct AvroTicket<'a> {
    ticket_id: &'a str,
    plan_id: &'a str,
    intent_id: &'a str,
    decision_id: &'a str,
    correlation_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    span_id: Option<&'a str>,
    task_id: &'a str,
    task_type: TaskType,
    description: &'a str,
    dependencies: &'a [TicketId],
    status: TicketStatus,
    priority: Priority,
    risk_band: RiskBand,
    sla: AvroSla,
    qos: Qos,
    parameters: BTreeMap<&'a str, String>,
    required_capabilities: &'a [String],
    security_level: SecurityLevel,
    created_at: i64,
    started_at: Option<i64>,
    completed_at: Option<i64>,
    estimated_duration_ms: Option<i64>,
    actual_duration_ms: Option<i64>,
    retry_count: i32,
    error_message: Option<&'a str>,
    compensation_ticket_id: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    schema_version: i32,
}

#[derive(Serialize)]
struct AvroSla {
    deadline: i64,
    timeout_ms: i64,
    max_retries: i32,
}
