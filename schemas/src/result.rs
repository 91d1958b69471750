//! The execution result (`contracts/kafka.md §6`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::TicketId;
use crate::vocabulary::ExecutionStatus;

/// Outcome of a ticket as published to `execution.results`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionResult {
    /// Ticket the result belongs to; also the message key.
    pub ticket_id: TicketId,
    /// State reported.
    pub status: ExecutionStatus,
    /// What the executor returned.
    pub result: ExecutionResultPayload,
    /// Why the ticket failed.
    #[serde(default)]
    pub error_message: Option<String>,
    /// Duration of the whole ticket including the wait for dependencies, milliseconds.
    #[serde(default)]
    pub actual_duration_ms: Option<i64>,
    /// Worker that reports.
    pub agent_id: String,
    /// Publication, epoch milliseconds.
    pub timestamp: i64,
    /// Version of the contract.
    #[serde(default = "first_version")]
    pub schema_version: i32,
}

fn first_version() -> i32 {
    1
}

/// What an executor returned.
///
/// Values are native here. On the wire, in both encodings, they are texts: scalars plainly, arrays and objects as
/// compact JSON, nulls left out (INC-10). A decoded result therefore holds strings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionResultPayload {
    /// Whether the work reached its goal.
    pub success: bool,
    /// Values produced.
    #[serde(default)]
    pub output: BTreeMap<String, Value>,
    /// Facts about the execution itself.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// Selected log lines, oldest first.
    #[serde(default)]
    pub logs: Vec<String>,
}
