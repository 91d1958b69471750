//! Reads a ticket from a JSON object: fills the holes producers leave, checks what the rest means.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::DecodeErrorKind;
use crate::fields::{Fields, MAX_DURATION_MS, integral, type_name};
use crate::ids::{IntentId, PlanId, TaskId, TicketId};
use crate::parameters::MAX_PARAMETER_DEPTH;
use crate::ticket::{Qos, Sla, Ticket};
use crate::vocabulary::{Priority, RiskBand, SecurityLevel, TaskType, TicketStatus, UnknownWord};

type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// Most dependencies of one ticket: the number of signals one workflow takes.
pub const MAX_DEPENDENCIES: usize = 10_000;
/// Longest `task_id` in characters: the ticket service's column (`contracts/kafka.md §5`).
pub const MAX_TASK_ID_CHARS: usize = 255;
/// Longest other id in characters.
pub const MAX_ID_CHARS: usize = 200;
/// Most retries a ticket may ask for. The orchestrator asks for 5 at most.
pub const MAX_RETRIES: i32 = 1000;

/// Reads a ticket. Keys the schema does not have are ignored (the orchestrator adds `predictions`,
/// `allocation_metadata` and, on compensation tickets, `original_ticket_id`).
///
/// On success the parameters have been moved out of `object`; on failure it is as it was. They may be the whole message,
/// and a JSON tree takes many times the room of its text, so there is never a second copy.
pub(crate) fn read(object: &mut Map<String, Value>) -> Result<Ticket> {
    let mut ticket = read_fields(object)?;
    ticket.parameters = take_parameters(object)?;
    Ok(ticket)
}

fn read_fields(object: &Map<String, Value>) -> Result<Ticket> {
    let fields = Fields::new(object, "");
    let id = |key| Ok::<_, DecodeErrorKind>(fields.id(key, MAX_ID_CHARS)?.map(str::to_owned));
    let ticket_id = ticket_id(fields)?;
    Ok(Ticket {
        task_id: task_id(fields)?,
        task_type: task_type(fields)?,
        status: status(fields)?,
        dependencies: dependencies(fields)?,
        plan_id: id("plan_id")?.map(PlanId::from).unwrap_or_default(),
        intent_id: id("intent_id")?.map(IntentId::from).unwrap_or_default(),
        decision_id: id("decision_id")?.filter(|text| !text.is_empty()),
        correlation_id: id("correlation_id")?.map_or_else(|| id("correlationId"), |found| Ok(Some(found)))?,
        trace_id: id("trace_id")?,
        span_id: id("span_id")?,
        description: fields.text("description")?.unwrap_or_default().to_owned(),
        priority: priority(fields)?,
        risk_band: fields.word("risk_band")?.unwrap_or(RiskBand::Medium),
        sla: fields.object("sla")?.map(sla).transpose()?,
        qos: fields.object("qos")?.map(qos).transpose()?,
        parameters: BTreeMap::new(),
        required_capabilities: fields.texts("required_capabilities")?,
        security_level: fields.word("security_level")?.unwrap_or(SecurityLevel::Internal),
        created_at: fields.time("created_at")?,
        started_at: fields.time("started_at")?,
        completed_at: fields.time("completed_at")?,
        estimated_duration_ms: fields.integer("estimated_duration_ms", 0..=MAX_DURATION_MS)?,
        actual_duration_ms: fields.integer("actual_duration_ms", 0..=MAX_DURATION_MS)?,
        retry_count: fields.small_integer("retry_count", 0..=i32::MAX)?.unwrap_or(0),
        error_message: fields.text("error_message")?.map(str::to_owned),
        compensation_ticket_id: id("compensation_ticket_id")?,
        metadata: fields.text_map("metadata")?,
        schema_version: fields.small_integer("schema_version", 1..=i32::MAX)?.unwrap_or(1),
        ticket_id,
    })
}

pub(crate) fn ticket_id(fields: Fields<'_>) -> Result<TicketId> {
    fields.required("ticket_id")?;
    parse_ticket_id("ticket_id", fields.text("ticket_id")?.unwrap_or_default())
}

fn parse_ticket_id(field: &str, text: &str) -> Result<TicketId> {
    TicketId::parse(text)
        .map_err(|error| DecodeErrorKind::InvalidTicketId { field: field.to_owned(), reason: error.to_string() })
}

fn task_id(fields: Fields<'_>) -> Result<TaskId> {
    fields.required("task_id")?;
    match fields.id("task_id", MAX_TASK_ID_CHARS)? {
        Some(text) if !text.is_empty() => Ok(TaskId::from(text)),
        _ => Err(fields.malformed("task_id", "is empty")),
    }
}

fn task_type(fields: Fields<'_>) -> Result<TaskType> {
    fields.required("task_type")?;
    fields
        .text("task_type")?
        .unwrap_or_default()
        .parse()
        .map_err(|error: UnknownWord| DecodeErrorKind::UnknownTaskType { reason: error.to_string() })
}

fn status(fields: Fields<'_>) -> Result<TicketStatus> {
    fields.word("status")?.ok_or(DecodeErrorKind::MissingField { field: "status" })
}

fn dependencies(fields: Fields<'_>) -> Result<Vec<TicketId>> {
    fields.required("dependencies")?;
    let items = fields.array("dependencies")?.map(Vec::as_slice).unwrap_or_default();
    if items.len() > MAX_DEPENDENCIES {
        return Err(
            fields.malformed("dependencies", format!("has {} entries, more than {MAX_DEPENDENCIES}", items.len()))
        );
    }
    items
        .iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::String(text) => parse_ticket_id(&format!("dependencies[{index}]"), text),
            _ => Err(fields.malformed("dependencies", "expected an array of strings")),
        })
        .collect()
}

/// A word or the legacy number 1–10 (`contracts/kafka.md §5.1`).
fn priority(fields: Fields<'_>) -> Result<Priority> {
    match fields.get("priority") {
        Some(value @ Value::Number(_)) => integral(value)
            .and_then(Priority::from_legacy_number)
            .ok_or_else(|| fields.malformed("priority", "a legacy number must be an integer from 1 to 10")),
        _ => Ok(fields.word("priority")?.unwrap_or(Priority::Normal)),
    }
}

fn sla(object: &Map<String, Value>) -> Result<Sla> {
    let fields = Fields::new(object, "sla.");
    Ok(Sla {
        deadline: fields.time("deadline")?,
        timeout_ms: fields.integer("timeout_ms", 1..=MAX_DURATION_MS)?,
        max_retries: fields.small_integer("max_retries", 0..=MAX_RETRIES)?,
    })
}

fn qos(object: &Map<String, Value>) -> Result<Qos> {
    let fields = Fields::new(object, "qos.");
    let default = Qos::default();
    Ok(Qos {
        delivery_mode: fields.word("delivery_mode")?.unwrap_or(default.delivery_mode),
        consistency: fields.word("consistency")?.unwrap_or(default.consistency),
        durability: fields.word("durability")?.unwrap_or(default.durability),
    })
}

fn take_parameters(object: &mut Map<String, Value>) -> Result<BTreeMap<String, Value>> {
    match object.get_mut("parameters") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        // What no executor can read, and what could not be read back once it is wrapped in other objects.
        Some(Value::Object(parameters)) if parameters.values().any(|value| deeper_than(value, MAX_PARAMETER_DEPTH)) => {
            Err(DecodeErrorKind::malformed("parameters", format!("nested deeper than {MAX_PARAMETER_DEPTH} levels")))
        }
        Some(Value::Object(parameters)) => Ok(std::mem::take(parameters).into_iter().collect()),
        Some(other) => {
            Err(DecodeErrorKind::malformed("parameters", format!("expected an object, found {}", type_name(other))))
        }
    }
}

/// Whether arrays and objects are nested deeper than `levels`. JSON text has a limit of its own (128 levels), so this
/// never goes deep itself.
fn deeper_than(value: &Value, levels: usize) -> bool {
    let Some(inside) = levels.checked_sub(1) else { return matches!(value, Value::Array(_) | Value::Object(_)) };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(item, inside)),
        Value::Object(entries) => entries.values().any(|entry| deeper_than(entry, inside)),
        _ => false,
    }
}
