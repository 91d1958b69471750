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

/// A record that asks for a start, as far as it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// [`request_id`] of the record.
    pub request_id: String,
    /// Digest of its ticket.
    pub digest: String,
    /// When the record was written, in epoch milliseconds, by the clock of its producer or broker.
    pub written_at_ms: Option<i64>,
    /// Whether it carries the re-drive header ([`super::REDRIVE_HEADER`]).
    pub redrive: bool,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It has not closed.
    Open,
    /// Its ticket is COMPLETED.
    Completed,
    /// Its ticket is FAILED, or the server ended it after its time.
    Failed,
    /// An operator ended it: cancelled or terminated.
    Ended,
}

/// The run that has a ticket's id now, as a description shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// The run.
    pub run_id: String,
    /// What became of it.
    pub state: RunState,
    /// When it closed, in epoch milliseconds.
    pub closed_at_ms: Option<i64>,
    /// Request id of the record that started it: the memo's copy, which outlives a reset.
    pub request_id: String,
    /// Request ids of the records that started the ticket's earlier runs.
    pub earlier: Vec<String>,
}

/// What to do about a record.
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
    /// Acknowledge: a ticket that had failed or was ended runs again.
    Redriven {
        /// The new run.
        run_id: String,
        /// Request id of the record that started the run before.
        previous: String,
    },
    /// Never to be started: to the DLQ.
    Refused(Refusal),
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

/// Why a ticket is never started from a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A different ticket has the same id.
    Collision {
        /// Request id of the record that started that one.
        first: String,
    },
    /// The record is older than what the server remembers.
    TooOld {
        /// The record's age.
        age: Duration,
        /// The namespace's retention.
        retention: Duration,
    },
    /// The ticket itself cannot be started.
    Ticket {
        /// What the server said.
        reason: String,
    },
}

/// What an answer means on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It decides.
    Decided(Decision),
    /// A description of the run has to decide, with [`judge`].
    LookUp {
        /// Request id in the answer.
        first: String,
    },
}

/// What a description means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It decides.
    Decided(Decision),
    /// Start it again, if its run is still the one described.
    StartAgain,
}

/// Prefix of every request id. The digest stands at its end, so that an answer alone tells duplicate from collision.
const REQUEST_PREFIX: &str = "kafka:";
/// Stands between the record's position and the digest; the number is the version of the digest.
const DIGEST_MARK: &str = "#1:";
/// A record must be this much younger than the end of a failed run to be a re-drive without the header: clocks of
/// producers and of the server differ.
pub const CLOCK_SKEW_MARGIN: Duration = Duration::from_secs(30);
/// Most of the retention that the margin of [`too_old`] takes.
const RETENTION_MARGIN: Duration = Duration::from_secs(3600);

/// The request id of a record: `kafka:<topic>/<partition>@<offset>#1:<digest>`.
#[must_use]
pub fn request_id(position: &ticket_workflows::RecordPosition, digest: &str) -> String {
    format!("{REQUEST_PREFIX}{position}{DIGEST_MARK}{digest}")
}

/// The digest within a request id of ours.
fn digest_of(request_id: &str) -> Option<&str> {
    request_id.strip_prefix(REQUEST_PREFIX)?.rsplit_once(DIGEST_MARK).map(|(_, digest)| digest)
}

/// Whether a record is so old that the server may have forgotten its ticket: running it again could overwrite an outcome
/// that nobody remembers. The margin keeps a run from being forgotten between this look and the start.
#[must_use]
pub fn too_old(written_at_ms: Option<i64>, now_ms: i64, retention: Duration) -> Option<Refusal> {
    let age = Duration::from_millis(u64::try_from(now_ms.saturating_sub(written_at_ms?)).ok()?);
    (age > remembered(retention)).then_some(Refusal::TooOld { age, retention })
}

/// The age up to which the server surely remembers a ticket, by the namespace's retention.
#[must_use]
pub fn remembered(retention: Duration) -> Duration {
    retention - RETENTION_MARGIN.min(retention / 10)
}

/// Reads the answer to a first start.
#[must_use]
pub fn read(answer: Answer, claim: &Claim) -> Reading {
    match answer {
        Answer::Started { run_id } => Reading::Decided(Decision::Started { run_id }),
        Answer::AlreadyExists { first } => match digest_of(&first) {
            Some(other) if other != claim.digest && !claim.redrive => {
                Reading::Decided(Decision::Refused(Refusal::Collision { first }))
            }
            // Equal work may be a re-drive; a foreign request id is that of a reset, or of a start by hand.
            _ => Reading::LookUp { first },
        },
        Answer::Refused { code, message } => Reading::Decided(refused(code, message)),
    }
}

/// Decides by the run that has the ticket's id.
#[must_use]
pub fn judge(claim: &Claim, existing: &Existing) -> Judgement {
    let Existing { run_id, state, closed_at_ms, request_id, earlier } = existing;
    let first = request_id.clone();
    if first == claim.request_id {
        // Our own earlier start; the run was reset since.
        return Judgement::Decided(Decision::Started { run_id: run_id.clone() });
    }
    if earlier.contains(&claim.request_id) {
        // It has had its run, and a later record has started another.
        return Judgement::Decided(Decision::Duplicate { first });
    }
    let same = digest_of(&first) == Some(claim.digest.as_str());
    let later = claim
        .written_at_ms
        .zip(*closed_at_ms)
        .is_some_and(|(written, closed)| written.saturating_sub(closed) > CLOCK_SKEW_MARGIN.as_millis() as i64);
    let again = match state {
        RunState::Open | RunState::Completed => false,
        RunState::Failed => claim.redrive || (same && later),
        RunState::Ended => claim.redrive,
    };
    match (again, same) {
        (true, _) => Judgement::StartAgain,
        (false, true) => Judgement::Decided(Decision::Duplicate { first }),
        (false, false) => Judgement::Decided(Decision::Refused(Refusal::Collision { first })),
    }
}

/// Reads the answer to a second start. `previous` is the run that [`judge`] saw.
#[must_use]
pub fn read_again(answer: Answer, previous: &Existing) -> Decision {
    match answer {
        Answer::Started { run_id } => Decision::Redriven { run_id, previous: previous.request_id.clone() },
        // Another record got ahead: the next try sees its run.
        Answer::AlreadyExists { first } => Decision::Unavailable { reason: format!("{first:?} started it meanwhile") },
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
            Decision::Refused(Refusal::Ticket { reason: message })
        }
        Code::InvalidArgument if ["task queue", "taskqueue", "namespace"].iter().any(|word| lower.contains(word)) => {
            fault("server", "correct TEMPORAL_TASK_QUEUE or TEMPORAL_NAMESPACE")
        }
        Code::InvalidArgument => Decision::Refused(Refusal::Ticket { reason: message }),
        Code::ResourceExhausted if too_large(&lower) => Decision::Refused(Refusal::Ticket { reason: message }),
        Code::FailedPrecondition | Code::Unimplemented => fault("server", "check the server's version and set-up"),
        _ => Decision::Unavailable { reason: format!("{code:?}: {message}") },
    }
}

fn too_large(message: &str) -> bool {
    ["too large", "exceeds size limit", "larger than max", "size exceeds"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_workflows::RecordPosition;

    fn position(offset: i64) -> RecordPosition {
        RecordPosition { topic: "execution.tickets".to_owned(), partition: 3, offset }
    }

    fn claim(offset: i64, digest: &str) -> Claim {
        Claim {
            request_id: request_id(&position(offset), digest),
            digest: digest.to_owned(),
            written_at_ms: Some(1_000_000),
            redrive: false,
        }
    }

    fn refused(code: Code, message: &str) -> Decision {
        let answer = Answer::Refused { code, message: message.to_owned() };
        match read(answer, &claim(1, "aa")) {
            Reading::Decided(decision) => decision,
            reading => panic!("{reading:?}"),
        }
    }

    #[test]
    fn an_answer_alone_tells_a_start_and_a_collision() {
        let started = Answer::Started { run_id: "r".to_owned() };
        assert_eq!(read(started, &claim(7, "aa")), Reading::Decided(Decision::Started { run_id: "r".to_owned() }));
        let first = request_id(&position(7), "aa");
        assert_eq!(first, "kafka:execution.tickets/3@7#1:aa");
        let exists = || Answer::AlreadyExists { first: first.clone() };
        let collision = Decision::Refused(Refusal::Collision { first: first.clone() });
        assert_eq!(read(exists(), &claim(8, "bb")), Reading::Decided(collision));
        // What may be a re-drive, and what is not ours, is looked up.
        let look_up = Reading::LookUp { first: first.clone() };
        assert_eq!(read(exists(), &claim(8, "aa")), look_up);
        assert_eq!(read(exists(), &Claim { redrive: true, ..claim(8, "bb") }), look_up);
        let foreign = "0b9a-by-hand".to_owned();
        let exists = Answer::AlreadyExists { first: foreign.clone() };
        assert_eq!(read(exists, &claim(8, "aa")), Reading::LookUp { first: foreign });
    }

    #[test]
    fn a_description_decides_by_state_digest_header_and_time() {
        use RunState::{Completed, Ended, Failed, Open};
        const CLOSED: i64 = 1_000_000;
        const LATE: i64 = CLOSED + 30_000;
        // State, digest of the record, header, time of the record: what becomes of it.
        for (state, digest, redrive, written, expected) in [
            (Open, "aa", false, LATE + 1, "duplicate"),
            (Open, "bb", false, LATE + 1, "collision"),
            (Open, "aa", true, LATE + 1, "duplicate"),
            (Open, "bb", true, LATE + 1, "collision"),
            (Completed, "aa", false, LATE + 1, "duplicate"),
            (Completed, "aa", true, LATE + 1, "duplicate"),
            (Completed, "bb", true, LATE + 1, "collision"),
            (Failed, "aa", false, LATE + 1, "again"),
            (Failed, "aa", false, LATE, "duplicate"),
            (Failed, "aa", false, CLOSED - 1, "duplicate"),
            (Failed, "aa", true, CLOSED - 1, "again"),
            (Failed, "bb", false, LATE + 1, "collision"),
            (Failed, "bb", true, LATE + 1, "again"),
            (Ended, "aa", false, LATE + 1, "duplicate"),
            (Ended, "bb", false, LATE + 1, "collision"),
            (Ended, "aa", true, LATE + 1, "again"),
            (Ended, "bb", true, LATE + 1, "again"),
        ] {
            let claim = Claim { written_at_ms: Some(written), redrive, ..claim(9, digest) };
            let closed_at_ms = (state != Open).then_some(CLOSED);
            let found = match judge(&claim, &existing(state, closed_at_ms)) {
                Judgement::StartAgain => "again",
                Judgement::Decided(Decision::Duplicate { .. }) => "duplicate",
                Judgement::Decided(Decision::Refused(Refusal::Collision { .. })) => "collision",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{state:?} {digest} header {redrive} at {written}");
        }
    }

    fn existing(state: RunState, closed_at_ms: Option<i64>) -> Existing {
        Existing {
            run_id: "r".to_owned(),
            state,
            closed_at_ms,
            request_id: request_id(&position(7), "aa"),
            earlier: vec![request_id(&position(3), "aa")],
        }
    }

    #[test]
    fn a_record_that_has_had_its_run_never_gets_another() {
        let own = Claim { redrive: true, ..claim(7, "aa") };
        let reset = judge(&own, &existing(RunState::Failed, Some(0)));
        assert_eq!(reset, Judgement::Decided(Decision::Started { run_id: "r".to_owned() }));
        let superseded = Claim { redrive: true, ..claim(3, "aa") };
        let judged = judge(&superseded, &existing(RunState::Failed, Some(0)));
        assert!(matches!(judged, Judgement::Decided(Decision::Duplicate { .. })), "{judged:?}");
    }

    #[test]
    fn a_run_without_a_memo_of_ours_is_a_collision() {
        let by_hand = Existing { request_id: "0b9a".to_owned(), ..existing(RunState::Failed, Some(0)) };
        let judged = judge(&claim(9, "aa"), &by_hand);
        assert!(matches!(judged, Judgement::Decided(Decision::Refused(Refusal::Collision { .. }))), "{judged:?}");
    }

    #[test]
    fn a_second_start_that_comes_late_is_tried_again() {
        let previous = existing(RunState::Failed, Some(0));
        let started = read_again(Answer::Started { run_id: "s".to_owned() }, &previous);
        assert_eq!(started, Decision::Redriven { run_id: "s".to_owned(), previous: previous.request_id.clone() });
        let late = read_again(Answer::AlreadyExists { first: "x".to_owned() }, &previous);
        assert!(matches!(late, Decision::Unavailable { .. }), "{late:?}");
    }

    #[test]
    fn a_record_older_than_what_the_server_remembers_is_told() {
        let (now, hour) = (1_000_000_000_000, 3_600_000);
        let day = Duration::from_secs(86_400);
        let week = 7 * day;
        for (age_ms, retention, expected) in [
            (22 * hour, day, false),
            (23 * hour + 1, day, true),
            (25 * hour, day, true),
            (166 * hour, week, false),
            (167 * hour + 1, week, true),
            (-hour, day, false),
        ] {
            assert_eq!(too_old(Some(now - age_ms), now, retention).is_some(), expected, "{age_ms} {retention:?}");
        }
        assert_eq!(too_old(None, now, day), None);
        assert!(too_old(Some(i64::MIN), i64::MAX, day).is_some());
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
            assert!(matches!(refused(code, message), Decision::Refused(Refusal::Ticket { .. })), "{message}");
        }
    }
}
