//! What the bridge hands to a workflow when it starts one.

use serde::{Deserialize, Serialize};
use ticket_schemas::Ticket;

use crate::policy::TicketPolicy;
use crate::trace::TraceContext;

/// Where a ticket was read: the record that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPosition {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
}

impl std::fmt::Display for RecordPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// Input of `TicketWorkflow`. Fields are only ever added, with a default: old histories must replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketInput {
    /// The decoded ticket.
    pub ticket: Ticket,
    /// Work digest, lower-case hex SHA-256 (`docs/adr/0003-start-protocol.md`).
    pub digest: String,
    /// The record that started this run.
    pub source: RecordPosition,
    /// `AGENT_ID` of the worker whose bridge started it; reported when no attempt ran.
    pub agent_id: String,
    /// The settings this ticket is held to.
    pub policy: TicketPolicy,
    /// The trace that the ticket belongs to.
    #[serde(default, skip_serializing_if = "TraceContext::is_empty")]
    pub trace: TraceContext,
}

/// Name of the memo that carries a [`StartMemo`].
pub const START_MEMO: &str = "TicketStart";

/// What a run says about its start and can be read without its history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMemo {
    /// The start's own request id. After a reset the run carries another one.
    pub request_id: String,
    /// Those of the runs before it, oldest first: its ticket was re-driven.
    #[serde(default)]
    pub earlier: Vec<String>,
    /// What the ticket depends on: others look for cycles through it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
}
