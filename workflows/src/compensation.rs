//! What the activities of a compensation are told.

use serde::{Deserialize, Serialize};
use ticket_schemas::Ticket;

use crate::trace::TraceContext;

/// A ticket is to be created that undoes a failed one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undoing {
    /// The failed ticket.
    pub original: String,
    /// The ticket that undoes it.
    pub ticket: Ticket,
    /// Whether it was created before, and no workflow for it has appeared.
    pub again: bool,
    /// The trace that the failed ticket belongs to.
    #[serde(default, skip_serializing_if = "TraceContext::is_empty")]
    pub trace: TraceContext,
}

/// What became of a compensation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The failed ticket.
    pub original: String,
    /// The ticket that should have undone it.
    pub ticket_id: String,
    /// Whether it has. Otherwise an operator wants things to stay as they are.
    pub compensated: bool,
    /// Why the original failed: the ticket service forgets it with every status that does not repeat it.
    pub error_message: String,
}
