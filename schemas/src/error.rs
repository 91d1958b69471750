//! Why a message cannot be read or written.

use serde_json::Value;

use crate::ids::TicketId;

/// Longest task type that a hint carries, in bytes.
const MAX_HINT_BYTES: usize = 64;

/// A message that is not a valid ticket or result.
///
/// Besides the reason it keeps what could still be read, so that the DLQ record names the ticket (INC-14: upstream
/// drops such messages without a trace).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct DecodeError {
    kind: DecodeErrorKind,
    original: Option<Box<Value>>,
}

impl DecodeError {
    pub(crate) fn with_original(kind: DecodeErrorKind, original: Value) -> Self {
        Self { kind, original: Some(Box::new(original)) }
    }

    /// Stable code: label of metrics, `dlq_metadata.error_code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.kind
    }

    /// The message as an object, when its form could be read and only its meaning was refused.
    #[must_use]
    pub fn original(&self) -> Option<&Value> {
        self.original.as_deref()
    }

    /// The ticket id, when the message has a valid one.
    #[must_use]
    pub fn ticket_id_hint(&self) -> Option<&str> {
        self.text("ticket_id").filter(|text| TicketId::is_valid(text))
    }

    /// The task type as the message spells it, when it is a plain word of at most 64 characters.
    ///
    /// It may be a word that no vocabulary has: bound it before it becomes a metric label.
    #[must_use]
    pub fn task_type_hint(&self) -> Option<&str> {
        self.text("task_type").filter(|text| {
            (1..=MAX_HINT_BYTES).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.original.as_deref()?.get(key)?.as_str()
    }
}

impl From<DecodeErrorKind> for DecodeError {
    fn from(kind: DecodeErrorKind) -> Self {
        Self { kind, original: None }
    }
}

impl From<SchemaError> for DecodeError {
    fn from(error: SchemaError) -> Self {
        DecodeErrorKind::UnusableSchema { reason: error.to_string() }.into()
    }
}

/// The reasons of a [`DecodeError`]. Texts never hold more than a short escaped excerpt of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The record has a null value.
    #[error("record has no value (tombstone): nothing to run")]
    Tombstone,
    /// The value is over [`crate::MAX_VALUE_BYTES`].
    #[error("value has {bytes} bytes, more than the {limit} of the topic: split the ticket or pass a reference")]
    Oversized {
        /// Size of the value.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is not framed Avro, and not UTF-8 either.
    #[error("value is neither framed avro nor utf-8: invalid byte at offset {offset}")]
    InvalidUtf8 {
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// The text is not JSON.
    #[error("value is not json: {reason}")]
    InvalidJson {
        /// What the parser says; it names line and column, not content.
        reason: String,
    },
    /// The JSON text is not an object.
    #[error("value is json but {found}, expected one object")]
    NotAnObject {
        /// The JSON type found.
        found: &'static str,
    },
    /// A required key is absent or null.
    #[error("required field {field} is missing: the producer must set it")]
    MissingField {
        /// Name of the field.
        field: &'static str,
    },
    /// A field's value has the wrong type or no meaning.
    #[error("field {field} is malformed: {reason}")]
    MalformedField {
        /// Name of the field, with a path for nested ones.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// The ticket id, or the id of a dependency, is not one.
    #[error("field {field}: {reason}")]
    InvalidTicketId {
        /// Name of the field.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// No executor can exist for this type (INC-89).
    #[error("field task_type: {reason}")]
    UnknownTaskType {
        /// What was found and what is known.
        reason: String,
    },
    /// The status of a result is not legal (INC-11).
    #[error("field status: {reason}")]
    UnknownExecutionStatus {
        /// What was found and what is known.
        reason: String,
    },
    /// The bytes do not fit the writer's schema.
    #[error("avro body does not fit its writer schema: {reason}")]
    AvroDecodeFailed {
        /// What the decoder says.
        reason: String,
    },
    /// Bytes are left over after the datum, so the schema id is probably wrong.
    #[error("{bytes} bytes are left over after the avro datum: check the schema id")]
    AvroTrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The writer's schema cannot be used.
    #[error("writer schema is unusable: {reason}")]
    UnusableSchema {
        /// Why.
        reason: String,
    },
}

impl DecodeErrorKind {
    /// Every code there is: a message is a ticket, or it has one of these.
    pub const CODES: [&'static str; 13] = [
        "tombstone",
        "oversized",
        "invalid_utf8",
        "invalid_json",
        "not_an_object",
        "missing_field",
        "malformed_field",
        "invalid_ticket_id",
        "unknown_task_type",
        "unknown_execution_status",
        "avro_decode_failed",
        "avro_trailing_bytes",
        "unusable_schema",
    ];

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Oversized { .. } => "oversized",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::NotAnObject { .. } => "not_an_object",
            Self::MissingField { .. } => "missing_field",
            Self::MalformedField { .. } => "malformed_field",
            Self::InvalidTicketId { .. } => "invalid_ticket_id",
            Self::UnknownTaskType { .. } => "unknown_task_type",
            Self::UnknownExecutionStatus { .. } => "unknown_execution_status",
            Self::AvroDecodeFailed { .. } => "avro_decode_failed",
            Self::AvroTrailingBytes { .. } => "avro_trailing_bytes",
            Self::UnusableSchema { .. } => "unusable_schema",
        }
    }

    pub(crate) fn malformed(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::MalformedField { field: field.into(), reason: reason.into() }
    }
}

/// A ticket or result that the wire form cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Avro requires a field that this ticket lacks.
    #[error("ticket {ticket_id}: avro requires {field}, which is absent: set it or publish as json")]
    MissingField {
        /// The ticket.
        ticket_id: TicketId,
        /// Name of the field.
        field: &'static str,
    },
    /// The encoder refused the record.
    #[error("ticket {ticket_id}: avro encoding failed: {reason}")]
    Avro {
        /// The ticket.
        ticket_id: TicketId,
        /// What the encoder says.
        reason: String,
    },
}

impl EncodeError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingField { .. } => "missing_field",
            Self::Avro { .. } => "avro_encode_failed",
        }
    }
}

/// A writer schema that must not be used for decoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text is over [`crate::MAX_SCHEMA_BYTES`].
    #[error("schema has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Size of the text.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The text is not an Avro schema.
    #[error("schema does not parse: {reason}")]
    Invalid {
        /// What the parser says.
        reason: String,
    },
    /// The schema's top is not a record.
    #[error("schema is not a record: tickets and results are")]
    NotARecord,
    /// The schema refers to itself, so a short message could nest without bound.
    #[error("schema is recursive at {name}: tickets and results are not")]
    Recursive {
        /// Name of the type.
        name: String,
    },
    /// The schema expands to too many or too deeply nested types.
    #[error("schema expands to more than {limit} types or nests too deeply")]
    TooComplex {
        /// The limit.
        limit: usize,
    },
    /// A collection's elements take no bytes, so a short message could claim millions.
    #[error("schema has an array or map whose elements take no bytes")]
    ZeroWidthElements,
}

impl SchemaError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "unusable_schema"
    }
}

#[cfg(test)]
mod tests {
    use super::DecodeErrorKind;

    /// A variant without a code does not compile; a code that is not listed fails here.
    #[test]
    fn every_code_is_listed() {
        let source = include_str!("error.rs");
        let (_, code) = source.split_once("impl DecodeErrorKind {").expect("the codes");
        let (_, code) = code.split_once("match self {").expect("the codes");
        let (code, _) = code.split_once("\n        }").expect("the codes");
        let found: Vec<&str> = code.split('"').skip(1).step_by(2).collect();
        assert_eq!(found, DecodeErrorKind::CODES);
    }
}
