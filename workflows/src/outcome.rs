//! What an executor answers: an [`Outcome`] that cannot say *completed* without saying what ran and what it answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Stable error codes. They are failure types in Temporal, labels in metrics and keys of the operator documentation:
/// a code is never renamed.
pub mod code {
    /// Nothing in this build executes the ticket's task type.
    pub const EXECUTOR_NOT_AVAILABLE: &str = "executor_not_available";
    /// The ticket names a provider (runtime) that this worker does not have.
    pub const PROVIDER_NOT_AVAILABLE: &str = "provider_not_available";
    /// A parameter is missing or has the wrong form.
    pub const INVALID_PARAMETERS: &str = "invalid_parameters";
    /// The command is not on the allow-list.
    pub const COMMAND_NOT_ALLOWED: &str = "command_not_allowed";
    /// The command is allowed but not installed on this worker.
    pub const COMMAND_NOT_FOUND: &str = "command_not_found";
    /// The ticket's classification demands more isolation than this worker has.
    pub const ISOLATION_NOT_AVAILABLE: &str = "isolation_not_available";
    /// The command went over a limit of the sandbox and was ended.
    pub const LIMIT_EXCEEDED: &str = "limit_exceeded";
    /// The command ran and answered with a failure of its own.
    pub const EXECUTION_FAILED: &str = "execution_failed";
    /// The work needed more memory than its limit and was ended for it.
    pub const OUT_OF_MEMORY: &str = "out_of_memory";
    /// The image that the work is to run in cannot be had.
    pub const IMAGE_NOT_AVAILABLE: &str = "image_not_available";
    /// The attempt outlived its time-out.
    pub const TIMEOUT: &str = "timeout";
    /// `sla.deadline` passed.
    pub const DEADLINE_EXCEEDED: &str = "deadline_exceeded";
    /// The ticket was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// The ticket has dependencies, and a version that did not wait for them started it.
    pub const DEPENDENCIES_NOT_SUPPORTED: &str = "dependencies_not_supported";
    /// A ticket that this one depends on did not complete.
    pub const DEPENDENCY_FAILED: &str = "dependency_failed";
    /// Nobody has heard of a ticket that this one depends on.
    pub const DEPENDENCY_UNKNOWN: &str = "dependency_unknown";
    /// The tickets that this one depends on did not complete in the time that the settings give them.
    pub const DEPENDENCY_TIMEOUT: &str = "dependency_timeout";
    /// The ticket's dependencies lead back to itself.
    pub const DEPENDENCY_CYCLE: &str = "dependency_cycle";
    /// The ticket has more dependencies than can be waited for.
    pub const INVALID_DEPENDENCIES: &str = "invalid_dependencies";
    /// A parameter refers to an output that does not exist, or in a wrong form.
    pub const INVALID_REFERENCE: &str = "invalid_reference";
    /// The worker could not start or supervise the work.
    pub const INFRASTRUCTURE: &str = "infrastructure";
    /// The provider of external work cannot be reached, or answers nothing that can be used.
    pub const PROVIDER_UNAVAILABLE: &str = "provider_unavailable";
    /// The provider of external work refuses this worker: credentials, permission, quota.
    pub const PROVIDER_REFUSED: &str = "provider_refused";
    /// External work is not there any more, and this worker did not remove it.
    pub const WORK_VANISHED: &str = "work_vanished";
    /// A worker was lost while the work ran, and the ticket must run at most once.
    pub const LOST_AT_MOST_ONCE: &str = "lost_at_most_once";
    /// A COMPENSATE ticket names nothing that would undo its original, or nothing of that was there.
    pub const COMPENSATION_NOT_DEFINED: &str = "compensation_not_defined";
    /// An executor broke its contract; always a defect of ours.
    pub const INTERNAL: &str = "internal";

    /// Every code a ticket may fail with, in the order of the operator documentation.
    pub const ALL: &[&str] = &[
        EXECUTOR_NOT_AVAILABLE,
        PROVIDER_NOT_AVAILABLE,
        INVALID_PARAMETERS,
        COMMAND_NOT_ALLOWED,
        COMMAND_NOT_FOUND,
        ISOLATION_NOT_AVAILABLE,
        LIMIT_EXCEEDED,
        EXECUTION_FAILED,
        OUT_OF_MEMORY,
        IMAGE_NOT_AVAILABLE,
        TIMEOUT,
        DEADLINE_EXCEEDED,
        CANCELLED,
        DEPENDENCIES_NOT_SUPPORTED,
        DEPENDENCY_FAILED,
        DEPENDENCY_UNKNOWN,
        DEPENDENCY_TIMEOUT,
        DEPENDENCY_CYCLE,
        INVALID_DEPENDENCIES,
        INVALID_REFERENCE,
        INFRASTRUCTURE,
        PROVIDER_UNAVAILABLE,
        PROVIDER_REFUSED,
        WORK_VANISHED,
        LOST_AT_MOST_ONCE,
        COMPENSATION_NOT_DEFINED,
        INTERNAL,
    ];
}

/// Proof that something ran: what it was, and what it answered. Neither can be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawEvidence")]
pub struct Evidence {
    ran: String,
    answered: String,
}

/// An [`Evidence`] lacked what ran or what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingEvidence;

impl std::fmt::Display for MissingEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("evidence must name what ran and what it answered")
    }
}

impl std::error::Error for MissingEvidence {}

#[derive(Deserialize)]
struct RawEvidence {
    ran: String,
    answered: String,
}

impl TryFrom<RawEvidence> for Evidence {
    type Error = MissingEvidence;

    fn try_from(raw: RawEvidence) -> Result<Self, Self::Error> {
        Self::new(raw.ran, raw.answered)
    }
}

impl Evidence {
    /// `ran`: what was run, for example `local process 4711: ["pytest", "-q"]`. `answered`: for example `exit code 0`.
    ///
    /// # Errors
    /// When either is blank.
    pub fn new(ran: impl Into<String>, answered: impl Into<String>) -> Result<Self, MissingEvidence> {
        let (ran, answered) = (ran.into(), answered.into());
        if ran.trim().is_empty() || answered.trim().is_empty() {
            return Err(MissingEvidence);
        }
        Ok(Self { ran, answered })
    }

    /// What ran.
    #[must_use]
    pub fn ran(&self) -> &str {
        &self.ran
    }

    /// What it answered.
    #[must_use]
    pub fn answered(&self) -> &str {
        &self.answered
    }
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answered {}", self.ran, self.answered)
    }
}

/// What an executor hands over besides its verdict. Becomes `ExecutionResult.result` (`contracts/engine.md §9`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionReport {
    /// `result.output`.
    pub output: BTreeMap<String, Value>,
    /// `result.metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// `result.logs`: a few human lines, never the output itself.
    pub logs: Vec<String>,
}

/// Whether external work that had to be stopped is known to have stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternalState {
    /// The system that ran it confirmed that nothing is left.
    ConfirmedStopped,
    /// Nobody knows; it may still be running or have run twice.
    Unknown,
}

impl ExternalState {
    /// The value of `result.metadata.external_state`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmedStopped => "confirmed_stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// What a failure says about trying again. The executor classifies; only the workflow decides and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureClass {
    /// Trying again would fail again: wrong parameters, a command's own failure.
    Permanent,
    /// Worth another attempt, not before `after_ms` milliseconds when the provider said so (`Retry-After`).
    Retry {
        /// Earliest next attempt, in milliseconds from now; `None`: the back-off decides.
        after_ms: Option<u64>,
    },
    /// The provider cannot be reached or refuses everybody. Without evidence and without an external state: nothing has begun.
    Unavailable {
        /// As in [`FailureClass::Retry`].
        after_ms: Option<u64>,
    },
}

/// A completed piece of work, with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// What ran and what it answered.
    pub evidence: Evidence,
    /// Output, metadata, log lines.
    pub report: ExecutionReport,
}

/// A failed piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// One of [`code::ALL`].
    pub code: String,
    /// Whether another attempt makes sense.
    pub class: FailureClass,
    /// For people: lower case, names the cause and the next action; at most [`Failed::MAX_MESSAGE`] bytes.
    pub message: String,
    /// What ran and what it answered, when something ran.
    pub evidence: Option<Evidence>,
    /// Output, metadata, log lines of what did run (a time-out keeps its partial output).
    pub report: ExecutionReport,
    /// Set when work had to be stopped or its fate is not known.
    pub external_state: Option<ExternalState>,
}

impl Failed {
    /// Longest message kept, in bytes. The server truncates failure text at 4 KiB in mutable state.
    pub const MAX_MESSAGE: usize = 2048;

    /// A failure that another attempt would repeat.
    #[must_use]
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, FailureClass::Permanent, message)
    }

    /// A failure of the given class without a report.
    #[must_use]
    pub fn new(code: &str, class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            class,
            message: bounded(message.into(), Self::MAX_MESSAGE),
            evidence: None,
            report: ExecutionReport::default(),
            external_state: None,
        }
    }
}

/// The answer of one attempt. COMPLETED without evidence cannot be written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The work was done, and here is the proof.
    Completed(Completed),
    /// It was not.
    Failed(Failed),
}

impl From<Failed> for Outcome {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Cuts `text` to at most `max` bytes at a character boundary and marks the cut.
pub(crate) fn bounded(mut text: String, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text;
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(MARK);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_cannot_be_blank_not_even_when_it_arrives_as_json() {
        assert_eq!(Evidence::new("  ", "exit code 0"), Err(MissingEvidence));
        assert_eq!(Evidence::new("true", ""), Err(MissingEvidence));
        let forged = r#"{"outcome":"completed","evidence":{"ran":"","answered":"ok"},"report":{"output":{},"metadata":{},"logs":[]}}"#;
        assert!(serde_json::from_str::<Outcome>(forged).is_err());
        let missing = r#"{"outcome":"completed","report":{"output":{},"metadata":{},"logs":[]}}"#;
        assert!(serde_json::from_str::<Outcome>(missing).is_err());
    }

    #[test]
    fn long_messages_are_cut_at_a_character_boundary() {
        let failed = Failed::permanent(code::EXECUTION_FAILED, "é".repeat(4000));
        assert!(failed.message.len() <= Failed::MAX_MESSAGE);
        assert!(failed.message.ends_with('…'));
    }
}
