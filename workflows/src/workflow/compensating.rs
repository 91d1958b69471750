//! How what a failed ticket did is undone: another ticket is created, followed like a dependency, and what became of it is
//! told. Nothing but an order ends that early; a cancel of the workflow does not reach it. The ticket service is told beside
//! all this, and only the end of the ticket waits for it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use temporalio_common::ActivityDefinition;
use temporalio_common::data_converters::TemporalDeserializable;
use temporalio_workflow::{TimerOptions, WorkflowCancellationToken, WorkflowContext, select};
use ticket_schemas::compensation_of;

use super::ending::{pause, subscribers, tell_all, until_noted};
use super::waiting::{LOOK_AFTER, heard, left, whatever_happens};
use super::{TicketWorkflow, heed, now_ms, step};
use crate::compensation::Undoing;
use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyState, Registration};
use crate::machine::{Command, CompensationState, Event, Verdict};
use crate::references::escaped;
use crate::repeated::until_done;
use crate::ticket_service::{ServiceStatus, StatusUpdate};

/// How long one try of an activity may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Undoes, from the first ticket that is created for it to the end of the workflow.
pub(super) async fn undo(ctx: &mut WorkflowContext<TicketWorkflow>, attempt: u32, again: bool) -> Command {
    let mut steps = pin!(async {
        let mut command = Command::Compensate { attempt, again };
        loop {
            command = match heed(ctx, command) {
                Command::Compensate { attempt, again } => create(ctx, attempt, again).await,
                Command::FollowCompensation => follow(ctx).await,
                Command::AwaitCompensation { until_ms } => wait(ctx, Some(until_ms)).await,
                Command::AwaitOperator { until_ms } => wait(ctx, until_ms).await,
                Command::SettleCompensation => settle(ctx).await,
                other => break other,
            };
        }
    });
    let mut noting = pin!(note_the_newest(ctx));
    poll_fn(|task| match (steps.as_mut().poll(task), noting.as_mut().poll(task)) {
        (Poll::Ready(command), _) => Poll::Ready(command),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}

/// Keeps telling the ticket service the newest status until it has taken it. One that is overtaken by a newer one is given
/// up, but a call that is under way is waited for: it must not reach the service after the newer one.
async fn note_the_newest(ctx: &WorkflowContext<TicketWorkflow>) -> Infallible {
    loop {
        let owed = |s: &TicketWorkflow| s.unnoted.is_some();
        // It cannot fail: nothing cancels it.
        let _ = ctx.wait_condition_with_options(owed, whatever_happens()).await;
        let Some(newest) = ctx.state(|s| s.unnoted.clone()) else { continue };
        let stop = WorkflowCancellationToken::new();
        let options = until_noted(stop.clone());
        let mut telling = ctx.execute_activity(TicketActivities::set_status, newest.clone(), options);
        let overtaken = |s: &TicketWorkflow| s.unnoted.as_ref() != Some(&newest);
        let noted = select! {
            answer = telling => answer.is_ok(),
            _ = ctx.wait_condition_with_options(overtaken, whatever_happens()) => {
                stop.cancel();
                // However it ends, the newer one is owed.
                let _ = telling.await;
                continue;
            }
        };
        match noted {
            true => ctx.state_mut(|s| drop(s.unnoted.take_if(|owed| *owed == newest))),
            // Only a defect ends such an activity with an error; it is still owed.
            false => pause(ctx).await,
        }
    }
}

/// Owes the ticket service a status of the ticket, if there is one.
fn owe(ctx: &WorkflowContext<TicketWorkflow>, status: ServiceStatus) {
    let since_ms = now_ms(ctx);
    ctx.state_mut(|s| {
        let unknown_after_ms = s.input.policy.status_unknown_after_ms();
        let failure = s.machine.verdict().and_then(Verdict::failure);
        if let (Some(unknown_after_ms), Some(failure)) = (unknown_after_ms, failure) {
            s.unnoted = Some(StatusUpdate {
                ticket_id: s.input.ticket.ticket_id.as_str().to_owned(),
                status,
                error_message: Some(failure.message.clone()),
                actual_duration_ms: None,
                since_ms,
                unknown_after_ms,
            });
        }
    });
}

/// Creates the ticket that undoes this one. Its parameters are the plan that the workflow's input holds since before the
/// first attempt, outputs of predecessors filled in.
async fn create(ctx: &WorkflowContext<TicketWorkflow>, attempt: u32, again: bool) -> Command {
    let now = now_ms(ctx);
    let undoing = ctx.state(|s| {
        let epoch = s.machine.compensation_epoch()?;
        let mut ticket = compensation_of(&s.input.ticket, &epoch, now)?;
        // What was filled in for the original is text for the undo.
        ticket.parameters.values_mut().for_each(escaped);
        let original = s.input.ticket.ticket_id.as_str().to_owned();
        Some(Undoing { original, ticket, again, trace: s.input.trace.clone() })
    });
    // The machine plans an undo only for types that have one.
    let Some(undoing) = undoing else { return step(ctx, Event::CompensationCreated) };
    let this = Command::Compensate { attempt, again };
    match persist(ctx, TicketActivities::compensate, undoing, "create the compensation", this).await {
        Ok(()) => {
            // It stays so through later tries.
            if attempt == 1 && !again {
                owe(ctx, ServiceStatus::Compensating);
            }
            step(ctx, Event::CompensationCreated)
        }
        Err(command) => command,
    }
}

/// Asks how the compensation ticket stands, and subscribes to it.
async fn follow(ctx: &WorkflowContext<TicketWorkflow>) -> Command {
    let registration = ctx.state(|s| {
        let ticket_id = s.machine.compensation().map(|compensation| compensation.ticket_id.clone())?;
        let policy = s.input.policy.compensation.as_ref()?;
        Some(Registration {
            ticket_id: s.input.ticket.ticket_id.as_str().to_owned(),
            dependencies: vec![ticket_id],
            look_after_ms: policy.appear_timeout_ms.saturating_mul(LOOK_AFTER),
            workflows_only: true,
        })
    });
    let Some(registration) = registration else { return step(ctx, Event::WaitOver) };
    let wanted = registration.dependencies.first().cloned().unwrap_or_default();
    let this = Command::FollowCompensation;
    match persist(ctx, TicketActivities::register, registration, "follow the compensation", this).await {
        Ok(mut registered) => {
            let stands = registered.states.remove(&wanted).unwrap_or(DependencyState::Unknown);
            step(ctx, Event::CompensationStands(stands))
        }
        Err(command) => command,
    }
}

/// Waits for the compensation ticket to tell or for an order, until the time is over if there is one.
async fn wait(ctx: &WorkflowContext<TicketWorkflow>, until_ms: Option<i64>) -> Command {
    let stop = WorkflowCancellationToken::new();
    let mut timer = until_ms.map(|until_ms| {
        let options = TimerOptions::builder(left(ctx, until_ms)).cancellation_token(stop.clone());
        ctx.timer(options.summary("looks at the compensation".to_owned()).build())
    });
    let came = |s: &TicketWorkflow| !s.orders.is_empty() || !s.subscribers.is_empty() || !s.told.is_empty();
    loop {
        let mut something = ctx.wait_condition_with_options(came, whatever_happens());
        match timer.as_mut() {
            Some(mut timer) => select! {
                _ = timer => return step(ctx, Event::WaitOver),
                _ = something => {}
            },
            // It cannot fail: nothing cancels it.
            None => drop(something.await),
        }
        answer_subscribers(ctx).await;
        if let Some(command) = told(ctx).or_else(|| heard(ctx)) {
            stop.cancel();
            return command;
        }
    }
}

/// Tells what became of it, and whoever has subscribed meanwhile how the ticket ended.
async fn settle(ctx: &WorkflowContext<TicketWorkflow>) -> Command {
    let compensated =
        ctx.state(|s| s.machine.compensation().is_some_and(|it| it.state == CompensationState::Completed));
    owe(ctx, if compensated { ServiceStatus::Compensated } else { ServiceStatus::Failed });
    let came = |s: &TicketWorkflow| s.unnoted.is_none() || !s.orders.is_empty() || !s.subscribers.is_empty();
    loop {
        // It cannot fail: nothing cancels it.
        let _ = ctx.wait_condition_with_options(came, whatever_happens()).await;
        answer_subscribers(ctx).await;
        if let Some(command) = heard(ctx) {
            return command;
        }
        if ctx.state(|s| s.unnoted.is_none()) {
            return step(ctx, Event::CompensationSettled);
        }
    }
}

/// Runs an activity until it has succeeded, or until an order wants something else. Those that subscribe meanwhile are
/// answered. Only a defect ends such an activity with an error; then it is begun anew, by the command that is `this`.
async fn persist<A>(
    ctx: &WorkflowContext<TicketWorkflow>,
    activity: A,
    input: A::Input,
    what: &str,
    this: Command,
) -> Result<A::Output, Command>
where
    A: ActivityDefinition,
    A::Output: TemporalDeserializable,
{
    let stop = WorkflowCancellationToken::new();
    let mut work = ctx.execute_activity(activity, input, until_done(what, TIMEOUT, stop.clone()));
    let came = |s: &TicketWorkflow| !s.orders.is_empty() || !s.subscribers.is_empty();
    loop {
        let mut done = None;
        select! {
            answer = work => done = Some(answer),
            _ = ctx.wait_condition_with_options(came, whatever_happens()) => {}
        }
        match done {
            Some(Ok(output)) => return Ok(output),
            Some(Err(_)) => {
                pause(ctx).await;
                return Err(this);
            }
            None => {}
        }
        answer_subscribers(ctx).await;
        if let Some(command) = heard(ctx) {
            stop.cancel();
            return Err(command);
        }
    }
}

/// What a predecessor told, as far as it leads on.
fn told(ctx: &WorkflowContext<TicketWorkflow>) -> Option<Command> {
    while let Some(told) = ctx.state_mut(|s| s.told.pop_front()) {
        let command = step(ctx, Event::PredecessorEnded(told));
        if command != Command::Ignore {
            return Some(command);
        }
    }
    None
}

/// Whoever asks hears that the ticket has failed: that is final, whatever becomes of the compensation.
async fn answer_subscribers(ctx: &WorkflowContext<TicketWorkflow>) {
    while let Some(tell) = subscribers(ctx, None) {
        tell_all(ctx, tell).await;
    }
}
