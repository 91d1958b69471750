//! What an answer to a workflow start means. A value without I/O: the table of `docs/adr/0003-start-protocol.md`.

use std::time::Duration;

use tonic::Code;

/// The server's answer to a start, reduced to what decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Started; also our own earlier start of this very record.
    Started {
        /// The run.
        run_id: String,
    },
    /// Another record started it: its request id is in the answer's detail.
    AlreadyExists {
        /// Request id of the first record.
        first: String,
    },
    /// An error.
    Refused {
        /// gRPC code.
        code: Code,
        /// The server's words.
        message: String,
    },
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Acknowledge: the ticket is durable.
    Started {
        /// The run.
        run_id: String,
    },
    /// Acknowledge: the same ticket was published again.
    Duplicate {
        /// Request id of the first record.
        first: String,
    },
    /// A different ticket under the same id: to the DLQ, naming both.
    Collision {
        /// Request id of the first record.
        first: String,
    },
    /// The ticket itself cannot be started: to the DLQ.
    TicketRefused {
        /// What the server said.
        reason: String,
    },
    /// The set-up is wrong: readiness goes, the record waits.
    SetupFault {
        /// A stable word.
        fault: &'static str,
        /// What was said and what to do.
        reason: String,
    },
    /// The server is away or overloaded: the record waits.
    Unavailable {
        /// What was said.
        reason: String,
    },
}

/// Prefix of every request id. The digest stands at its end, so that an answer alone tells duplicate from collision.
const REQUEST_PREFIX: &str = "kafka:";
/// Stands between the record's position and the digest; the number is the version of the digest.
const DIGEST_MARK: &str = "#1:";

/// The request id of a record: `kafka:<topic>/<partition>@<offset>#1:<digest>`.
#[must_use]
pub fn request_id(position: &ticket_workflows::RecordPosition, digest: &str) -> String {
    format!("{REQUEST_PREFIX}{position}{DIGEST_MARK}{digest}")
}

/// The digest within a request id of ours.
fn digest_of(request_id: &str) -> Option<&str> {
    request_id.strip_prefix(REQUEST_PREFIX)?.rsplit_once(DIGEST_MARK).map(|(_, digest)| digest)
}

/// Decides. `digest` is that of the ticket at hand.
#[must_use]
pub fn decide(answer: Answer, digest: &str) -> Decision {
    match answer {
        Answer::Started { run_id } => Decision::Started { run_id },
        Answer::AlreadyExists { first } => match digest_of(&first) {
            Some(other) if other == digest => Decision::Duplicate { first },
            Some(_) => Decision::Collision { first },
            // A run that was reset or started by hand carries a request id that is not ours; it cannot be compared here.
            None => Decision::Collision { first },
        },
        Answer::Refused { code, message } => refused(code, message),
    }
}

fn refused(code: Code, message: String) -> Decision {
    let lower = message.to_ascii_lowercase();
    let fault = |fault, action: &str| Decision::SetupFault { fault, reason: format!("{message}; {action}") };
    match code {
        Code::NotFound => fault("namespace", "create the namespace or correct TEMPORAL_NAMESPACE"),
        Code::PermissionDenied | Code::Unauthenticated => {
            fault("permission", "give this worker the right to start workflows, or correct its credentials")
        }
        Code::InvalidArgument if lower.contains("search attribute") => {
            fault("search_attributes", "create them with `worker-agents doctor --fix`")
        }
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition if too_large(&lower) => {
            Decision::TicketRefused { reason: message }
        }
        Code::InvalidArgument if ["task queue", "taskqueue", "namespace"].iter().any(|word| lower.contains(word)) => {
            fault("server", "correct TEMPORAL_TASK_QUEUE or TEMPORAL_NAMESPACE")
        }
        Code::InvalidArgument => Decision::TicketRefused { reason: message },
        Code::ResourceExhausted if too_large(&lower) => Decision::TicketRefused { reason: message },
        Code::FailedPrecondition | Code::Unimplemented => fault("server", "check the server's version and set-up"),
        _ => Decision::Unavailable { reason: format!("{code:?}: {message}") },
    }
}

fn too_large(message: &str) -> bool {
    ["too large", "exceeds size limit", "larger than max", "size exceeds"].iter().any(|words| message.contains(words))
}

/// Time before the next try after `failures` in a row: 100 ms doubling to 1 s. Never more than one try a second per
/// partition once an outage lasts.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100u64.saturating_mul(1 << failures.min(4)).min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_workflows::RecordPosition;

    fn position(offset: i64) -> RecordPosition {
        RecordPosition { topic: "execution.tickets".to_owned(), partition: 3, offset }
    }

    fn refused(code: Code, message: &str) -> Decision {
        decide(Answer::Refused { code, message: message.to_owned() }, "aa")
    }

    #[test]
    fn an_existing_run_is_a_duplicate_or_a_collision_by_its_digest() {
        let first = request_id(&position(7), "aa");
        assert_eq!(first, "kafka:execution.tickets/3@7#1:aa");
        let answer = || Answer::AlreadyExists { first: first.clone() };
        assert_eq!(decide(answer(), "aa"), Decision::Duplicate { first: first.clone() });
        assert_eq!(decide(answer(), "bb"), Decision::Collision { first: first.clone() });
        let foreign = "0b9a-by-hand".to_owned();
        assert_eq!(
            decide(Answer::AlreadyExists { first: foreign.clone() }, "aa"),
            Decision::Collision { first: foreign }
        );
    }

    #[test]
    fn a_started_run_is_acknowledged() {
        let started = Answer::Started { run_id: "r".to_owned() };
        assert_eq!(decide(started, "aa"), Decision::Started { run_id: "r".to_owned() });
    }

    #[test]
    fn outages_never_condemn_a_ticket() {
        for code in [
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::DeadlineExceeded,
            Code::Internal,
            Code::Unknown,
            Code::Cancelled,
            Code::Aborted,
        ] {
            assert!(matches!(refused(code, "x"), Decision::Unavailable { .. }), "{code:?}");
        }
    }

    #[test]
    fn set_up_faults_name_the_next_action_and_never_condemn_a_ticket() {
        for (code, message, fault) in [
            (Code::NotFound, "Namespace default is not found.", "namespace"),
            (Code::PermissionDenied, "no", "permission"),
            (Code::Unauthenticated, "no", "permission"),
            (
                Code::InvalidArgument,
                "Namespace default has no mapping defined for search attribute TicketId",
                "search_attributes",
            ),
            (Code::InvalidArgument, "TaskQueue name length exceeds limit.", "server"),
            (Code::Unimplemented, "x", "server"),
        ] {
            let Decision::SetupFault { fault: found, reason } = refused(code, message) else {
                panic!("{code:?} {message}");
            };
            assert_eq!(found, fault);
            assert!(reason.contains("; "), "{reason}");
        }
    }

    #[test]
    fn what_the_ticket_itself_caused_is_condemned() {
        for (code, message) in [
            (Code::InvalidArgument, "WorkflowId length exceeds limit."),
            (Code::InvalidArgument, "Blob data size exceeds limit."),
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
        ] {
            assert!(matches!(refused(code, message), Decision::TicketRefused { .. }), "{message}");
        }
    }

    #[test]
    fn back_off_grows_to_one_second() {
        let steps: Vec<u128> = (0..6).map(|n| backoff(n).as_millis()).collect();
        assert_eq!(steps, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff(u32::MAX).as_millis(), 1000);
    }
}
