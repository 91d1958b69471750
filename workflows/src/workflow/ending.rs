//! How a ticket ends: its result is published, the ticket service is told its status, and so is whoever depends on it. None
//! waits for another.

use std::collections::BTreeSet;
use std::time::Duration;

use temporalio_workflow::{
    ActivityOptions, TimerOptions, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext, join, select,
};

use super::{TicketWorkflow, now_ms, step};
use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyOutcome, Tell, waiters_id};
use crate::local::locally;
use crate::machine::Event;
use crate::repeated::{MAX_INTERVAL, until_done, until_done_slowly};
use crate::report::{Finish, Finished, Report};
use crate::ticket_service::{Owed, StatusUpdate};
use crate::visibility::{PHASE, TicketPhase};

/// How long one try of the report activity may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes the result and tells those that depend on the ticket: first within the workflow task, then, whatever a peer
/// kept from being done, as activities of their own that are tried until they succeed. A result whose time is not
/// `recorded` in the history yet goes the second way at once, and so does what dependents are told: the activities' inputs
/// record both, so that copies are equal, and nobody hears of an outcome that a lost workflow task takes back. A cancel
/// request reaches none of it.
pub(super) async fn end(ctx: &mut WorkflowContext<TicketWorkflow>, report: Report, recorded: bool) -> Event {
    if ctx.state(|s| s.input.policy.dependencies.is_none()) {
        // A ticket that an earlier version started: its history knows no `finish`.
        if !(recorded && locally(ctx, TicketActivities::report, report.clone()).await.is_ok()) {
            publish(ctx, report).await;
        }
    } else {
        finish(ctx, report, recorded).await;
    }
    // Whoever subscribed meanwhile. The workflow closes only when nobody is left.
    while let Some(tell) = subscribers(ctx, None) {
        tell_all(ctx, tell).await;
    }
    Event::Published
}

async fn finish(ctx: &mut WorkflowContext<TicketWorkflow>, report: Report, recorded: bool) {
    // The waiting list of the ticket may not exist: then nobody waits.
    let list = ctx.state(|s| waiters_id(s.input.ticket.ticket_id.as_str()));
    let Some(tell) = subscribers(ctx, Some(list)) else { return publish(ctx, report).await };
    let status = ctx
        .state(|s| s.input.policy.status_unknown_after_ms())
        .map(|unknown_after_ms| report.status_update(unknown_after_ms));
    let since_ms = report.result.timestamp;
    let mut done = Finished::default();
    if recorded {
        let finish = Finish { report: report.clone(), tell: tell.clone(), status: status.clone() };
        done = locally(ctx, TicketActivities::finish, finish).await.unwrap_or_default();
    }
    let mut status = status.filter(|_| done.status.is_none());
    // What is to be undone does not wait for the ticket service: it is told beside that.
    if ctx.state(|s| s.machine.undone_by().is_some()) {
        ctx.state_mut(|s| s.unnoted = status.take());
    }
    let owed = [
        (!done.published).then_some(Owed::Results),
        status.as_ref().map(|_| Owed::TicketService),
        (!done.told).then_some(Owed::Dependents),
    ];
    ctx.state_mut(|s| s.owed = owed.into_iter().flatten().collect());
    let telling = async {
        if !done.told {
            tell_until_told(ctx, tell).await;
            settled(ctx, Owed::Dependents);
        }
    };
    let publishing = async {
        if !done.published {
            publish(ctx, report).await;
            settled(ctx, Owed::Results);
        }
    };
    let noting = async {
        if let Some(status) = status {
            leave_place(ctx);
            note_until_noted(ctx, status).await;
            settled(ctx, Owed::TicketService);
        }
    };
    join!(telling, publishing, noting, watch(ctx, since_ms));
}

fn settled(ctx: &WorkflowContext<TicketWorkflow>, owed: Owed) {
    ctx.state_mut(|s| s.owed.remove(&owed));
    if owed == Owed::Results {
        leave_place(ctx);
    }
}

/// A ticket whose result is out does not count any more while the ticket service is away: an outage of it delays its
/// updates and nothing else.
fn leave_place(ctx: &WorkflowContext<TicketWorkflow>) {
    if ctx.state(|s| s.owed.contains(&Owed::TicketService) && !s.owed.contains(&Owed::Results)) {
        ctx.upsert_search_attributes([PHASE.value_set(TicketPhase::Reported.as_str().to_owned())]);
    }
}

/// Shows reports that are owed for too long as a state of its own.
async fn watch(ctx: &WorkflowContext<TicketWorkflow>, since_ms: i64) {
    let policy = ctx.state(|s| s.input.policy.reporting.clone());
    let Some(policy) = policy.filter(|_| ctx.state(|s| !s.owed.is_empty())) else { return };
    let left_ms = since_ms.saturating_add_unsigned(policy.stuck_after_ms).saturating_sub(now_ms(ctx));
    let stop = WorkflowCancellationToken::new();
    let options = TimerOptions::builder(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
        .cancellation_token(stop.clone())
        .summary("until the report counts as stuck".to_owned())
        .build();
    let mut overdue = ctx.timer(options);
    let never = WaitConditionOptions::builder().cancellation_token(WorkflowCancellationToken::new()).build();
    select! {
        _ = ctx.wait_condition_with_options(|s: &TicketWorkflow| s.owed.is_empty(), never) => stop.cancel(),
        _ = overdue => {
            step(ctx, Event::ReportOverdue(ctx.state(|s| s.owed.clone())));
        }
    }
}

/// A status is tried at the ticket service until it is taken or `stop` is cancelled.
pub(super) fn until_noted(stop: WorkflowCancellationToken) -> ActivityOptions {
    until_done_slowly("ticket service", REPORT_TIMEOUT, stop)
}

async fn note_until_noted(ctx: &WorkflowContext<TicketWorkflow>, status: StatusUpdate) {
    let options = || until_noted(WorkflowCancellationToken::new());
    while ctx.execute_activity(TicketActivities::set_status, status.clone(), options()).await.is_err() {
        pause(ctx).await;
    }
}

/// Whoever is to be told, and is then not any more.
pub(super) fn subscribers(ctx: &WorkflowContext<TicketWorkflow>, list: Option<String>) -> Option<Tell> {
    let subscribers: BTreeSet<_> =
        ctx.state_mut(|s| std::mem::take(&mut s.subscribers)).into_iter().chain(list).collect();
    if subscribers.is_empty() {
        return None;
    }
    ctx.state(|s| {
        let ticket_id = s.input.ticket.ticket_id.as_str().to_owned();
        Some(Tell { outcome: DependencyOutcome { ticket_id, outcome: s.machine.outcome()? }, subscribers })
    })
}

pub(super) async fn tell_all(ctx: &WorkflowContext<TicketWorkflow>, tell: Tell) {
    if locally(ctx, TicketActivities::tell, tell.clone()).await.is_err() {
        tell_until_told(ctx, tell).await;
    }
}

/// A cancel of the workflow does not end it.
fn for_ever(summary: &str) -> ActivityOptions {
    until_done(summary, REPORT_TIMEOUT, WorkflowCancellationToken::new())
}

/// The server retries for ever, so only a defect (a panic, a broken answer) ends such an activity with an error. What is
/// owed is still owed.
pub(super) async fn pause(ctx: &WorkflowContext<TicketWorkflow>) {
    let pause = TimerOptions::builder(MAX_INTERVAL).cancellation_token(WorkflowCancellationToken::new()).build();
    ctx.timer(pause).await;
}

async fn tell_until_told(ctx: &WorkflowContext<TicketWorkflow>, tell: Tell) {
    while ctx.execute_activity(TicketActivities::tell, tell.clone(), for_ever("tell dependents")).await.is_err() {
        pause(ctx).await;
    }
}

/// Publishes until published. Those that subscribe meanwhile are told at once.
async fn publish(ctx: &WorkflowContext<TicketWorkflow>, report: Report) {
    let mut reporting = ctx.execute_activity(TicketActivities::report, report.clone(), for_ever("report"));
    loop {
        let never = WaitConditionOptions::builder().cancellation_token(WorkflowCancellationToken::new()).build();
        let mut published = None;
        select! {
            answer = reporting => published = Some(answer.is_ok()),
            _ = ctx.wait_condition_with_options(|s: &TicketWorkflow| !s.subscribers.is_empty(), never) => {}
        }
        match published {
            Some(true) => return,
            Some(false) => {
                pause(ctx).await;
                reporting = ctx.execute_activity(TicketActivities::report, report.clone(), for_ever("report"));
            }
            None => {
                if let Some(tell) = subscribers(ctx, None) {
                    tell_all(ctx, tell).await;
                }
            }
        }
    }
}
