//! How a ticket waits: for those it depends on (one registration, then signals), for a retry, for an operator. No poll,
//! and nothing is held meanwhile.

use std::time::Duration;

use temporalio_common::ActivityDefinition;
use temporalio_common::data_converters::TemporalDeserializable;
use temporalio_workflow::{TimerOptions, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext, select};

use super::executing::LONGEST;
use super::{TicketWorkflow, cancel_event, now_ms, step};
use crate::declarations::TicketActivities;
use crate::dependencies::{Found, Registered, Registration, Wanted};
use crate::local::locally;
use crate::machine::{Command, Event, encoded_bytes};
use crate::references::{ReferenceError, fill, references};
use crate::repeated::until_done;
use crate::visibility::{PHASE, TicketPhase};

/// Up to so many predecessors are asked about within the workflow task.
const FEW: usize = 32;
/// Up to so many are asked about by one activity.
const MANY: usize = 200;
/// How long one try of such an activity may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A waiting list looks for its ticket after so many times the patience of those who wait.
pub(super) const LOOK_AFTER: u64 = 2;

/// What a cancelled workflow's ticket hears.
fn cancelled(ctx: &WorkflowContext<TicketWorkflow>, otherwise: impl FnOnce() -> Event) -> Event {
    let token = ctx.cancellation_token();
    if token.is_cancelled() { cancel_event(token.reason()) } else { otherwise() }
}

/// Asks about predecessors, some at a time: what was answered is not asked again when something breaks.
pub(super) async fn register(ctx: &mut WorkflowContext<TicketWorkflow>, dependencies: Vec<String>) -> Command {
    let mut registered = Registered::default();
    for some in dependencies.chunks(MANY) {
        match ask(ctx, some.to_vec()).await {
            Ok(answer) => {
                registered.states.extend(answer.states);
                registered.cycle = registered.cycle.or(answer.cycle);
            }
            Err(command) => return command,
        }
    }
    // What they have told meanwhile is newer than what was answered.
    while let Some(told) = ctx.state_mut(|s| s.told.pop_front()) {
        step(ctx, Event::PredecessorEnded(told));
    }
    step(ctx, Event::Registered(registered))
}

/// The answer about these, or what is to be done instead of waiting for it.
async fn ask(ctx: &WorkflowContext<TicketWorkflow>, dependencies: Vec<String>) -> Result<Registered, Command> {
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
        workflows_only: false,
    });
    if few && let Ok(registered) = locally(ctx, TicketActivities::register, registration.clone()).await {
        return Ok(registered);
    }
    of_its_own(ctx, TicketActivities::register, registration, "dependencies", "looked up").await
}

/// An activity that is repeated until the server answers, or until the ticket is cancelled: its answer, or what is to be
/// done instead. Orders are heard meanwhile.
async fn of_its_own<A>(
    ctx: &WorkflowContext<TicketWorkflow>,
    activity: A,
    input: A::Input,
    what: &str,
    done: &str,
) -> Result<A::Output, Command>
where
    A: ActivityDefinition,
    A::Output: TemporalDeserializable,
{
    let stop = ctx.cancellation_token().child_token();
    let mut asking = ctx.execute_activity(activity, input, until_done(what, TIMEOUT, stop.clone()));
    let given = |s: &TicketWorkflow| !s.orders.is_empty();
    loop {
        select! {
            // Only a cancel or a defect ends it with an error.
            answer = asking => return answer.map_err(|error| {
                let broken = || Event::Broken(format!("the {what} could not be {done}: {error}"));
                step(ctx, cancelled(ctx, broken))
            }),
            _ = ctx.wait_condition_with_options(given, whatever_happens()) => if let Some(command) = heard(ctx) {
                stop.cancel();
                return Err(command);
            },
        }
    }
}

/// A wait for orders that a cancelled workflow does not end: that is seen by what it cancels.
pub(super) fn whatever_happens() -> WaitConditionOptions {
    WaitConditionOptions::builder().cancellation_token(WorkflowCancellationToken::new()).build()
}

/// Hears the next order. `None`: what the ticket does goes on.
pub(super) fn heard(ctx: &WorkflowContext<TicketWorkflow>) -> Option<Command> {
    let order = ctx.state_mut(|s| s.orders.pop_front())?;
    Some(step(ctx, Event::Ordered(order))).filter(|command| *command != Command::Ignore)
}

/// Waits for predecessors to tell.
pub(super) async fn park(ctx: &mut WorkflowContext<TicketWorkflow>, until_ms: i64) -> Command {
    let left = left(ctx, until_ms);
    wait(ctx, Some(left), "looks again", &Command::Park { until_ms }).await
}

/// Waits for the time of a retry.
pub(super) async fn wait_to_retry(ctx: &mut WorkflowContext<TicketWorkflow>, for_ms: u64) -> Command {
    wait(ctx, Some(Duration::from_millis(for_ms)), "", &Command::Wait { for_ms }).await
}

/// Waits until somebody resumes the ticket, or its deadline ends it.
pub(super) async fn hold(ctx: &mut WorkflowContext<TicketWorkflow>, until_ms: Option<i64>) -> Command {
    let left = until_ms.map(|until_ms| left(ctx, until_ms).min(LONGEST));
    wait(ctx, left, "deadline of the paused ticket", &Command::Hold { until_ms }).await
}

pub(super) fn left(ctx: &WorkflowContext<TicketWorkflow>, until_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(until_ms - now_ms(ctx)).unwrap_or(0))
}

/// Waits until the time is over, or something comes. Answers with the first command that does not go on with this wait: a
/// timer is kept for as long as it means the same, whatever comes meanwhile. What predecessors tell is for a parked ticket.
async fn wait(
    ctx: &mut WorkflowContext<TicketWorkflow>,
    time: Option<Duration>,
    summary: &str,
    this: &Command,
) -> Command {
    let parked = matches!(this, Command::Park { .. });
    let stop = WorkflowCancellationToken::new();
    let mut timer = time.map(|time| {
        let options = TimerOptions::builder(time).cancellation_token(stop.clone());
        let summary = Some(summary.to_owned()).filter(|summary| !summary.is_empty());
        ctx.timer(options.maybe_summary(summary).build())
    });
    loop {
        let mut over = false;
        let mut came =
            ctx.wait_condition(move |s: &TicketWorkflow| !s.orders.is_empty() || (parked && !s.told.is_empty()));
        match timer.as_mut() {
            Some(mut timer) => select! {
                _ = came => {}
                _ = timer => over = true,
            },
            None => drop(came.await),
        }
        let event = cancelled(ctx, || {
            let order = ctx.state_mut(|s| s.orders.pop_front()).map(Event::Ordered);
            let told = || parked.then(|| ctx.state_mut(|s| s.told.pop_front()))?.map(Event::PredecessorEnded);
            order.or_else(told).unwrap_or(Event::WaitOver)
        });
        match step(ctx, event) {
            Command::Ignore if over => return step(ctx, Event::WaitOver),
            Command::Ignore => {}
            again if again == *this && !over => {}
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
pub(super) async fn collect(ctx: &mut WorkflowContext<TicketWorkflow>) -> Command {
    // It counts as ready from now on.
    ctx.upsert_search_attributes([PHASE.value_set(TicketPhase::Ready.as_str().to_owned())]);
    let wanted = match ctx.state(|s| references(&s.input.ticket.parameters, &s.input.ticket.dependencies)) {
        Ok(wanted) => Wanted(wanted),
        Err(error) => return step(ctx, Event::NotCollected(error.to_string())),
    };
    let nothing_wanted = wanted.0.is_empty();
    let found = match nothing_wanted {
        true => Found::default(),
        false => match fetch(ctx, wanted).await {
            Ok(found) => found,
            Err(command) => return command,
        },
    };
    let filled = match found.too_large {
        true => Err(ReferenceError::too_large()),
        false => ctx.state(|s| fill(&s.input.ticket.parameters, &s.input.ticket.dependencies, &found.outputs)),
    };
    let event = match filled {
        Ok(parameters) => {
            let bytes = ctx.state_mut(|s| {
                s.input.ticket.parameters = parameters;
                encoded_bytes(&s.input.ticket)
            });
            Event::Collected { filled_bytes: (!nothing_wanted).then_some(bytes) }
        }
        Err(error) => Event::NotCollected(error.to_string()),
    };
    step(ctx, event)
}

/// The outputs, or what is to be done instead.
async fn fetch(ctx: &WorkflowContext<TicketWorkflow>, wanted: Wanted) -> Result<Found, Command> {
    if let Ok(found) = locally(ctx, TicketActivities::collect, wanted.clone()).await {
        return Ok(found);
    }
    of_its_own(ctx, TicketActivities::collect, wanted, "outputs", "fetched").await
}
