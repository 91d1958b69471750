//! One line.

use serde::{Deserialize, Serialize};

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The work's standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// The worker itself, about the log.
    Worker,
}

impl Stream {
    /// As JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Worker => "worker",
        }
    }
}

/// A line of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number among all lines of the attempt, from 1.
    pub seq: u64,
    /// When the worker read it, epoch milliseconds.
    pub at_ms: i64,
    /// Where it came from.
    pub stream: Stream,
    /// Its text: at most [`Line::MAX_BYTES`] of it, no control code, no secret of the worker.
    pub text: String,
    /// Bytes that were cut off its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
}

impl Line {
    /// Bytes kept of a line; Docker's engine keeps pieces of this size.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The same with at most so many bytes of text.
    pub(super) fn shortened(&self, bytes: usize) -> Self {
        let end = self.text.floor_char_boundary(bytes);
        let cut = self.cut + (self.text.len() - end) as u64;
        Self { text: self.text[..end].to_owned(), cut, ..*self }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}
