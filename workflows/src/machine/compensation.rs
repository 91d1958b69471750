//! What follows a failure that left something behind: another ticket undoes it, and this one stays open until that has come
//! to an end (`docs/adr/0016-compensation.md`).

use serde::{Deserialize, Serialize};
use ticket_schemas::{Ticket, TicketId, compensation_action, compensation_id};

use super::orders::Effect;
use super::{Command, Event, Machine, State, Verdict};
use crate::dependencies::DependencyState;
use crate::orders::Verb;
use crate::outcome::code;
use crate::policy::TicketPolicy;
use crate::visibility::TicketPhase;

/// Longest time between two looks at a compensation ticket that does not tell, in milliseconds.
const MAX_LOOK_INTERVAL_MS: i64 = 3_600_000;
/// Times that one ticket is created before an operator is asked.
const MOST_CREATED: u32 = 2;
/// Ends of an attempt that say that it began nothing.
const NOTHING_BEGUN: [&str; 5] = [
    code::EXECUTOR_NOT_AVAILABLE,
    code::PROVIDER_NOT_AVAILABLE,
    code::INVALID_PARAMETERS,
    code::COMMAND_NOT_ALLOWED,
    code::COMMAND_NOT_FOUND,
];

/// How a ticket would be undone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Undo {
    original: TicketId,
    action: &'static str,
    run_id: String,
    appear_timeout_ms: i64,
    /// Whether an attempt may have left something behind.
    acted: bool,
    /// How often the present try's ticket was created.
    created: u32,
}

impl Undo {
    /// `None` when the ticket's type has no undo, or the policy wants none.
    pub(super) fn of(ticket: &Ticket, policy: &TicketPolicy) -> Option<Self> {
        let policy = policy.compensation.as_ref()?;
        Some(Self {
            original: ticket.ticket_id.clone(),
            action: compensation_action(ticket.task_type)?,
            run_id: String::new(),
            appear_timeout_ms: i64::try_from(policy.appear_timeout_ms).unwrap_or(i64::MAX).max(1_000),
            acted: false,
            created: 0,
        })
    }

    fn epoch(&self, attempt: u32) -> String {
        format!("{}#{attempt}", self.run_id)
    }

    fn ticket_id(&self, attempt: u32) -> String {
        compensation_id(&self.original, self.action, &self.epoch(attempt))
    }
}

/// The compensation of a failed ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compensation {
    /// The ticket that undoes it; the last one when there were several.
    pub ticket_id: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// What became of it.
    #[serde(flatten)]
    pub state: CompensationState,
}

/// What became of a compensation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "compensation", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CompensationState {
    /// Its ticket is being created, or runs.
    UnderWay,
    /// Its ticket failed.
    Failed {
        /// The error code.
        code: String,
    },
    /// It is done.
    Completed,
    /// An operator wants it to be left.
    Skipped,
}

impl Machine {
    /// The machine of one run: compensations of other runs are other tickets.
    #[must_use]
    pub fn of_run(mut self, run_id: &str) -> Self {
        if let Some(undo) = &mut self.undo {
            run_id.clone_into(&mut undo.run_id);
        }
        self
    }

    /// The compensation; `None` until the result of a ticket that is to be undone is published.
    #[must_use]
    pub fn compensation(&self) -> Option<&Compensation> {
        self.compensation.as_ref()
    }

    /// What a ticket that has failed will be undone by: ticket id and action. `None` when it will not.
    #[must_use]
    pub fn undone_by(&self) -> Option<(String, &'static str)> {
        let undo = self.undo.as_ref().filter(|undo| undo.acted)?;
        matches!(self.verdict, Some(Verdict::Failed(_))).then(|| (undo.ticket_id(1), undo.action))
    }

    /// What makes the ids of the present try's ticket.
    pub(crate) fn compensation_epoch(&self) -> Option<String> {
        Some(self.undo.as_ref()?.epoch(self.compensation.as_ref()?.attempt))
    }

    /// What the search attribute says once the ticket is to be undone; `None` before.
    pub(crate) fn compensation_phase(&self) -> Option<TicketPhase> {
        Some(match self.compensation.as_ref()?.state {
            CompensationState::UnderWay => TicketPhase::Compensating,
            CompensationState::Failed { .. } => TicketPhase::CompensationFailed,
            CompensationState::Completed => TicketPhase::Compensated,
            CompensationState::Skipped => TicketPhase::CompensationSkipped,
        })
    }

    /// An attempt ended so.
    pub(super) fn acted(&mut self, end: &str) {
        if let Some(undo) = &mut self.undo {
            undo.acted |= !NOTHING_BEGUN.contains(&end);
        }
    }

    /// The result is published: the first try, if there is something to undo.
    pub(super) fn compensate(&mut self, now_ms: i64) -> Option<Command> {
        self.undone_by()?;
        Some(self.create(now_ms, 1, false))
    }

    fn create(&mut self, now_ms: i64, attempt: u32, again: bool) -> Command {
        let Some(undo) = &mut self.undo else { return Command::Ignore };
        undo.created = if again { undo.created.saturating_add(1) } else { 1 };
        let ticket_id = undo.ticket_id(attempt);
        let state = CompensationState::UnderWay;
        self.compensation = Some(Compensation { ticket_id: ticket_id.clone(), attempt, state });
        self.state = State::CreatingCompensation { since_ms: now_ms, attempt, ticket_id };
        Command::Compensate { attempt, again }
    }

    pub(super) fn compensating(&mut self, state: State, event: Event, now_ms: i64) -> Command {
        match (state, event) {
            (State::CreatingCompensation { attempt, ticket_id, .. }, Event::CompensationCreated) => {
                self.state = State::Compensating { since_ms: now_ms, until_ms: now_ms, attempt, ticket_id };
                Command::FollowCompensation
            }
            (State::Compensating { ticket_id, .. }, Event::PredecessorEnded(told)) if told.ticket_id == ticket_id => {
                self.stands(told.outcome, now_ms)
            }
            (State::Compensating { .. }, Event::CompensationStands(stands)) => self.stands(stands, now_ms),
            // It came late after all.
            (State::CompensationFailed { attempt, ticket_id, .. }, Event::PredecessorEnded(told))
                if told.ticket_id == ticket_id =>
            {
                self.appeared(now_ms, attempt, ticket_id, told.outcome)
            }
            (State::CompensationFailed { .. }, Event::WaitOver) => Command::FollowCompensation,
            (State::CompensationFailed { since_ms, .. }, Event::CompensationStands(DependencyState::Unknown)) => {
                self.await_operator(since_ms, now_ms)
            }
            (State::CompensationFailed { attempt, ticket_id, .. }, Event::CompensationStands(stands)) => {
                self.appeared(now_ms, attempt, ticket_id, stands)
            }
            (State::Compensating { .. }, Event::WaitOver) => Command::FollowCompensation,
            (State::SettlingCompensation { .. }, Event::CompensationSettled) => {
                self.state = State::Closed;
                Command::Close
            }
            _ => Command::Ignore,
        }
    }

    /// What follows from how the compensation ticket stands.
    fn stands(&mut self, stands: DependencyState, now_ms: i64) -> Command {
        let State::Compensating { since_ms, attempt, ticket_id, .. } = self.state.clone() else {
            return Command::Ignore;
        };
        let (appear_ms, created) = self.undo.as_ref().map_or((0, 0), |undo| (undo.appear_timeout_ms, undo.created));
        let appear_by_ms = since_ms.saturating_add(appear_ms);
        match stands {
            DependencyState::Completed => self.settle(now_ms, CompensationState::Completed),
            DependencyState::Failed { code } => self.fail(now_ms, attempt, ticket_id, code),
            DependencyState::Unknown if now_ms < appear_by_ms => {
                self.look_at(since_ms, appear_by_ms, attempt, ticket_id)
            }
            // Its record may have been lost before it became a workflow.
            DependencyState::Unknown if created < MOST_CREATED => self.create(now_ms, attempt, true),
            // Nobody takes it: a third record would change nothing.
            DependencyState::Unknown => self.fail(now_ms, attempt, ticket_id, code::DEPENDENCY_UNKNOWN.to_owned()),
            // It tells; a look finds one that was terminated, twice as late each time.
            DependencyState::Open => {
                let interval_ms = self.look_interval(since_ms, now_ms);
                self.look_at(since_ms, now_ms.saturating_add(interval_ms), attempt, ticket_id)
            }
        }
    }

    fn fail(&mut self, now_ms: i64, attempt: u32, ticket_id: String, code: String) -> Command {
        let state = CompensationState::Failed { code: code.clone() };
        self.compensation = Some(Compensation { ticket_id: ticket_id.clone(), attempt, state });
        self.state = State::CompensationFailed { since_ms: now_ms, attempt, ticket_id, code };
        self.await_operator(now_ms, now_ms)
    }

    /// A ticket that nobody has heard of may still come, after hours of a broken Kafka: it is looked for twice as late each
    /// time.
    fn await_operator(&self, since_ms: i64, now_ms: i64) -> Command {
        let unheard = matches!(&self.state, State::CompensationFailed { code, .. } if code == code::DEPENDENCY_UNKNOWN);
        let interval_ms = self.look_interval(since_ms, now_ms);
        Command::AwaitOperator { until_ms: unheard.then(|| now_ms.saturating_add(interval_ms)) }
    }

    fn look_interval(&self, since_ms: i64, now_ms: i64) -> i64 {
        let appear_ms = self.undo.as_ref().map_or(0, |undo| undo.appear_timeout_ms);
        (now_ms - since_ms).clamp(appear_ms.min(MAX_LOOK_INTERVAL_MS), MAX_LOOK_INTERVAL_MS)
    }

    /// It is there after all.
    fn appeared(&mut self, now_ms: i64, attempt: u32, ticket_id: String, stands: DependencyState) -> Command {
        let state = CompensationState::UnderWay;
        self.compensation = Some(Compensation { ticket_id: ticket_id.clone(), attempt, state });
        self.state = State::Compensating { since_ms: now_ms, until_ms: now_ms, attempt, ticket_id };
        self.stands(stands, now_ms)
    }

    fn look_at(&mut self, since_ms: i64, until_ms: i64, attempt: u32, ticket_id: String) -> Command {
        self.state = State::Compensating { since_ms, until_ms, attempt, ticket_id };
        Command::AwaitCompensation { until_ms }
    }

    fn settle(&mut self, now_ms: i64, state: CompensationState) -> Command {
        if let Some(compensation) = &mut self.compensation {
            compensation.state = state;
        }
        self.state = State::SettlingCompensation { since_ms: now_ms };
        Command::SettleCompensation
    }

    /// Carries out an order about the compensation that has been weighed.
    pub(super) fn order_compensation(&mut self, verb: &Verb, state: &State, now_ms: i64) -> Command {
        match (verb, state) {
            // One that nobody has heard of may still come: another one beside it could undo twice.
            (Verb::ResumeCompensation, State::CompensationFailed { attempt, code, .. })
                if code == code::DEPENDENCY_UNKNOWN =>
            {
                self.create(now_ms, *attempt, true)
            }
            (Verb::ResumeCompensation, State::CompensationFailed { attempt, .. }) => {
                self.create(now_ms, attempt.saturating_add(1), false)
            }
            (Verb::SkipCompensation, _) => self.settle(now_ms, CompensationState::Skipped),
            _ => Command::Ignore,
        }
    }

    pub(super) fn weigh_compensation(&self, verb: &Verb) -> Result<Effect, String> {
        let resume = matches!(verb, Verb::ResumeCompensation);
        match (&self.state, self.compensation.as_ref().map(|it| &it.state)) {
            (State::CompensationFailed { .. }, _) if resume => {
                Ok(Effect::Change("another try at undoing it begins".to_owned()))
            }
            (State::CompensationFailed { .. }, _) => {
                Ok(Effect::Change("what it did stays as it is, and it closes as failed".to_owned()))
            }
            (State::CreatingCompensation { ticket_id, .. } | State::Compensating { ticket_id, .. }, _) => {
                Ok(match resume {
                    true => Effect::Already(format!("ticket {ticket_id} is undoing it already")),
                    false => Effect::Change(format!(
                        "ticket {ticket_id} is not waited for any more; what it has begun goes on unless it is cancelled"
                    )),
                })
            }
            (_, Some(CompensationState::Completed)) if resume => {
                Ok(Effect::Already("it has been undone already".to_owned()))
            }
            (_, Some(CompensationState::Skipped)) if !resume => {
                Ok(Effect::Already("its compensation is skipped already".to_owned()))
            }
            (_, Some(CompensationState::Completed)) => Err("it has been undone already".to_owned()),
            (_, Some(_)) => Err("its compensation has been skipped already".to_owned()),
            (_, None) => Err(format!("it is {}; nothing is being undone", self.doing())),
        }
    }

    /// Why nothing but the compensation can be given orders about.
    pub(super) fn compensation_under_way(&self) -> Option<String> {
        let what = match &self.state {
            State::CreatingCompensation { ticket_id, .. } | State::Compensating { ticket_id, .. } => {
                format!("ticket {ticket_id} is undoing what it did")
            }
            State::CompensationFailed { ticket_id, .. } => format!("ticket {ticket_id} failed to undo what it did"),
            _ => return None,
        };
        Some(format!("{what}, which cannot be stopped half way; `ticket compensation skip` leaves things as they are"))
    }
}
