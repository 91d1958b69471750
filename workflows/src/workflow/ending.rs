//! How a ticket ends: its result is published, and whoever depends on it is told. Neither waits for the other.

use std::collections::BTreeSet;
use std::time::Duration;

use temporalio_workflow::{
    ActivityOptions, TimerOptions, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext, join, select,
};

use super::TicketWorkflow;
use super::local::locally;
use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyOutcome, Tell, waiters_id};
use crate::machine::Event;
use crate::repeated::{MAX_INTERVAL, until_done};
use crate::report::{Finish, Finished, Report};

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
    let mut done = Finished::default();
    if recorded {
        let finish = Finish { report: report.clone(), tell: tell.clone() };
        done = locally(ctx, TicketActivities::finish, finish).await.unwrap_or_default();
    }
    let telling = async {
        if !done.told {
            tell_until_told(ctx, tell).await;
        }
    };
    let publishing = async {
        if !done.published {
            publish(ctx, report).await;
        }
    };
    join!(telling, publishing);
}

/// Whoever is to be told, and is then not any more.
fn subscribers(ctx: &WorkflowContext<TicketWorkflow>, list: Option<String>) -> Option<Tell> {
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

async fn tell_all(ctx: &WorkflowContext<TicketWorkflow>, tell: Tell) {
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
async fn pause(ctx: &WorkflowContext<TicketWorkflow>) {
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
