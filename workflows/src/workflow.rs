//! `TicketWorkflow`: drives the machine. Every decision is the machine's; every side effect is an activity's.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "the macro expands to undocumented public marker types"
)]

mod ending;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use temporalio_common::error::{ActivityExecutionError, ApplicationFailure, TimeoutType};
use temporalio_common::{ActivityCloseTimeouts, RetryPolicy};
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ActivityCancellationType, ActivityOptions, SyncWorkflowContext, WorkflowCancellationToken, WorkflowContext,
    WorkflowContextView, WorkflowResult, WorkflowTermination, select,
};

use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyOutcome, Subscription};
use crate::details::current_details;
use crate::execution::ExecuteRequest;
use crate::input::TicketInput;
use crate::machine::{Command, Event, Machine, Verdict};
use crate::report::report;
use crate::status::TicketStatus;
use crate::visibility::ERROR_CODE;

/// What the server adds to an attempt's own time-out before it gives the attempt up. The executor ends its work by
/// itself at the time-out and then needs time to stop it (10 s grace) and to answer.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Ten years: longer time-outs than any ticket means, short enough for every clock involved.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A worker that has been silent for this long is lost. Heartbeats go out every second.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// One ticket, from its record to its published result.
#[workflow]
pub struct TicketWorkflow {
    input: TicketInput,
    machine: Machine,
    /// What predecessors told and the machine has not heard yet.
    told: VecDeque<DependencyOutcome>,
    /// Workflows that want to know how the ticket ends and have not been told yet.
    subscribers: BTreeSet<String>,
}

#[workflow_methods]
impl TicketWorkflow {
    #[init]
    pub fn new(_ctx: &WorkflowContextView, input: TicketInput) -> Self {
        let machine = Machine::new(&input.ticket, &input.policy);
        Self { input, machine, told: VecDeque::new(), subscribers: BTreeSet::new() }
    }

    /// Runs the ticket. A ticket that failed closes the workflow as *failed* with its stable code as failure type, a
    /// cancelled one as *cancelled*, so that the UI's own status filter is the first forensic tool.
    #[run(name = "TicketWorkflow")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        let started_ms = ctx.info().start_time().map_or_else(|| now_ms(ctx), epoch_ms);
        let first = if ctx.cancellation_token().is_cancelled() {
            cancel_event(ctx.cancellation_token().reason())
        } else {
            Event::Admitted
        };
        let mut command = step_at(ctx, started_ms, first);
        loop {
            let event = match command {
                Command::Register { dependencies } => waiting::register(ctx, dependencies).await,
                Command::Park { until_ms } => {
                    command = waiting::park(ctx, until_ms).await;
                    continue;
                }
                Command::Collect => waiting::collect(ctx).await,
                Command::Execute { attempt, timeout_ms } => execute(ctx, attempt, timeout_ms).await,
                Command::Wait { for_ms } => wait(ctx, Duration::from_millis(for_ms)).await,
                Command::Publish => {
                    let report = ctx.state(|s| report(&s.input, &s.machine, ctx.run_id(), started_ms));
                    let recorded = ctx.state(|s| s.machine.concluded().is_some_and(|concluded| concluded.recorded));
                    match report {
                        Some(report) => ending::end(ctx, report, recorded).await,
                        None => Event::Published,
                    }
                }
                Command::Close => break,
                // `Stop` is carried out where the attempt runs, and no event above is ever out of place. A panic fails
                // the workflow task, not the ticket: it stays open and visible until a worker knows better.
                Command::Stop | Command::Ignore => {
                    unreachable!("the machine asked for {command:?} in {:?}", ctx.state(|s| s.machine.state().clone()))
                }
            };
            command = step(ctx, event);
        }
        close(ctx)
    }

    /// Somebody wants to know how the ticket ends.
    #[signal(name = "subscribe")]
    pub fn subscribe(&mut self, _ctx: &mut SyncWorkflowContext<Self>, subscription: Subscription) {
        self.subscribers.insert(subscription.workflow_id);
    }

    /// A ticket that this one depends on ended.
    #[signal(name = "dependency_outcome")]
    pub fn dependency_outcome(&mut self, _ctx: &mut SyncWorkflowContext<Self>, told: DependencyOutcome) {
        self.told.push_back(told);
    }

    /// What the ticket is doing.
    #[query(name = "status")]
    pub fn status(&self, _ctx: &WorkflowContextView) -> TicketStatus {
        TicketStatus::of(self.input.ticket.ticket_id.as_str(), &self.machine)
    }
}

/// Feeds one event to the machine and shows the new state.
fn step(ctx: &WorkflowContext<TicketWorkflow>, event: Event) -> Command {
    step_at(ctx, now_ms(ctx), event)
}

fn step_at(ctx: &WorkflowContext<TicketWorkflow>, now: i64, event: Event) -> Command {
    let (command, details) = ctx.state_mut(|s| {
        let command = s.machine.apply(now, event, || ctx.random::<f64>());
        (command, current_details(&s.machine))
    });
    ctx.set_current_details(details);
    command
}

/// Runs one attempt to its end. A cancel request stops it and waits until it has stopped.
async fn execute(ctx: &mut WorkflowContext<TicketWorkflow>, attempt: u32, timeout_ms: u64) -> Event {
    let (request, deadline_ms) = ctx.state(|s| {
        let deadline_ms = s.machine.enforced_deadline_ms();
        (ExecuteRequest { ticket: s.input.ticket.clone(), attempt, timeout_ms, deadline_ms }, deadline_ms)
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
    let reason = select! {
        answer = activity => return answered(answer),
        reason = ctx.cancelled() => reason,
    };
    step(ctx, cancel_event(reason));
    stop.cancel();
    answered(activity.await)
}

fn answered(answer: Result<crate::ExecuteResponse, ActivityExecutionError>) -> Event {
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

/// Waits, holding nothing; a cancel request ends the wait.
async fn wait(ctx: &mut WorkflowContext<TicketWorkflow>, duration: Duration) -> Event {
    ctx.timer(duration).await;
    if ctx.cancellation_token().is_cancelled() {
        cancel_event(ctx.cancellation_token().reason())
    } else {
        Event::WaitOver
    }
}

fn cancel_event(reason: Option<String>) -> Event {
    let reason = reason.filter(|reason| !reason.is_empty());
    Event::CancelRequested(reason.unwrap_or_else(|| "no reason given".to_owned()))
}

/// Closes the workflow as the verdict says.
fn close(ctx: &WorkflowContext<TicketWorkflow>) -> WorkflowResult<String> {
    let verdict = ctx.state(|s| s.machine.verdict().cloned());
    match verdict {
        Some(Verdict::Completed(completed)) => Ok(completed.evidence.to_string()),
        Some(Verdict::Cancelled(failed)) => {
            ctx.upsert_search_attributes([ERROR_CODE.value_set(failed.code)]);
            Err(WorkflowTermination::cancelled_with_details(failed.message))
        }
        Some(Verdict::Failed(failed)) => {
            ctx.upsert_search_attributes([ERROR_CODE.value_set(failed.code.clone())]);
            Err(ApplicationFailure::builder(failed.message).type_name(failed.code).non_retryable(true).build().into())
        }
        None => Err(ApplicationFailure::non_retryable("the workflow ended without a verdict").into()),
    }
}

fn now_ms(ctx: &WorkflowContext<TicketWorkflow>) -> i64 {
    ctx.workflow_time().map_or(0, epoch_ms)
}

fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
