//! The attempts of a ticket, bounded.

use serde::{Deserialize, Serialize};

/// One attempt, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Attempt number, from 1.
    pub attempt: u32,
    /// Epoch milliseconds: when it began on the worker, or was scheduled if no worker answered.
    pub started_at_ms: i64,
    /// Epoch milliseconds.
    pub ended_at_ms: i64,
    /// `completed` or an error code.
    pub end: String,
    /// `AGENT_ID` of the worker that answered.
    pub worker: Option<String>,
    /// Workers lost while it ran.
    pub lost_workers: u32,
}

/// The attempts of a ticket. Bounded: the last [`Ledger::KEPT`] are kept in full.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Attempts in all.
    pub count: u32,
    /// The last ones.
    pub attempts: Vec<AttemptRecord>,
}

impl Ledger {
    /// Attempts kept in full.
    pub const KEPT: usize = 20;

    pub(super) fn record(&mut self, record: AttemptRecord) {
        self.count += 1;
        if self.attempts.len() == Self::KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(record);
    }
}
