//! What is known of a log: heartbeats tell it while work runs, for the next worker and for people, and the result afterwards.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ticket_workflows::ExecutionReport;

use super::Line;
use super::line::is_zero;

/// Lines that a heartbeat tells.
pub(super) const LAST_LINES: usize = 5;
/// Bytes of each of them: two KiB together.
const LAST_LINE_BYTES: usize = 400;
/// Shorter waits, in milliseconds, are not worth a result's metadata.
const LEAST_WAIT_MS: u64 = 1000;

/// What is known of an attempt's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// The attempt, as the workflow counts it.
    pub attempt: u32,
    /// Number of the last line. The sink holds it, unless there is `trouble`.
    pub seq: u64,
    /// Where the whole log is, as far as it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why lines are missing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many lines are missing there because the log was too large.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// How long this worker's work has waited for lines to be kept, milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
    /// From where on output that outlives a worker is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reached: Option<Reached>,
    /// The last lines, shortened.
    pub lines: VecDeque<Line>,
}

/// A place in the output of external work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// Number of the last line before it.
    pub(super) seq: u64,
    /// How many lines before it were left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) left_out: u64,
    /// As the provider names it.
    pub(super) at: Value,
}

/// The last of these lines, as heartbeats tell them.
pub(super) fn last_of(lines: &[Line]) -> Vec<Line> {
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| line.shortened(LAST_LINE_BYTES)).collect()
}

impl Logged {
    /// These lines are the last ones now.
    pub(super) fn add(&mut self, last: Vec<Line>) {
        let (Some(first), Some(seq)) = (last.first().map(|line| line.seq), last.last().map(|line| line.seq)) else {
            return;
        };
        // Output that is read again.
        self.lines.retain(|line| line.seq < first);
        self.lines.extend(last);
        let excess = self.lines.len().saturating_sub(LAST_LINES);
        self.lines.drain(..excess);
        self.seq = seq;
    }

    /// Metadata of the result: where the whole log is, how many lines the attempt wrote, what is missing, and what it cost in time.
    pub(crate) fn describe(self, report: &mut ExecutionReport) {
        if self.address.is_none() && self.trouble.is_none() {
            return;
        }
        let mut set = |key: &str, value: Value| report.metadata.insert(key.to_owned(), value);
        set("log_lines", json!(self.seq));
        if let Some(address) = self.address {
            set("log", json!(address));
        }
        if self.left_out > 0 {
            set("log_lines_left_out", json!(self.left_out));
        }
        if self.waited_ms >= LEAST_WAIT_MS {
            set("log_wait_seconds", json!(self.waited_ms as f64 / 1000.0));
        }
        if let Some(trouble) = self.trouble {
            set("log_error", json!(trouble));
            report.logs.push(format!("the log was not kept as a whole: {trouble}"));
        }
    }
}
