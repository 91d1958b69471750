//! How an attempt runs, and how it is stopped.

use std::time::Duration;

use temporalio_common::error::{ActivityExecutionError, TimeoutType};
use temporalio_common::{ActivityCloseTimeouts, RetryPolicy};
use temporalio_workflow::{
    ActivityCancellationType, ActivityOptions, TimerOptions, WorkflowCancellationToken, WorkflowContext, select,
};

use super::{TicketWorkflow, cancel_event, now_ms, step};
use crate::declarations::TicketActivities;
use crate::execution::{ExecuteRequest, ExecuteResponse};
use crate::machine::{Command, Event};

/// What the server adds to an attempt's own time-out before it gives the attempt up. The executor ends its work by
/// itself at the time-out and then needs time to stop it (10 s grace) and to answer.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// A worker that has been silent for this long is lost. Heartbeats go out every second.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// Ten years: longer time-outs than any ticket means, short enough for every clock involved.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs one attempt to its end. A cancel request, or an order to cancel, stops it and waits until it has stopped, at most
/// for the order's grace.
pub(super) async fn execute(ctx: &mut WorkflowContext<TicketWorkflow>, attempt: u32, timeout_ms: u64) -> Command {
    let (request, deadline_ms) = ctx.state(|s| {
        let deadline_ms = s.machine.enforced_deadline_ms();
        let status_unknown_after_ms = s.input.policy.status_unknown_after_ms();
        let ticket = s.input.ticket.clone();
        (ExecuteRequest { ticket, attempt, timeout_ms, deadline_ms, status_unknown_after_ms }, deadline_ms)
    });
    let start_to_close = Duration::from_millis(timeout_ms) + STOP_MARGIN;
    let close_timeouts = match deadline_ms.and_then(|deadline_ms| u64::try_from(deadline_ms - now_ms(ctx)).ok()) {
        Some(left_ms) => ActivityCloseTimeouts::ScheduleAndStartToClose {
            schedule_to_close: Duration::from_millis(left_ms).min(LONGEST) + STOP_MARGIN,
            start_to_close,
        },
        None => ActivityCloseTimeouts::StartToClose(start_to_close),
    };
    let stop = WorkflowCancellationToken::new();
    let options = ActivityOptions::with_close_timeouts(close_timeouts)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
        .cancellation_token(stop.clone())
        // Covers lost workers only, without limit: a crash or a roll-out never uses up `max_retries`.
        .retry_policy(
            RetryPolicy::builder()
                .initial_interval(Duration::from_millis(200))
                .backoff_coefficient(2.0)
                .maximum_interval(Duration::from_secs(5))
                .non_retryable_error_types(["TemporalTimeout:StartToClose"])
                .build(),
        )
        .summary(format!("attempt {attempt}"))
        .build();
    let mut activity = ctx.execute_activity(TicketActivities::execute, request, options);
    loop {
        // An answer counts before an order that came with it: a result that was published already stays true.
        let cancelled = select! {
            answer = activity => return step(ctx, answered(answer)),
            reason = ctx.cancelled() => Some(cancel_event(reason)),
            _ = ctx.wait_condition(|s: &TicketWorkflow| !s.orders.is_empty()) => None,
        };
        let event = cancelled.or_else(|| ctx.state_mut(|s| s.orders.pop_front()).map(Event::Ordered));
        if let Some(event) = event
            && step(ctx, event) == Command::Stop
        {
            break;
        }
    }
    stop.cancel();
    let Some(grace_ms) = ctx.state(|s| s.machine.grace_ms()) else {
        return step(ctx, answered(activity.await));
    };
    // The worker goes on stopping the work after the grace; the closed workflow tells it that nobody waits.
    let in_time = WorkflowCancellationToken::new();
    let options = TimerOptions::builder(Duration::from_millis(grace_ms)).cancellation_token(in_time.clone());
    let mut grace = ctx.timer(options.summary("grace of the cancel".to_owned()).build());
    let event = select! {
        answer = activity => answered(answer),
        _ = grace => Event::GraceOver,
    };
    in_time.cancel();
    step(ctx, event)
}

fn answered(answer: Result<ExecuteResponse, ActivityExecutionError>) -> Event {
    match answer {
        Ok(response) => Event::Answered(Box::new(response)),
        Err(ActivityExecutionError::Cancelled(_)) => Event::Stopped,
        Err(error) => match error.as_timeout().map(|timeout| timeout.timeout_type()) {
            Some(TimeoutType::StartToClose | TimeoutType::ScheduleToClose | TimeoutType::ScheduleToStart) => {
                Event::TimedOut
            }
            _ => Event::Broken(format!("the executor activity broke: {error}")),
        },
    }
}
