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

/// Where the time of a ticket went once it could work, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From an attempt's being scheduled to its beginning on a worker: it waited for a slot. All attempts together.
    pub start_ms: u64,
    /// Attempts ran, by their workers' clocks.
    pub run_ms: u64,
    /// Waits between attempts.
    pub retry_wait_ms: u64,
}

/// The attempts of a ticket. Bounded: the last [`Ledger::KEPT`] are kept in full.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Attempts in all.
    pub count: u32,
    /// The last ones.
    pub attempts: Vec<AttemptRecord>,
    /// Where the time went, of all attempts.
    #[serde(default)]
    pub times: Times,
}

impl Ledger {
    /// Attempts kept in full.
    pub const KEPT: usize = 20;

    /// An attempt that was scheduled at `scheduled_ms` has ended.
    pub(super) fn record(&mut self, record: AttemptRecord, scheduled_ms: i64) {
        self.count += 1;
        self.times.start_ms += between(scheduled_ms, record.started_at_ms);
        self.times.run_ms += between(record.started_at_ms, record.ended_at_ms);
        if self.attempts.len() == Self::KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(record);
    }

    /// A wait between two attempts is over.
    pub(super) fn waited(&mut self, since_ms: i64, now_ms: i64) {
        self.times.retry_wait_ms += between(since_ms, now_ms);
    }
}

/// Two clocks may be involved: never negative.
fn between(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)
}
