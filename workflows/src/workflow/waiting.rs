//! How a ticket waits for those it depends on: one registration, then signals. No poll, and nothing is held meanwhile.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_workflow::{
    ActivityOptions, LocalActivityOptions, TimerOptions, WorkflowCancellationToken, WorkflowContext, select,
};

use super::{TicketWorkflow, cancel_event, now_ms, step};
use crate::declarations::TicketActivities;
use crate::dependencies::{Found, Registration, Wanted};
use crate::machine::{Command, Event};
use crate::references::{fill, references};
use crate::visibility::{PHASE, TicketPhase};

/// Up to so many predecessors are asked about within the workflow task.
const FEW: usize = 32;
/// How long that, or fetching outputs, may take there before it becomes an activity of its own.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one try of such an activity may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest pause between two tries. They are repeated until the server answers or the ticket is cancelled.
const MAX_INTERVAL: Duration = Duration::from_secs(10);
/// A waiting list looks for its ticket after so many times the patience of those who wait.
const LOOK_AFTER: u64 = 2;

pub(super) fn local() -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(LOCAL_TIMEOUT)
        .schedule_to_close_timeout(LOCAL_TIMEOUT)
        .retry_policy(RetryPolicy::builder().maximum_attempts(1).build())
        .cancellation_token(WorkflowCancellationToken::new())
        .build()
}

fn of_its_own(summary: &str) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(TIMEOUT)
        .retry_policy(RetryPolicy::builder().maximum_interval(MAX_INTERVAL).build())
        .summary(summary.to_owned())
        .build()
}

/// What a cancelled workflow's ticket hears.
fn cancelled(ctx: &WorkflowContext<TicketWorkflow>, otherwise: impl FnOnce() -> Event) -> Event {
    let token = ctx.cancellation_token();
    if token.is_cancelled() { cancel_event(token.reason()) } else { otherwise() }
}

/// Asks about predecessors.
pub(super) async fn register(ctx: &mut WorkflowContext<TicketWorkflow>, dependencies: Vec<String>) -> Event {
    let few = dependencies.len() <= FEW;
    let registration = ctx.state(|s| Registration {
        ticket_id: s.input.ticket.ticket_id.as_str().to_owned(),
        dependencies,
        look_after_ms: s
            .input
            .policy
            .dependencies
            .as_ref()
            .map_or(0, |policy| policy.unknown_timeout_ms.saturating_mul(LOOK_AFTER)),
    });
    if few
        && let Ok(registered) =
            ctx.execute_local_activity(TicketActivities::register, registration.clone(), local()).await
    {
        return Event::Registered(registered);
    }
    match ctx.execute_activity(TicketActivities::register, registration, of_its_own("dependencies")).await {
        Ok(registered) => Event::Registered(registered),
        // The server repeats it for ever, so only a cancel or a defect gets here.
        Err(error) => cancelled(ctx, || Event::Broken(format!("the dependencies could not be looked up: {error}"))),
    }
}

/// Waits for predecessors to tell. The command is the first that does not go on with this wait: a timer is kept for as
/// long as it means the same, however many tell meanwhile.
pub(super) async fn park(ctx: &mut WorkflowContext<TicketWorkflow>, until_ms: i64) -> Command {
    let stop = WorkflowCancellationToken::new();
    let left_ms = u64::try_from(until_ms - now_ms(ctx)).unwrap_or(0);
    let options = TimerOptions::builder(Duration::from_millis(left_ms)).cancellation_token(stop.clone());
    let mut timer = ctx.timer(options.summary("looks again".to_owned()).build());
    loop {
        let mut over = false;
        let mut told = ctx.wait_condition(|s: &TicketWorkflow| !s.told.is_empty());
        select! {
            _ = told => {}
            _ = timer => over = true,
        }
        let event = cancelled(ctx, || match ctx.state_mut(|s| s.told.pop_front()) {
            Some(told) => Event::PredecessorEnded(told),
            None => Event::WaitOver,
        });
        match step(ctx, event) {
            Command::Park { until_ms: again } if again == until_ms && !over => {}
            command => {
                if !over {
                    stop.cancel();
                }
                return command;
            }
        }
    }
}

/// Completes the ticket's parameters with outputs of those it depends on.
pub(super) async fn collect(ctx: &mut WorkflowContext<TicketWorkflow>) -> Event {
    // It counts as ready from now on.
    ctx.upsert_search_attributes([PHASE.value_set(TicketPhase::Ready.as_str().to_owned())]);
    let wanted = match ctx.state(|s| references(&s.input.ticket.parameters, &s.input.ticket.dependencies)) {
        Ok(wanted) => Wanted(wanted),
        Err(error) => return Event::NotCollected(error.to_string()),
    };
    let found = match wanted.0.is_empty() {
        true => Ok(Found::default()),
        false => fetch(ctx, wanted).await,
    };
    let filled = match found {
        Ok(found) => ctx.state(|s| fill(&s.input.ticket.parameters, &s.input.ticket.dependencies, &found.0)),
        Err(event) => return event,
    };
    match filled {
        Ok(parameters) => {
            ctx.state_mut(|s| s.input.ticket.parameters = parameters);
            Event::Collected
        }
        Err(error) => Event::NotCollected(error.to_string()),
    }
}

async fn fetch(ctx: &WorkflowContext<TicketWorkflow>, wanted: Wanted) -> Result<Found, Event> {
    if let Ok(found) = ctx.execute_local_activity(TicketActivities::collect, wanted.clone(), local()).await {
        return Ok(found);
    }
    // The server repeats it for ever, so only a cancel or a defect ends it with an error.
    ctx.execute_activity(TicketActivities::collect, wanted, of_its_own("outputs"))
        .await
        .map_err(|error| cancelled(ctx, || Event::Broken(format!("the outputs could not be fetched: {error}"))))
}
