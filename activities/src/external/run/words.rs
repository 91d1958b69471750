//! What an attempt says that ends before its work does.

use ticket_workflows::{ExternalState, Failed, FailureClass, Outcome, code};

use super::{Cause, Run};
use crate::external::{Fault, Provider, said};

/// What an attempt does before it creates anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    LookingUp,
    /// For a turn; nothing was asked of the provider yet.
    Waiting,
    Preparing,
}

impl<P: Provider> Run<'_, P> {
    /// Work that a lost worker wrote down so that this one cannot read it, and that nothing else leads to.
    pub(super) fn unreadable(&self) -> Failed {
        let message = format!(
            "{}: a lost worker has recorded work that this worker cannot read: {}; find it at the provider before you publish \
             the ticket again",
            P::NAME,
            said(&self.job.recorded.to_string())
        );
        let mut failed = Failed::permanent(code::INFRASTRUCTURE, message);
        failed.external_state = Some(ExternalState::Unknown);
        failed
    }

    /// A create without answer, of work that nothing recognises.
    pub(super) fn doubtful(&self, doubt: Option<ExternalState>, fault: Fault) -> Outcome {
        match self.is_interrupted() {
            None => fault.into_failed(P::NAME, doubt).into(),
            Some(Cause::Detach) => self.detached(),
            Some(cause) => self.interruption(cause, doubt, Some(&fault)).into(),
        }
    }

    /// The attempt ends before anything is known to have been created. `doubt`: what is known of a create without answer.
    pub(super) fn never_began(&self, cause: Cause, doubt: Option<ExternalState>, before: Before) -> Outcome {
        match (cause, doubt) {
            (Cause::Detach, _) => self.detached(),
            (Cause::TimeOut, None) => self.too_late(before).into(),
            (cause, doubt) => self.interruption(cause, doubt, None).into(),
        }
    }

    /// All of the attempt's time went to what comes before a create. Another provider may take over only where this one was asked
    /// for nothing: it would not do in the ticket's time what this one could not.
    fn too_late(&self, before: Before) -> Failed {
        let again = FailureClass::Retry { after_ms: None };
        let (spent, class, advice) = match before {
            Before::LookingUp => {
                ("looking for what a lost worker may have begun, which is not there", again, "look at the provider")
            }
            Before::Waiting => (
                "waiting for a turn to call",
                FailureClass::Unavailable { after_ms: None },
                "look at the provider's rate",
            ),
            Before::Preparing => (
                "preparing it and waiting for a turn after that",
                again,
                "look at what it needs, such as an image, and at the provider's rate",
            ),
        };
        let message = format!(
            "{}: nothing was begun within the attempt's time of {:.1} s, which went to {spent}; {advice}, or raise \
             `timeout_seconds` or `sla.timeout_ms`",
            P::NAME,
            self.limit.as_secs_f64()
        );
        Failed::new(code::TIMEOUT, class, message)
    }

    pub(super) fn interruption(&self, cause: Cause, state: Option<ExternalState>, fault: Option<&Fault>) -> Failed {
        let last = fault.map_or_else(String::new, |fault| format!(" (last heard of {}: {fault})", P::NAME));
        let end = match state {
            Some(ExternalState::Unknown) => "is not known to have stopped",
            Some(ExternalState::ConfirmedStopped) | None => "was stopped",
        };
        let mut failed = match cause {
            Cause::Stop => Failed::permanent(code::CANCELLED, format!("the work {end}{last}")),
            Cause::TimeOut | Cause::Detach => Failed::new(
                code::TIMEOUT,
                FailureClass::Retry { after_ms: None },
                format!(
                    "the work outlived its time of {:.1} s and {end}{last}; raise `timeout_seconds` or `sla.timeout_ms`",
                    self.limit.as_secs_f64()
                ),
            ),
        };
        failed.external_state = state;
        failed
    }

    /// Nobody takes this for an answer: the attempt is handed back, and whoever runs it next finds the work.
    pub(super) fn detached(&self) -> Outcome {
        let message = format!("this worker goes away; {} goes on with {}", P::NAME, self.key);
        Failed::new(code::INFRASTRUCTURE, FailureClass::Retry { after_ms: None }, message).into()
    }
}
