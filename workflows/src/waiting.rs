//! What an open ticket waits for: each state said as *for what*, *since when*, *until when*, and what ends it. A pure
//! function of the state, shown by the `status` query, the current details and `worker-agents explain`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, State};
use crate::ticket_service::Owed;

/// What a ticket waits for. The words of `kind` are stable: programs read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitingFor {
    /// A worker that makes the first decision.
    Worker,
    /// The answer how the tickets that it depends on stand.
    DependencyLookup,
    /// Tickets that it depends on.
    Dependencies {
        /// Some of them, [`State::MOST_NAMED`] at most.
        tickets: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Outputs of tickets that it depends on.
    Outputs,
    /// The executor: an attempt is scheduled or runs.
    Executor {
        /// Attempt number, from 1.
        attempt: u32,
        /// Attempts in all.
        max_attempts: u32,
    },
    /// An attempt that is being stopped.
    Stop {
        /// The attempt.
        attempt: u32,
        /// Why the ticket was cancelled: somebody's text.
        reason: String,
    },
    /// The time of the next attempt.
    Retry {
        /// The attempt that comes next.
        attempt: u32,
        /// Attempts in all.
        max_attempts: u32,
        /// Error code of the attempt that failed.
        error_code: String,
    },
    /// Somebody who resumes it.
    Resume {
        /// The attempt that comes next.
        attempt: u32,
    },
    /// The publication of its result.
    Publication,
    /// The report of its result, for longer than `REPORT_STUCK_AFTER_SECONDS`.
    StuckReport {
        /// To whom it was owed when that was noticed.
        owed: BTreeSet<Owed>,
    },
}

/// One wait of a ticket. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// For what.
    pub waiting_for: WaitingFor,
    /// Since when; `None`: since the workflow's start.
    pub since_ms: Option<i64>,
    /// When the wait ends by itself, at the latest; `None`: never.
    pub until_ms: Option<i64>,
    /// What ends it: a part of a sentence, without ticket content.
    pub unblocked_by: String,
}

impl Wait {
    /// The wait of a ticket in `state`; `None` once it is closed. `deadline_ms` is where the deadline bounds work.
    #[must_use]
    pub fn of(state: &State, max_attempts: u32, deadline_ms: Option<i64>) -> Option<Self> {
        let (waiting_for, since_ms, until_ms, unblocked_by) = match state {
            State::Received => (WaitingFor::Worker, None, None, "a worker that polls the task queue"),
            State::Registering { since_ms } => (
                WaitingFor::DependencyLookup,
                Some(*since_ms),
                None,
                "the Temporal server's answers about the tickets it depends on",
            ),
            State::Parked { since_ms, until_ms, waiting_for, count } => (
                WaitingFor::Dependencies { tickets: waiting_for.clone(), count: *count },
                Some(*since_ms),
                Some(*until_ms),
                "the completion of every ticket it depends on; it fails as soon as one of them does",
            ),
            State::Collecting { since_ms } => (
                WaitingFor::Outputs,
                Some(*since_ms),
                None,
                "the Temporal server's answers with the outputs that its parameters refer to",
            ),
            State::Executing { attempt, since_ms } => (
                WaitingFor::Executor { attempt: *attempt, max_attempts },
                Some(*since_ms),
                deadline_ms,
                "the executor's answer, the attempt's time-out, or a cancel request",
            ),
            State::Stopping { attempt, since_ms, reason } => (
                WaitingFor::Stop { attempt: *attempt, reason: reason.clone() },
                Some(*since_ms),
                None,
                "the end of the attempt's work",
            ),
            State::RetryWait { attempt, since_ms, until_ms, code } => (
                WaitingFor::Retry { attempt: attempt.saturating_add(1), max_attempts, error_code: code.clone() },
                Some(*since_ms),
                Some(*until_ms),
                "the end of the back-off, or a cancel request",
            ),
            State::Paused { since_ms, until_ms, attempt, .. } => (
                WaitingFor::Resume { attempt: *attempt },
                Some(*since_ms),
                *until_ms,
                "an order to resume it, or a cancel request",
            ),
            State::Reporting { since_ms } => (
                WaitingFor::Publication,
                Some(*since_ms),
                None,
                "Kafka's acknowledgement of the result, the ticket service's of the status, and the server's of the messages \
                 to its dependents; all are tried for ever",
            ),
            State::ReportStuck { since_ms, owed } => (
                WaitingFor::StuckReport { owed: owed.clone() },
                Some(*since_ms),
                None,
                "the peer's answer, for which it is tried for ever; look at the peer and at the workers' logs",
            ),
            State::Closed => return None,
        };
        Some(Self { waiting_for, since_ms, until_ms, unblocked_by: unblocked_by.to_owned() })
    }

    /// The wait of a machine's ticket.
    pub(crate) fn now(machine: &Machine) -> Option<Self> {
        Self::of(machine.state(), machine.max_attempts(), machine.enforced_deadline_ms())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The state that comes after this one in the table. A new state does not compile until it has its row.
    fn next(state: Option<&State>) -> Option<State> {
        Some(match state {
            None => State::Received,
            Some(State::Received) => State::Registering { since_ms: 1 },
            Some(State::Registering { .. }) => {
                State::Parked { since_ms: 2, until_ms: 20, waiting_for: vec!["a".to_owned(), "b".to_owned()], count: 7 }
            }
            Some(State::Parked { .. }) => State::Collecting { since_ms: 3 },
            Some(State::Collecting { .. }) => State::Executing { attempt: 2, since_ms: 4 },
            Some(State::Executing { .. }) => State::Stopping { attempt: 2, since_ms: 5, reason: "unwanted".to_owned() },
            Some(State::Stopping { .. }) => {
                State::RetryWait { attempt: 2, since_ms: 6, until_ms: 60, code: "timeout".to_owned() }
            }
            Some(State::RetryWait { .. }) => State::Paused { since_ms: 8, until_ms: Some(80), attempt: 3, retry: None },
            Some(State::Paused { .. }) => State::Reporting { since_ms: 7 },
            Some(State::Reporting { .. }) => {
                State::ReportStuck { since_ms: 9, owed: BTreeSet::from([Owed::TicketService]) }
            }
            Some(State::ReportStuck { .. }) => State::Closed,
            Some(State::Closed) => return None,
        })
    }

    fn row(state: &State) -> (Value, Value, Value) {
        match state {
            State::Received => (json!({ "kind": "worker" }), json!(null), json!(null)),
            State::Registering { .. } => (json!({ "kind": "dependency_lookup" }), json!(1), json!(null)),
            State::Parked { .. } => {
                (json!({ "kind": "dependencies", "tickets": ["a", "b"], "count": 7 }), json!(2), json!(20))
            }
            State::Collecting { .. } => (json!({ "kind": "outputs" }), json!(3), json!(null)),
            State::Executing { .. } => {
                (json!({ "kind": "executor", "attempt": 2, "max_attempts": 4 }), json!(4), json!(900))
            }
            State::Stopping { .. } => {
                (json!({ "kind": "stop", "attempt": 2, "reason": "unwanted" }), json!(5), json!(null))
            }
            State::RetryWait { .. } => (
                json!({ "kind": "retry", "attempt": 3, "max_attempts": 4, "error_code": "timeout" }),
                json!(6),
                json!(60),
            ),
            State::Paused { .. } => (json!({ "kind": "resume", "attempt": 3 }), json!(8), json!(80)),
            State::Reporting { .. } => (json!({ "kind": "publication" }), json!(7), json!(null)),
            State::ReportStuck { .. } => {
                (json!({ "kind": "stuck_report", "owed": ["ticket_service"] }), json!(9), json!(null))
            }
            State::Closed => (json!(null), json!(null), json!(null)),
        }
    }

    #[test]
    fn every_state_is_a_wait_with_its_words_and_times() {
        let mut state = next(None);
        let mut seen = 0;
        while let Some(current) = state {
            seen += 1;
            let wait = Wait::of(&current, 4, Some(900));
            assert_eq!(wait.is_none(), current == State::Closed, "{current:?}");
            let shown = json!(wait);
            let (waiting_for, since, until) = row(&current);
            assert_eq!(shown.get("waiting_for").unwrap_or(&Value::Null), &waiting_for, "{current:?}");
            assert_eq!(shown.get("since_ms").unwrap_or(&Value::Null), &since, "{current:?}");
            assert_eq!(shown.get("until_ms").unwrap_or(&Value::Null), &until, "{current:?}");
            if let Some(wait) = wait {
                assert!(!wait.unblocked_by.is_empty());
                assert_eq!(serde_json::from_value::<Wait>(shown).expect("read back"), wait);
            }
            state = next(Some(&current));
        }
        assert_eq!(seen, 11);
    }
}
