//! The failures that the machine itself finds: what people read when a ticket was not run, or ran out of time.

use ticket_schemas::Ticket;

use crate::outcome::{ExternalState, Failed, FailureClass, bounded, code};

/// Why a ticket cannot be worked on at all, before anything starts.
pub(super) fn refusal(ticket: &Ticket) -> Option<Failed> {
    if ticket.dependencies.is_empty() {
        return None;
    }
    Some(Failed::permanent(
        code::DEPENDENCIES_NOT_SUPPORTED,
        format!(
            "the ticket depends on {} other ticket(s), and this version does not wait for dependencies; it was not run, \
             because running it out of order could do harm. publish it under a new ticket_id without `dependencies` once they are done",
            ticket.dependencies.len()
        ),
    ))
}

pub(super) fn timed_out(attempt: u32, timeout_ms: u64) -> Failed {
    let mut failed = Failed::new(
        code::TIMEOUT,
        FailureClass::Retry { after_ms: None },
        format!(
            "attempt {attempt} gave no answer within {timeout_ms} ms and was ended by the server; raise `sla.timeout_ms` or look at the worker's log"
        ),
    );
    failed.external_state = Some(ExternalState::Unknown);
    failed
}

pub(super) fn deadline_passed(deadline_ms: i64, last: Option<Failed>) -> Failed {
    let Some(mut failed) = last else {
        return Failed::permanent(
            code::DEADLINE_EXCEEDED,
            format!(
                "sla.deadline {deadline_ms} (epoch ms) had passed before the work could start; publish it under a new ticket_id with a later deadline"
            ),
        );
    };
    failed.message = bounded(
        format!(
            "sla.deadline {deadline_ms} (epoch ms) leaves no time for another attempt; the last one ended with {}: {}",
            failed.code, failed.message
        ),
        Failed::MAX_MESSAGE,
    );
    failed.code = code::DEADLINE_EXCEEDED.to_owned();
    failed
}

pub(super) fn cancelled(reason: &str, state: Option<ExternalState>) -> Failed {
    let mut failed = Failed::permanent(code::CANCELLED, format!("the ticket was cancelled: {reason}"));
    failed.external_state = state;
    failed.report.metadata.insert("cancel_reason".to_owned(), bounded(reason.to_owned(), 512).into());
    failed
}

/// The attempts so far fill the history; another could make the server end the workflow without an outcome.
pub(super) fn history_full(attempt: u32, mut last: Failed) -> Failed {
    last.message = bounded(
        format!(
            "attempt {attempt} was the last one, because the ticket and its output fill the workflow's history; pass data by \
             reference. it ended with: {}",
            last.message
        ),
        Failed::MAX_MESSAGE,
    );
    last
}
