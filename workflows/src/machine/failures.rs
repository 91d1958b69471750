//! The failures that the machine itself finds: what people read when a ticket was not run, or ran out of time.

use ticket_schemas::Ticket;

use crate::outcome::{ExternalState, Failed, FailureClass, bounded, code};
use crate::references::references;

use super::RetryAt;

/// Predecessors that a message names; there may be thousands.
pub(super) const NAMED: usize = 5;

/// Why a ticket cannot be worked on at all, before anything starts. Tickets that a bridge without dependencies started
/// still replay with it.
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

pub(super) fn dependency_failed(ticket_id: &str, code: &str) -> Failed {
    Failed::permanent(
        code::DEPENDENCY_FAILED,
        format!(
            "the ticket was not run: it depends on {ticket_id}, which ended with {code}. mend and re-drive that one, then \
             re-drive this one"
        ),
    )
}

pub(super) fn cycle(path: &[String]) -> Failed {
    Failed::permanent(
        code::DEPENDENCY_CYCLE,
        format!(
            "the ticket was not run: its dependencies lead back to itself ({}). correct the plan",
            bounded(path.join(" → "), 1024)
        ),
    )
}

pub(super) fn too_many_dependencies(count: usize) -> Failed {
    Failed::permanent(
        code::INVALID_DEPENDENCIES,
        format!(
            "the ticket was not run: it depends on {count} tickets, more than the {} a workflow can hear of; put one in between",
            crate::policy::DependencyPolicy::MOST
        ),
    )
}

pub(super) fn dependencies_unknown(named: &[String], count: usize, waited_ms: i64) -> Failed {
    Failed::permanent(
        code::DEPENDENCY_UNKNOWN,
        format!(
            "the ticket was not run: in {waited_ms} ms nobody has heard of {}, which it depends on. publish them, then \
             re-drive this one, or raise DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS",
            names(named, count)
        ),
    )
}

pub(super) fn dependencies_took_too_long(named: &[String], count: usize, waited_ms: i64) -> Failed {
    Failed::permanent(
        code::DEPENDENCY_TIMEOUT,
        format!(
            "the ticket was not run: after {waited_ms} ms it still waited for {}. re-drive it when they are done, or raise \
             DEPENDENCY_CHECK_MAX_ATTEMPTS",
            names(named, count)
        ),
    )
}

pub(super) fn names(named: &[String], count: usize) -> String {
    match count.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A parameter that refers to an output in a wrong form, or to that of a ticket this one does not depend on.
pub(super) fn misreference(ticket: &Ticket) -> Option<Failed> {
    references(&ticket.parameters, &ticket.dependencies).err().map(|error| reference(error.to_string()))
}

pub(super) fn reference(message: String) -> Failed {
    Failed::permanent(code::INVALID_REFERENCE, message)
}

pub(super) fn deadline_passed_waiting(deadline_ms: i64, named: &[String], count: usize) -> Failed {
    Failed::permanent(
        code::DEADLINE_EXCEEDED,
        format!(
            "sla.deadline {deadline_ms} (epoch ms) passed while the ticket waited for {}; publish it under a new ticket_id \
             with a later deadline",
            names(named, count)
        ),
    )
}

pub(super) fn deadline_passed_paused(deadline_ms: i64, retry: Option<&RetryAt>) -> Failed {
    let last = retry.map(|retry| format!("; its last attempt ended with {}", retry.code)).unwrap_or_default();
    Failed::permanent(
        code::DEADLINE_EXCEEDED,
        format!(
            "sla.deadline {deadline_ms} (epoch ms) passed while the ticket was paused{last}; publish it under a new \
             ticket_id with a later deadline"
        ),
    )
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

pub(super) fn cancelled(reason: &str, preempted_by: Option<&str>, state: Option<ExternalState>) -> Failed {
    let mut failed = Failed::permanent(code::CANCELLED, format!("the ticket was cancelled: {reason}"));
    failed.external_state = state;
    failed.report.metadata.insert("cancel_reason".to_owned(), bounded(reason.to_owned(), 512).into());
    if let Some(ticket_id) = preempted_by {
        failed.report.metadata.insert("preempted_by".to_owned(), ticket_id.into());
    }
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
