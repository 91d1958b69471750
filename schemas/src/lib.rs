//! The Kafka contract of execution tickets and results.
//!
//! **Owns** the Avro schemas, the types they decode into, the framing and both encodings, the typed view of a ticket's
//! parameters, the work digest that tells a duplicate from a collision, and the shape of dead-letter records. The
//! contract itself is written down in `contracts/kafka.md`; comments cite its sections and the known defects of the
//! platform (`INC-…`).
//!
//! **Never** does I/O, reads a clock, spawns anything or evaluates ticket content. Everything here is a function from
//! values to values; nothing panics on any input, and what a message can make a decoder allocate has a stated bound.
//!
//! **Called by** the bridge (frame, decode, digest, dead letters), by workflows (the ticket as their input), by
//! executors (parameters), by reporting (results) and by the command line (re-drive).
//!
//! ```
//! use ticket_schemas::{Frame, ParameterView, WorkDigest, WriterSchema, decode_avro_ticket, decode_json_ticket};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let value = br#"{"ticket_id": "t-1", "task_id": "list", "task_type": "query", "status": "PENDING",
//!                  "dependencies": [], "parameters": {"limit": "100", "entities": "['sap', 'hana']"}}"#;
//! let ticket = match Frame::detect(Some(value))? {
//!     // The bridge asks the registry for the schema of `schema_id`; the local one stands for it here.
//!     Frame::Avro { body, .. } => decode_avro_ticket(body, &WriterSchema::ticket())?,
//!     Frame::Json(text) => decode_json_ticket(text)?,
//! };
//!
//! #[derive(serde::Deserialize)]
//! struct Query {
//!     limit: u32,
//!     entities: Vec<String>,
//! }
//! let query: Query = ParameterView::new(&ticket.parameters).deserialize()?;
//! assert_eq!((query.limit, query.entities.len()), (100, 2));
//! assert_eq!(WorkDigest::of(&ticket).as_hex().len(), 64);
//! # Ok(())
//! # }
//! ```

mod avro_datum;
mod compatibility;
mod compensation;
mod digest;
mod dlq;
mod dlq_headers;
mod dlq_record;
mod error;
mod excerpt;
mod fields;
mod framing;
mod ids;
mod parameters;
mod python_literal;
mod result;
mod result_codec;
mod shell_words;
mod ticket;
mod ticket_codec;
mod ticket_object;
mod vocabulary;
mod writer_schema;

pub use avro_datum::MAX_AVRO_ALLOCATION_BYTES;
pub use compatibility::Readable;
pub use compensation::{
    COMPENSATION_DEADLINE_MS, COMPENSATION_REASON, COMPENSATION_RETRIES, COMPENSATION_TIMEOUT_MS, compensation_action,
    compensation_id, compensation_of,
};
pub use digest::{InvalidWorkDigest, WorkDigest};
pub use dlq::{
    DlqEnvelope, DlqHeader, DlqSource, MAX_DLQ_COMPACT_BYTES, MAX_DLQ_ERROR_BYTES, MAX_DLQ_ORIGINAL_BYTES,
    MAX_DLQ_RECORD_BYTES, UNKNOWN,
};
pub use dlq_headers::{SOURCE_HEADER, platform_headers};
pub use dlq_record::{DlqOriginal, DlqRecord, DlqRecordError};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, SchemaError};
pub use framing::{Frame, MAX_VALUE_BYTES};
pub use ids::{IntentId, InvalidTicketId, MAX_TICKET_ID_BYTES, PlanId, TaskId, TicketId};
pub use parameters::{
    CommaList, MAX_PARAMETER_DEPTH, ParameterError, ParameterView, Structured, canonical, structured,
};
pub use python_literal::{LiteralError, MAX_LITERAL_BYTES, MAX_LITERAL_DEPTH, parse_python_literal};
pub use result::{ExecutionResult, ExecutionResultPayload};
pub use result_codec::{decode_avro_result, decode_json_result, encode_avro_result, encode_json_result};
pub use shell_words::shell_words;
pub use ticket::{Qos, Sla, Ticket};
pub use ticket_codec::{decode_avro_ticket, decode_json_ticket, encode_avro_ticket, encode_json_ticket};
pub use ticket_object::{MAX_DEPENDENCIES, MAX_ID_CHARS, MAX_RETRIES, MAX_TASK_ID_CHARS};
pub use vocabulary::{
    Consistency, DeliveryMode, Durability, ExecutionStatus, Priority, RiskBand, SecurityLevel, TaskType, TicketStatus,
    UnknownWord,
};
pub use writer_schema::{MAX_SCHEMA_BYTES, RESULT_SCHEMA_JSON, TICKET_SCHEMA_JSON, WriterSchema};
