//! The answer of the `status` query.

use serde::{Deserialize, Serialize};

use crate::machine::{Compensation, Ledger, Machine, State};
use crate::orders::OrderRecord;
use crate::waiting::Wait;

/// What a ticket is doing, for people and tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketStatus {
    /// The ticket.
    pub ticket_id: String,
    /// The state, with since and until (epoch milliseconds).
    pub state: State,
    /// Attempts it may have in all.
    pub max_attempts: u32,
    /// `sla.deadline`, or what an order has made of it, epoch milliseconds.
    pub deadline_ms: Option<i64>,
    /// Attempts so far.
    pub ledger: Ledger,
    /// Error code once the ticket has failed.
    pub error_code: Option<String>,
    /// What it waits for; absent once it is closed, and from workers of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Whether no further attempt begins until somebody resumes the ticket.
    #[serde(default)]
    pub paused: bool,
    /// The last orders that changed something, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<OrderRecord>,
    /// What became of undoing what the failed ticket did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Compensation>,
}

impl TicketStatus {
    pub(crate) fn of(ticket_id: &str, machine: &Machine) -> Self {
        Self {
            ticket_id: ticket_id.to_owned(),
            state: machine.state().clone(),
            max_attempts: machine.max_attempts(),
            deadline_ms: machine.deadline_ms(),
            ledger: machine.ledger().clone(),
            error_code: machine.verdict().and_then(|verdict| verdict.failure()).map(|failed| failed.code.clone()),
            wait: Wait::now(machine),
            paused: machine.is_paused(),
            orders: machine.orders().to_vec(),
            compensation: machine.compensation().cloned(),
        }
    }
}
