//! How a Job ends, and what that means for its ticket.

use serde::{Deserialize, Serialize};
use ticket_workflows::{Evidence, ExternalState, Failed, FailureClass, code};

use crate::execute::container::{failed_command, is_about_command};
use crate::execute::output::last_line;

/// Reason of a container in which something was ended for using too much memory: it, or a child of it.
const OUT_OF_MEMORY: &str = "OOMKilled";
/// Reasons of a container whose program could not be started.
const NOT_STARTED: [&str; 2] = ["StartError", "ContainerCannotRun"];

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub(super) how: How,
    /// Whether the cluster says that nothing of it runs any more.
    pub(super) is_stopped: bool,
}

impl Ended {
    /// Whether the command itself brought it about.
    pub(super) fn is_of_command(&self) -> bool {
        matches!(self.how, How::Exited { .. } | How::OverLimit(_))
    }
}

/// What ended it. What was seen of it goes into heartbeats, but for what the command itself may have written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum How {
    /// The command by itself, with this code, or what kept it from running.
    Exited {
        code: i32,
        reason: String,
        #[serde(skip)]
        message: String,
    },
    /// `activeDeadlineSeconds`.
    OutOfTime,
    /// It used more of its disk than it may.
    OverLimit(String),
    /// The cluster, or somebody in it, for reasons of their own: eviction, a lost node, a deletion.
    Disrupted(String),
    /// The Job failed, and no pod says why.
    Failed(String),
}

impl How {
    /// Whether the command ended before anybody began to end it, so that its exit code counts.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }
}

/// The evidence of a command that did its work. `text`: what it wrote, if that is known.
///
/// # Errors
/// When it did not.
pub(super) fn verdict(job: &str, ended: &Ended, text: Option<&str>) -> Result<Evidence, Failed> {
    let answered = match &ended.how {
        How::Exited { code, .. } => format!("exit code {code}"),
        How::OutOfTime => "DeadlineExceeded".to_owned(),
        How::OverLimit(why) | How::Disrupted(why) | How::Failed(why) => format!("failed: {why}"),
    };
    let evidence = Evidence::new(format!("Job {job}"), answered)
        .map_err(|error| Failed::permanent(code::INTERNAL, error.to_string()))?;
    let line = || text.map_or_else(String::new, last_line);
    let mut failed = match &ended.how {
        How::Exited { code: 0, .. } => return Ok(evidence),
        How::Exited { reason, message, .. } if NOT_STARTED.contains(&reason.as_str()) => not_started(message),
        How::Exited { code, reason, .. } => failed_command(i64::from(*code), reason == OUT_OF_MEMORY, &line()),
        How::OutOfTime => Failed::new(
            code::TIMEOUT,
            FailureClass::Retry { after_ms: None },
            "the cluster ended the Job at its deadline; raise `timeout_seconds`",
        ),
        How::OverLimit(why) => Failed::permanent(
            code::LIMIT_EXCEEDED,
            format!("the pod was evicted for what it used: {why}; write less, or raise K8S_JOBS_SCRATCH_SIZE"),
        ),
        How::Disrupted(why) => Failed::new(
            code::INFRASTRUCTURE,
            FailureClass::Retry { after_ms: None },
            format!(
                "the cluster ended the pod for reasons of its own: {why}; look at its nodes and at who ends pods there"
            ),
        ),
        How::Failed(why) => Failed::new(
            code::INFRASTRUCTURE,
            FailureClass::Retry { after_ms: None },
            format!("the Job failed, and no pod tells how: {why}; look at the namespace's events"),
        ),
    };
    failed.evidence = Some(evidence);
    failed.external_state = if ended.is_of_command() {
        None
    } else if ended.is_stopped {
        Some(ExternalState::ConfirmedStopped)
    } else {
        Some(ExternalState::Unknown)
    };
    Err(failed)
}

/// A program that is not there is the ticket's fault, and what the node lacks is not.
fn not_started(message: &str) -> Failed {
    if is_about_command(message) {
        return Failed::permanent(
            code::COMMAND_NOT_FOUND,
            format!("the command cannot be started: {message}; name a program that the image has"),
        );
    }
    Failed::new(
        code::INFRASTRUCTURE,
        FailureClass::Retry { after_ms: None },
        format!("the node could not start the container: {message}; look at the node"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(how: How, is_stopped: bool) -> Failed {
        verdict("j", &Ended { how, is_stopped }, Some("first\nlast words\n")).expect_err("a failure")
    }

    fn exited(code: i32, reason: &str, message: &str) -> How {
        How::Exited { code, reason: reason.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn too_much_memory_is_the_verdict_only_of_what_was_killed() {
        assert_eq!(failed(exited(137, "OOMKilled", ""), true).code, code::OUT_OF_MEMORY);
        assert_eq!(failed(exited(137, "Error", ""), true).code, code::EXECUTION_FAILED);
        let other = failed(exited(3, "OOMKilled", ""), true);
        assert_eq!(other.code, code::EXECUTION_FAILED);
        assert!(other.message.contains("exit code 3") && other.message.contains("memory_limit"), "{}", other.message);
        assert!(other.message.ends_with("last words"), "{}", other.message);
        // On cgroup v1 a killed child is told as the container's own end.
        let fine = Ended { how: exited(0, "OOMKilled", ""), is_stopped: true };
        assert!(verdict("j", &fine, None).is_ok(), "whatever was killed in it, the command did its work");
    }

    #[test]
    fn each_end_has_its_code_class_and_state() {
        let retry = FailureClass::Retry { after_ms: None };
        let why = || "why".to_owned();
        let missing = "failed to create task: exec: \"nope\": executable file not found in $PATH";
        for (how, code, class, state) in [
            (exited(128, "StartError", missing), code::COMMAND_NOT_FOUND, FailureClass::Permanent, None),
            (exited(128, "StartError", "mount /proc: permission denied"), code::INFRASTRUCTURE, retry, None),
            (How::OverLimit(why()), code::LIMIT_EXCEEDED, FailureClass::Permanent, None),
            (How::OutOfTime, code::TIMEOUT, retry, Some(ExternalState::ConfirmedStopped)),
            (How::Disrupted(why()), code::INFRASTRUCTURE, retry, Some(ExternalState::ConfirmedStopped)),
            (How::Failed(why()), code::INFRASTRUCTURE, retry, Some(ExternalState::ConfirmedStopped)),
        ] {
            let failed = failed(how, true);
            assert_eq!((failed.code.as_str(), failed.class, failed.external_state), (code, class, state), "{failed:?}");
            assert!(failed.evidence.is_some(), "{failed:?}");
        }
        let lost = failed(How::Disrupted(why()), false);
        assert_eq!(lost.external_state, Some(ExternalState::Unknown), "a lost node may go on with it");
    }
}
