//! `TicketWorkflow`: drives the machine. Every decision is the machine's; every side effect is an activity's.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "the macro expands to undocumented public marker types"
)]

mod compensating;
mod ending;
mod executing;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use temporalio_common::data_converters::RawValue;
use temporalio_common::error::ApplicationFailure;
use temporalio_common::search_attributes::Timestamp;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult, WorkflowTermination,
};

use crate::dependencies::{DependencyOutcome, Subscription, understood};
use crate::details::current_details;
use crate::input::TicketInput;
use crate::machine::{Command, Compensation, CompensationState, Event, Machine, Row, Verdict};
use crate::orders::{Order, OrderAnswer};
use crate::outcome::{Failed, bounded};
use crate::references::{fill, mentioned};
use crate::report::report;
use crate::status::TicketStatus;
use crate::ticket_service::{Owed, StatusUpdate};
use crate::visibility::{DEADLINE, ERROR_CODE, PHASE};

/// One ticket, from its record to its published result.
#[workflow]
pub struct TicketWorkflow {
    input: TicketInput,
    machine: Machine,
    /// What predecessors told and the machine has not heard yet.
    told: VecDeque<DependencyOutcome>,
    /// What operators ordered and the machine has not heard yet.
    orders: VecDeque<Order>,
    /// Workflows that want to know how the ticket ends and have not been told yet.
    subscribers: BTreeSet<String>,
    /// To whom reports are owed once the ticket has ended.
    owed: BTreeSet<Owed>,
    /// The newest status that the ticket service has not taken, of a ticket that is being undone.
    unnoted: Option<StatusUpdate>,
}

#[workflow_methods]
impl TicketWorkflow {
    #[init]
    pub fn new(ctx: &WorkflowContextView, input: TicketInput) -> Self {
        let machine = Machine::new(&input.ticket, &input.policy).of_run(ctx.run_id());
        let mut input = input;
        // Without dependencies there is nothing to wait for, but escaped references stand for their text all the same.
        if input.policy.dependencies.is_some()
            && input.ticket.dependencies.is_empty()
            && mentioned(&input.ticket.parameters)
            && let Ok(parameters) = fill(&input.ticket.parameters, &input.ticket.dependencies, &BTreeMap::new())
        {
            input.ticket.parameters = parameters;
        }
        let (told, orders) = (VecDeque::new(), VecDeque::new());
        Self { input, machine, told, orders, subscribers: BTreeSet::new(), owed: BTreeSet::new(), unnoted: None }
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
            command = match heed(ctx, command) {
                Command::Register { dependencies } => waiting::register(ctx, dependencies).await,
                Command::Park { until_ms } => waiting::park(ctx, until_ms).await,
                Command::Collect => waiting::collect(ctx).await,
                Command::Execute { attempt, timeout_ms } => executing::execute(ctx, attempt, timeout_ms).await,
                Command::Wait { for_ms } => waiting::wait_to_retry(ctx, for_ms).await,
                Command::Hold { until_ms } => waiting::hold(ctx, until_ms).await,
                Command::Publish => {
                    let report = ctx.state(|s| report(&s.input, &s.machine, ctx.run_id(), started_ms));
                    let recorded = ctx.state(|s| s.machine.concluded().is_some_and(|concluded| concluded.recorded));
                    let event = match report {
                        Some(report) => ending::end(ctx, report, recorded).await,
                        None => Event::Published,
                    };
                    step(ctx, event)
                }
                Command::Compensate { attempt, again } => compensating::undo(ctx, attempt, again).await,
                Command::Close => break,
                // `Stop` is carried out where the attempt runs, what follows the creation of an undo within it, and no
                // event above is ever out of place. A panic fails the workflow task, not the ticket: it stays open and
                // visible until a worker knows better.
                command => {
                    unreachable!("the machine asked for {command:?} in {:?}", ctx.state(|s| s.machine.state().clone()))
                }
            };
        }
        close(ctx)
    }

    /// Somebody wants to know how the ticket ends.
    #[signal(name = "subscribe")]
    pub fn subscribe(&mut self, _ctx: &mut SyncWorkflowContext<Self>, signal: RawValue) {
        if let Some(subscription) = understood::<Subscription>(&signal) {
            self.subscribers.insert(subscription.workflow_id);
        }
    }

    /// A ticket that this one depends on ended.
    #[signal(name = "dependency_outcome")]
    pub fn dependency_outcome(&mut self, _ctx: &mut SyncWorkflowContext<Self>, signal: RawValue) {
        self.told.extend(understood::<DependencyOutcome>(&signal));
    }

    /// An order that makes no sense is refused before it becomes an event.
    #[update_validator(order)]
    fn validate_order(
        &self,
        _ctx: &WorkflowContextView,
        order: &Order,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let ahead = self.ahead(self.machine.clock_ms());
        ahead.refuses(ahead.clock_ms(), order).map_or(Ok(()), |reason| Err(reason.into()))
    }

    /// An operator orders something. The answer says what follows; it follows once the run goes on.
    #[update(name = "order")]
    pub fn order(&mut self, ctx: &mut SyncWorkflowContext<Self>, order: Order) -> OrderAnswer {
        let now = ctx.workflow_time().map_or(0, epoch_ms);
        let answer = self.ahead(now).answer(now, &order);
        if answer.done {
            self.orders.push_back(order);
        }
        answer
    }

    /// What the ticket is doing.
    #[query(name = "status")]
    pub fn status(&self, _ctx: &WorkflowContextView) -> TicketStatus {
        TicketStatus::of(self.input.ticket.ticket_id.as_str(), &self.machine)
    }
}

impl TicketWorkflow {
    /// The machine as it will be once it has heard the orders given already.
    fn ahead(&self, now_ms: i64) -> Machine {
        let mut machine = self.machine.clone();
        for order in &self.orders {
            machine.apply(now_ms, Event::Ordered(order.clone()), || 0.0);
        }
        machine
    }
}

/// Hears the orders given so far before a command is carried out: the command that holds after them. What is being
/// published stays as it is, and a ticket that is released counts as ready first.
fn heed(ctx: &WorkflowContext<TicketWorkflow>, mut command: Command) -> Command {
    let mut heard = false;
    while !matches!(command, Command::Collect | Command::Publish | Command::Close)
        && let Some(order) = ctx.state_mut(|s| s.orders.pop_front())
    {
        heard = true;
        match step(ctx, Event::Ordered(order)) {
            Command::Ignore => {}
            Command::Stop => command = step(ctx, Event::Unbegun),
            newer => command = newer,
        }
    }
    // An attempt that has not begun begins as the orders want it: later, or with more time.
    if heard && matches!(command, Command::Execute { .. }) {
        command = step(ctx, Event::Unbegun);
    }
    command
}

/// Feeds one event to the machine and shows the new state.
fn step(ctx: &WorkflowContext<TicketWorkflow>, event: Event) -> Command {
    step_at(ctx, now_ms(ctx), event)
}

fn step_at(ctx: &WorkflowContext<TicketWorkflow>, now: i64, event: Event) -> Command {
    let (command, details, deadline_ms, phase) = ctx.state_mut(|s| {
        let (before, phase) = (s.machine.deadline_ms(), s.machine.compensation_phase());
        let (state, name) = (s.machine.state().name(), event.name());
        let command = s.machine.apply(now, event, || ctx.random::<f64>());
        Row::tell(state, name, &command, s.machine.state());
        let deadline_ms = s.machine.deadline_ms().filter(|deadline_ms| before != Some(*deadline_ms));
        let changed = s.machine.compensation_phase().filter(|now| phase != Some(*now));
        (command, current_details(&s.machine), deadline_ms, changed)
    });
    ctx.set_current_details(details);
    if let Some(deadline_ms) = deadline_ms {
        let nanos = i32::try_from(deadline_ms.rem_euclid(1000) * 1_000_000).unwrap_or_default();
        ctx.upsert_search_attributes([DEADLINE.value_set(Timestamp::new(deadline_ms.div_euclid(1000), nanos))]);
    }
    if let Some(phase) = phase {
        let code = ctx.state(|s| s.machine.verdict()?.failure().map(|failed| failed.code.clone())).unwrap_or_default();
        ctx.upsert_search_attributes([PHASE.value_set(phase.as_str().to_owned()), ERROR_CODE.value_set(code)]);
    }
    command
}

fn cancel_event(reason: Option<String>) -> Event {
    let reason = reason.filter(|reason| !reason.is_empty());
    Event::CancelRequested(reason.unwrap_or_else(|| "no reason given".to_owned()))
}

/// Closes the workflow as the verdict says.
fn close(ctx: &WorkflowContext<TicketWorkflow>) -> WorkflowResult<String> {
    let (verdict, compensation) = ctx.state(|s| (s.machine.verdict().cloned(), s.machine.compensation().cloned()));
    match verdict {
        Some(Verdict::Completed(completed)) => Ok(completed.evidence.to_string()),
        Some(Verdict::Cancelled(failed)) => {
            ctx.upsert_search_attributes([ERROR_CODE.value_set(failed.code)]);
            Err(WorkflowTermination::cancelled_with_details(failed.message))
        }
        Some(Verdict::Failed(failed)) => {
            ctx.upsert_search_attributes([ERROR_CODE.value_set(failed.code.clone())]);
            let message =
                compensation.map_or_else(|| failed.message.clone(), |it| with_compensation(&failed.message, &it));
            Err(ApplicationFailure::builder(message).type_name(failed.code).non_retryable(true).build().into())
        }
        None => Err(ApplicationFailure::non_retryable("the workflow ended without a verdict").into()),
    }
}

/// What the failure of a closed workflow says.
fn with_compensation(message: &str, compensation: &Compensation) -> String {
    let became = match &compensation.state {
        CompensationState::Completed => format!("ticket {} has undone what it did", compensation.ticket_id),
        _ => format!("what it did was not undone: the compensation (ticket {}) was skipped", compensation.ticket_id),
    };
    bounded(format!("{message}; {became}"), Failed::MAX_MESSAGE)
}

fn now_ms(ctx: &WorkflowContext<TicketWorkflow>) -> i64 {
    ctx.workflow_time().map_or(0, epoch_ms)
}

fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
