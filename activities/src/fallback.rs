//! Work that another provider does than the one that was asked for: only by configuration, never silently. Each change is
//! counted and named in the result.

use serde::{Deserialize, Serialize};
use ticket_workflows::{ExecutionReport, FailureClass, Outcome};

/// The key of the heartbeat's detail that names the provider in use.
pub(crate) const PROVIDER: &str = "provider";

/// One change of provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fallback {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) reason: String,
}

/// Why another provider may do the work instead: this one could not begin it, for no fault of the ticket. What has begun, or
/// may have, is never done again elsewhere, and a command's own failure is an answer.
pub(crate) fn cause(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed(failed)
            if matches!(failed.class, FailureClass::Unavailable { .. })
                && failed.evidence.is_none()
                && failed.external_state.is_none() =>
        {
            Some(&failed.message)
        }
        _ => None,
    }
}

/// Names the changes in the result.
pub(crate) fn note(report: &mut ExecutionReport, fallbacks: &[Fallback]) {
    if fallbacks.is_empty() {
        return;
    }
    report.metadata.insert("runtime_fallbacks".to_owned(), serde_json::json!(fallbacks));
    for Fallback { from, to, reason } in fallbacks {
        report.logs.push(format!("{to} in the place of {from}: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use ticket_workflows::{Completed, Evidence, ExternalState, Failed, code};

    use super::*;

    #[test]
    fn inc_54_only_what_could_not_begin_is_done_elsewhere() {
        let unavailable =
            || Failed::new(code::INFRASTRUCTURE, FailureClass::Unavailable { after_ms: None }, "the engine is away");
        let evidence = Evidence::new("container c", "exit code 1").expect("evidence");
        assert_eq!(cause(&unavailable().into()), Some("the engine is away"));
        let begun = [
            Failed { evidence: Some(evidence.clone()), ..unavailable() },
            Failed { external_state: Some(ExternalState::Unknown), ..unavailable() },
            Failed::permanent(code::EXECUTION_FAILED, "the command ended with exit code 1"),
            Failed::permanent(code::INVALID_PARAMETERS, "no command"),
            Failed::new(code::TIMEOUT, FailureClass::Retry { after_ms: None }, "it outlived its time-out"),
        ];
        for failed in begun {
            assert_eq!(cause(&failed.clone().into()), None, "{failed:?}");
        }
        let done = Completed { evidence, report: ExecutionReport::default() };
        assert_eq!(cause(&Outcome::Completed(done)), None);
    }
}
