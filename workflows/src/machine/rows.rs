//! Names of what the machine knows, and the rows of its transition table, for documents and for tests that list what they
//! have exercised.

use std::sync::OnceLock;

use super::{Command, Event, State};
use crate::dependencies::DependencyState;
use crate::orders::Verb;
use crate::outcome::{FailureClass, Outcome};

/// One row of the transition table. Events that change neither state nor command have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The state before.
    pub state: &'static str,
    /// What happened.
    pub event: &'static str,
    /// What is done next.
    pub command: &'static str,
    /// The state after.
    pub next: &'static str,
}

static WATCHER: OnceLock<fn(Row)> = OnceLock::new();

impl Row {
    /// The row that this transition is; `None` for an event that changed neither.
    #[must_use]
    pub fn of(state: &'static str, event: &'static str, command: &Command, after: &State) -> Option<Self> {
        let row = Self { state, event, command: command.name(), next: after.name() };
        (*command != Command::Ignore || row.state != row.next).then_some(row)
    }

    /// From now on `watcher` is told each row that a workflow of this process takes, replays included. For tests: the first
    /// one stays for good, and it must not block.
    pub fn watch(watcher: fn(Self)) {
        let _ = WATCHER.set(watcher);
    }

    /// Tells the watcher, if there is one.
    pub(crate) fn tell(state: &'static str, event: &'static str, command: &Command, after: &State) {
        if let Some(watcher) = WATCHER.get()
            && let Some(row) = Self::of(state, event, command, after)
        {
            watcher(row);
        }
    }
}

impl State {
    /// The state's name, as `status` and `explain` say it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Registering { .. } => "registering",
            Self::Parked { .. } => "parked",
            Self::Collecting { .. } => "collecting",
            Self::Executing { .. } => "executing",
            Self::Stopping { .. } => "stopping",
            Self::RetryWait { .. } => "retry_wait",
            Self::Paused { .. } => "paused",
            Self::Reporting { .. } => "reporting",
            Self::ReportStuck { .. } => "report_stuck",
            Self::CreatingCompensation { .. } => "creating_compensation",
            Self::Compensating { .. } => "compensating",
            Self::CompensationFailed { .. } => "compensation_failed",
            Self::SettlingCompensation { .. } => "settling_compensation",
            Self::Closed => "closed",
        }
    }
}

impl Event {
    /// What happened, in words. Kinds that lead on in different ways have different ones.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Registered(_) => "predecessors answered",
            Self::PredecessorEnded(told) => match told.outcome {
                DependencyState::Completed => "told: completed",
                _ => "told: failed",
            },
            Self::Collected { .. } => "outputs collected",
            Self::NotCollected(_) => "outputs missing",
            Self::Answered(response) => match &response.outcome {
                Outcome::Completed(_) => "attempt completed",
                Outcome::Failed(failed) => match failed.class {
                    FailureClass::Permanent => "attempt failed for good",
                    FailureClass::Retry { .. } | FailureClass::Unavailable { .. } => "attempt failed, worth another",
                },
            },
            Self::TimedOut => "attempt timed out",
            Self::Stopped => "attempt stopped",
            Self::Broken(_) => "activity broken",
            Self::WaitOver => "wait over",
            Self::CancelRequested(_) => "workflow cancelled",
            Self::Ordered(order) => match order.verb {
                Verb::Cancel { .. } => "order: cancel",
                Verb::Pause => "order: pause",
                Verb::Resume => "order: resume",
                Verb::RetryNow => "order: retry",
                Verb::ExtendDeadline { .. } => "order: extend-deadline",
                Verb::SkipDependency { .. } => "order: skip-dependency",
                Verb::ResumeCompensation => "order: compensation resume",
                Verb::SkipCompensation => "order: compensation skip",
            },
            Self::Unbegun => "attempt had not begun",
            Self::GraceOver => "grace over",
            Self::ReportOverdue(_) => "report overdue",
            Self::Published => "published",
            Self::CompensationCreated => "compensation created",
            Self::CompensationStands(stands) => match stands {
                DependencyState::Completed => "compensation completed",
                DependencyState::Failed { .. } => "compensation failed",
                DependencyState::Open => "compensation open",
                DependencyState::Unknown => "compensation unknown",
            },
            Self::CompensationSettled => "compensation told",
        }
    }
}

impl Command {
    /// What is done next, in words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Execute { .. } => "execute",
            Self::Register { .. } => "register with predecessors",
            Self::Park { .. } => "wait for predecessors",
            Self::Collect => "collect outputs",
            Self::Stop => "stop the attempt",
            Self::Wait { .. } => "wait to retry",
            Self::Hold { .. } => "wait to be resumed",
            Self::Publish => "report",
            Self::Compensate { again: false, .. } => "create the compensation",
            Self::Compensate { again: true, .. } => "create the compensation once more",
            Self::FollowCompensation => "follow the compensation",
            Self::AwaitCompensation { .. } => "wait for the compensation",
            Self::AwaitOperator { .. } => "wait for an operator",
            Self::SettleCompensation => "tell what became of it",
            Self::Close => "close",
            Self::Ignore => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_is_called_as_it_is_written() {
        for state in [State::Received, State::Reporting { since_ms: 1 }, State::Closed] {
            assert_eq!(json!(state)["state"], state.name());
        }
    }
}
