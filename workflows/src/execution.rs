//! Input and output of the executor activity.

use serde::{Deserialize, Serialize};
use ticket_schemas::Ticket;

use crate::outcome::Outcome;

/// One attempt at a ticket's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecuteRequest {
    /// The ticket.
    pub ticket: Ticket,
    /// Attempt as the workflow counts it, from 1. A lost worker does not change it.
    pub attempt: u32,
    /// Time the work may run once it has started, in milliseconds.
    pub timeout_ms: u64,
    /// Absolute end of all work, epoch milliseconds; `None` when the deadline only marks.
    pub deadline_ms: Option<i64>,
    /// Whether the ticket service is told RUNNING, and for how long it may not know the ticket, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_unknown_after_ms: Option<u64>,
}

/// What an attempt came to, and who ran it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecuteResponse {
    /// The executor's answer.
    pub outcome: Outcome,
    /// `AGENT_ID` of the worker that ran it.
    pub agent_id: String,
    /// When the executor began, epoch milliseconds of the worker's clock.
    pub started_at_ms: i64,
    /// When it ended, epoch milliseconds of the worker's clock.
    pub ended_at_ms: i64,
    /// How often a worker was lost before this answer came.
    pub lost_workers: u32,
}
