//! The account as a paragraph of plain sentences.

use std::time::Duration;

use serde_json::Value;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use super::account::{Account, Known, Predecessor, clean};
use crate::dead_letters::format_instant;
use crate::temporal::named;

/// Ids that a sentence names.
const NAMED: usize = 5;

/// What the account says, in sentences.
pub(super) fn paragraph(account: &Account, known: &Known) -> String {
    let mut sentences = Vec::new();
    match &account.waiting_for {
        Some(waiting_for) => open(&mut sentences, account, known, waiting_for),
        None => closed(&mut sentences, account),
    }
    if let Some(deadline) = &account.deadline {
        let used = percent(account.deadline_used.unwrap_or_default());
        sentences.push(match (&account.closed, account.deadline_used) {
            (_, None) => format!("Its deadline is {deadline}."),
            (Some(_), Some(_)) => format!("Its deadline was {deadline}; it used {used} of the time until then."),
            (None, Some(share)) if share >= 1.0 => {
                format!("Its deadline was {deadline}, and {used} of the time until then is used.")
            }
            (None, Some(_)) => format!("Its deadline is {deadline}, and {used} of the time until then is used."),
        });
    }
    sentences.extend(account.predecessors.iter().map(predecessor));
    match &account.url {
        Some(url) => sentences.push(format!("The run: {url}")),
        None => sentences.push(format!(
            "The run: {} (temporal workflow describe -w {} -r {}).",
            account.run_id, account.workflow_id, account.run_id
        )),
    }
    sentences.join(" ")
}

fn open(sentences: &mut Vec<String>, account: &Account, known: &Known, waiting_for: &Value) {
    let since = account.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
    sentences.push(format!("Ticket {} {}{since}.", account.ticket_id, doing(waiting_for)));
    let failure = waiting_for["last_failure"].as_str();
    match waiting_for["activity_attempt"].as_i64() {
        Some(attempt) if attempt > 1 => sentences.push(match failure {
            Some(failure) => format!("That is tried for the {} time; before it failed: {failure}.", ordinal(attempt)),
            None => format!("That is tried for the {} time.", ordinal(attempt)),
        }),
        _ => {}
    }
    let until = account.until.as_deref().map(|until| match waiting_for["kind"].as_str() {
        Some("retry") => format!("The wait ends at {until}"),
        Some("dependencies" | "compensation") => format!("It looks again at {until}"),
        _ => format!("It ends at {until} at the latest"),
    });
    sentences.extend(until.map(|until| format!("{until}.")));
    sentences.extend(account.unblocked_by.as_ref().map(|by| format!("This ends with {by}.")));
    if let Some(why) = &account.unanswered {
        let queue = &known.run.task_queue;
        let (of, moved) = known.run.pinned.as_ref().map_or_else(Default::default, |version| {
            (
                format!(" of {}, to which it is pinned,", named(version)),
                format!(
                    ", or move the ticket (temporal workflow update-options -w {} --versioning-override-behavior auto_upgrade)",
                    account.workflow_id
                ),
            )
        });
        let poll = match known.newest_poll_ms {
            Some(None) => format!(
                ", and no worker{of} polls its task queue {queue:?}: start one, or correct TEMPORAL_TASK_QUEUE{moved}"
            ),
            Some(Some(at_ms)) => format!(
                ", and the last time that one{of} polled its task queue {queue:?} was {}: look whether one runs{moved}",
                format_instant(at_ms).unwrap_or_default()
            ),
            None => String::new(),
        };
        sentences.push(format!("This is what the server says by itself: {why}{poll}."));
    }
    if known.run.status == WorkflowExecutionStatus::Paused {
        sentences.push("The workflow is paused on the server until somebody unpauses it.".to_owned());
    }
    if let Some(code) = &account.error_code {
        sentences.push(format!("It failed with {code}, which is final."));
    }
    if let Some(ledger) = account.attempts.as_ref()
        && let Some(last) = ledger.attempts.last()
    {
        let worker = last.worker.as_deref().map(|worker| format!(" on {}", clean(worker))).unwrap_or_default();
        let at = format_instant(last.ended_at_ms).unwrap_or_default();
        let end = clean(&last.end);
        sentences.push(format!("Attempts so far: {}; the last ended with {end}{worker} at {at}.", ledger.count));
    }
}

fn closed(sentences: &mut Vec<String>, account: &Account) {
    let at = account.closed.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
    let code = account.error_code.as_deref().map(|code| format!(" with {code}")).unwrap_or_default();
    let how = match account.state.as_str() {
        "terminated" => "was terminated by an operator, without a result".to_owned(),
        "timed_out" => "was ended by the server's workflow time-out, without a result".to_owned(),
        "cancelled" => "was cancelled".to_owned(),
        state => format!("{state}{code}"),
    };
    let message = account.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    sentences.push(format!("Ticket {} {how}{at}{message}.", account.ticket_id));
    if let Some(ledger) = &account.attempts {
        sentences.push(match ledger.count {
            0 => "No attempt was made.".to_owned(),
            1 => "It took one attempt.".to_owned(),
            count => format!("It took {count} attempts."),
        });
    }
}

/// What a ticket does that waits for this, after its name.
fn doing(waiting_for: &Value) -> String {
    let text = |key: &str| waiting_for[key].as_str().unwrap_or_default();
    let number = |key: &str| waiting_for[key].as_u64().unwrap_or_default();
    match text("kind") {
        "worker" => match number("attempt") {
            0 | 1 => "waits for a worker that takes its next workflow task".to_owned(),
            attempt => {
                format!("waits for a worker that ends its workflow task, attempt {attempt}, those before were lost,")
            }
        },
        "dependency_lookup" => "asks how the tickets that it depends on stand".to_owned(),
        "dependencies" => {
            let ids: Vec<_> =
                waiting_for["tickets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let count = number("count");
            let named = ids.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let more = count.saturating_sub(ids.len().min(NAMED) as u64);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let tickets = if count == 1 { "1 ticket".to_owned() } else { format!("{count} tickets") };
            format!("waits for {tickets} that it depends on ({named}{more})")
        }
        "outputs" => "fetches outputs of the tickets that it depends on".to_owned(),
        "executor" => {
            let task_type = Some(text("task_type")).filter(|it| !it.is_empty()).unwrap_or("its task type");
            let provider = Some(text("provider")).filter(|it| !it.is_empty()).map(|it| format!(" with provider {it}"));
            let attempt = match number("attempt") {
                0 => "an attempt".to_owned(),
                attempt => format!("attempt {attempt} of {}", number("max_attempts")),
            };
            let place = match text("worker") {
                "" => "is scheduled and no worker has reported that it runs it".to_owned(),
                worker => format!("runs on {worker}"),
            };
            format!("waits for the executor of {task_type}{}: {attempt} {place}", provider.unwrap_or_default())
        }
        "stop" => {
            let reason = Some(text("reason")).filter(|it| !it.is_empty()).map(|it| format!(" ({it})"));
            format!("was cancelled{} and its attempt is being stopped", reason.unwrap_or_default())
        }
        "resume" => format!("is paused before attempt {}", number("attempt")),
        "retry" => match number("attempt") {
            0 => "waits for the time of its next attempt".to_owned(),
            attempt => format!(
                "waits for the time of attempt {attempt} of {}, because the last one ended with {},",
                number("max_attempts"),
                text("error_code")
            ),
        },
        "compensation_creation" => format!("is to be undone: {} is being created", undoing(waiting_for)),
        "compensation" => format!("is being undone by {}", undoing(waiting_for)),
        "compensation_order" => {
            let code = Some(text("error_code")).filter(|it| !it.is_empty());
            let code = code.map(|code| format!(" with {code}")).unwrap_or_default();
            format!("was not undone: {} ended{code}, and somebody has to say what happens", undoing(waiting_for))
        }
        "compensation_settlement" => "has been undone, or was not to be, and tells the ticket service".to_owned(),
        "publication" => "has its outcome and reports it".to_owned(),
        "stuck_report" => {
            let owed: Vec<_> = waiting_for["owed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("has its outcome and has been kept for long from reporting it to: {},", owed.join(", "))
        }
        "workflow_task" => format!(
            "is stuck: its workflow task fails again and again ({} attempts, the last failure: {})",
            number("attempt"),
            text("last_failure")
        ),
        other => format!("waits for {other}"),
    }
}

/// The ticket that undoes another, as far as known.
fn undoing(waiting_for: &Value) -> String {
    match (waiting_for["ticket_id"].as_str(), waiting_for["attempt"].as_u64()) {
        (Some(id), Some(attempt)) if attempt > 1 => format!("ticket {} (try {attempt})", clean(id)),
        (Some(id), _) => format!("ticket {}", clean(id)),
        (None, _) => "a COMPENSATE ticket".to_owned(),
    }
}

/// Why another ticket is not done.
fn predecessor(it: &Predecessor) -> String {
    let code = it.error_code.as_deref().map(|code| format!(" with {code}")).unwrap_or_default();
    let since = it.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
    match (&it.waiting_for, it.state.as_str()) {
        (Some(waiting_for), _) => format!("Ticket {} {}{since}.", it.ticket_id, doing(waiting_for)),
        (None, "not_found") => {
            format!("Ticket {} has not come: Temporal has no workflow of it.", it.ticket_id)
        }
        (None, "unknown") => format!("How ticket {} stands could not be found out.", it.ticket_id),
        (None, state) => format!("Ticket {} has ended: {state}{code}.", it.ticket_id),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn ordinal(number: i64) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// A duration in the largest unit that leaves no rest.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, name) in [(86_400, "day"), (3_600, "hour"), (60, "minute")] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            let count = seconds / unit;
            return format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        }
    }
    format!("{seconds} seconds")
}
