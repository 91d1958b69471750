//! What the activity that creates a compensation is told.

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
