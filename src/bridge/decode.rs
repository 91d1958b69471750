//! From a record to a ticket, or to the reason why it is none.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use ticket_schemas::{
    DecodeError, Frame, MAX_TICKET_ID_BYTES, TaskType, Ticket, TicketStatus, decode_avro_ticket, decode_json_ticket,
};
use ticket_workflows::RecordPosition;

use super::decision::Refusal;
use super::record::Record;
use crate::registry::{RegistryClient, RegistryError};

/// What a record is.
pub(crate) enum Decoded {
    /// A ticket to start.
    Ticket(Box<Ticket>),
    /// A ticket that is not PENDING: not for a worker.
    NotPending(Box<Ticket>),
    /// A ticket that another service takes from the same topic (INC-03).
    Ignored(Box<Ticket>),
    /// Not a ticket, or not one for this worker.
    Rejected(Rejection),
}

/// Why a record becomes no ticket.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    /// Stable error code.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) error: String,
    /// The decoded object, as far as there is one.
    pub(crate) original: Option<Value>,
    pub(crate) ticket_id: Option<String>,
    pub(crate) task_type: Option<String>,
}

impl Rejection {
    /// The rejection of a ticket that decoded.
    fn of_ticket(code: &'static str, error: String, ticket: &Ticket) -> Self {
        Self {
            code,
            error,
            original: Some(ticket.to_json()),
            ticket_id: Some(ticket.ticket_id.as_str().to_owned()),
            task_type: Some(ticket.task_type.as_str().to_owned()),
        }
    }

    /// The rejection of a ticket that is not to be started.
    pub(crate) fn of_refusal(refusal: &Refusal, ticket: &Ticket, position: &RecordPosition) -> Self {
        let ticket_id = &ticket.ticket_id;
        let (code, error) = match refusal {
            Refusal::Collision { first } => (
                "ticket_id_collision",
                format!(
                    "ticket id {ticket_id} was started before by {first:?} with different work; this record at {position} was not run. \
                     give the ticket an id of its own"
                ),
            ),
            Refusal::TooOld { age, retention } => (
                "record_older_than_retention",
                format!(
                    "the record is {} h old and Temporal remembers tickets for {} h: whether it ran before is not known, so it was not run. \
                     look for its result and re-drive it if there is none; raise the namespace's retention above the topic's",
                    age.as_secs() / 3600,
                    retention.as_secs() / 3600
                ),
            ),
            Refusal::Ticket { reason } => ("ticket_refused", format!("the server refused the ticket: {reason}")),
        };
        Self::of_ticket(code, error, ticket)
    }

    fn of_record(code: &'static str, error: String) -> Self {
        Self { code, error, original: None, ticket_id: None, task_type: None }
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        Self {
            code: error.code(),
            error: error.to_string(),
            ticket_id: error.ticket_id_hint().map(bounded),
            task_type: error.task_type_hint().map(bounded),
            original: error.original().cloned(),
        }
    }
}

/// A hint is whatever the record says it is; nobody needs more of it than an id has.
fn bounded(hint: &str) -> String {
    hint.chars().take(MAX_TICKET_ID_BYTES).collect()
}

/// Decodes records.
pub(crate) struct Decoder {
    registry: Option<Arc<RegistryClient>>,
    supported: BTreeSet<TaskType>,
    ignored: BTreeSet<TaskType>,
}

impl Decoder {
    pub(crate) fn new(
        registry: Option<Arc<RegistryClient>>,
        supported: BTreeSet<TaskType>,
        ignored: BTreeSet<TaskType>,
    ) -> Self {
        Self { registry, supported, ignored }
    }

    /// Whether decoding has to ask the registry.
    pub(crate) fn needs_registry(&self, record: &Record) -> bool {
        let Ok(Frame::Avro { schema_id, .. }) = Frame::detect(record.value.as_deref()) else { return false };
        self.registry.as_ref().is_some_and(|registry| !registry.knows(schema_id))
    }

    /// Decodes, or says that the registry is needed and away: then the record waits (INC-06, INC-07).
    pub(crate) async fn decode(&self, record: &Record) -> Result<Decoded, RegistryError> {
        let decoded = match Frame::detect(record.value.as_deref()) {
            Err(error) => Err(error),
            Ok(Frame::Json(text)) => decode_json_ticket(text),
            Ok(Frame::Avro { schema_id, body }) => {
                let Some(registry) = &self.registry else {
                    let error = format!(
                        "the value is framed Avro with schema id {schema_id}, and no schema registry is configured; \
                         set KAFKA_SCHEMA_REGISTRY_URL and publish the record again"
                    );
                    return Ok(Decoded::Rejected(Rejection::of_record("schema_registry_not_configured", error)));
                };
                match registry.writer_schema(schema_id).await {
                    Ok(writer) => decode_avro_ticket(body, &writer),
                    Err(error) if error.may_pass() => return Err(error),
                    Err(error) => {
                        let code = if matches!(error, RegistryError::NotFound(_)) {
                            "schema_not_found"
                        } else {
                            "unusable_schema"
                        };
                        return Ok(Decoded::Rejected(Rejection::of_record(code, error.to_string())));
                    }
                }
            }
        };
        Ok(match decoded {
            Err(error) => Decoded::Rejected(error.into()),
            Ok(ticket) if ticket.status != TicketStatus::Pending => Decoded::NotPending(Box::new(ticket)),
            Ok(ticket) if self.ignored.contains(&ticket.task_type) => Decoded::Ignored(Box::new(ticket)),
            Ok(ticket) if !self.supported.contains(&ticket.task_type) => {
                let error = format!(
                    "task type {} is not among SUPPORTED_TASK_TYPES of this worker; add it or publish to a fleet that has it",
                    ticket.task_type
                );
                Decoded::Rejected(Rejection::of_ticket("unsupported_task_type", error, &ticket))
            }
            Ok(ticket) => Decoded::Ticket(Box::new(ticket)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Codes of dead letters that only the bridge knows. The decoder's own are `DecodeErrorKind::CODES`.
    const CODES: [&str; 7] = [
        "record_older_than_retention",
        "schema_not_found",
        "schema_registry_not_configured",
        "ticket_id_collision",
        "ticket_refused",
        "unsupported_task_type",
        "unusable_schema",
    ];

    #[test]
    fn every_code_of_the_bridge_has_a_line_in_the_operators_page() {
        let (code, _) = include_str!("decode.rs").split_once("#[cfg(test)]").expect("code above the tests");
        let is_code = |text: &&str| text.contains('_') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let found: BTreeSet<&str> = code.split('"').filter(is_code).collect();
        assert_eq!(found, BTreeSet::from(CODES));
        let page = include_str!("../../docs/operations/error-codes.md");
        for code in CODES {
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{code}` |"))), "{code}");
        }
    }
}
