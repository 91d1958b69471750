//! What the machine makes of an operator's order: whether it makes sense now, and what follows.

use super::{Command, Event, Machine, RetryAt, State, Verdict};
use crate::orders::{Order, OrderAnswer, OrderRecord, Verb};
use crate::outcome::bounded;

/// Orders kept.
const KEPT: usize = 20;
/// The latest deadline taken, epoch milliseconds: the end of the year 9999. Times in smaller units end up above it.
const LATEST_DEADLINE_MS: i64 = 253_402_300_799_999;

/// What an order that makes sense comes to, in words for people.
enum Effect {
    /// The ticket is so already.
    Already(String),
    /// It changes.
    Change(String),
}

use Effect::{Already, Change};

impl Machine {
    /// The last orders that changed something, oldest first; at most 20.
    #[must_use]
    pub fn orders(&self) -> &[OrderRecord] {
        &self.orders
    }

    /// Whether no further attempt begins until somebody resumes the ticket.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused && self.verdict.is_none()
    }

    /// How long to wait for the executor to confirm that work has stopped, in milliseconds; `None`: as long as it takes.
    #[must_use]
    pub fn grace_ms(&self) -> Option<u64> {
        self.grace_ms
    }

    /// The time of the last event, epoch milliseconds.
    #[must_use]
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Why an order cannot be carried out; `None`: it can, or what it asks for is so already.
    #[must_use]
    pub fn refuses(&self, now_ms: i64, order: &Order) -> Option<String> {
        order.fault().or_else(|| self.weigh(now_ms, &order.clone().cleaned().verb).err())
    }

    /// What is answered to whoever gave the order.
    #[must_use]
    pub fn answer(&self, now_ms: i64, order: &Order) -> OrderAnswer {
        if let Some(note) = order.fault() {
            return OrderAnswer { done: false, note };
        }
        match self.weigh(now_ms, &order.clone().cleaned().verb) {
            Ok(Already(note) | Change(note)) => OrderAnswer { done: true, note },
            Err(note) => OrderAnswer { done: false, note },
        }
    }

    /// Carries an order out. One that changes nothing, or makes no sense any more, is ignored.
    pub(super) fn ordered(&mut self, state: State, order: Order, now_ms: i64) -> Command {
        let order = order.cleaned();
        if order.fault().is_some() || !matches!(self.weigh(now_ms, &order.verb), Ok(Change(_))) {
            return Command::Ignore;
        }
        if self.orders.len() == KEPT {
            self.orders.remove(0);
        }
        self.orders.push(OrderRecord { order: order.clone(), at_ms: now_ms });
        match (order.verb, state) {
            (Verb::Cancel { preempted_by, grace_ms }, state) => {
                (self.preempted_by, self.grace_ms) = (preempted_by, grace_ms);
                self.transition(state, Event::CancelRequested(order.why), now_ms, || 0.0)
            }
            (Verb::Pause, State::RetryWait { attempt, since_ms, until_ms, code }) => {
                self.paused = true;
                self.hold(now_ms, attempt + 1, Some(RetryAt { failed_at_ms: since_ms, at_ms: until_ms, code }))
            }
            (Verb::Pause, _) => {
                self.paused = true;
                Command::Ignore
            }
            (Verb::Resume, State::Paused { attempt, retry, .. }) => {
                self.paused = false;
                match retry {
                    Some(retry) if retry.at_ms > now_ms => self.wait_to_retry(now_ms, attempt, retry),
                    Some(retry) => {
                        self.ledger.waited(retry.failed_at_ms, now_ms);
                        self.execute(now_ms, attempt)
                    }
                    None => self.execute(now_ms, attempt),
                }
            }
            (Verb::Resume, _) => {
                self.paused = false;
                Command::Ignore
            }
            (Verb::RetryNow, State::RetryWait { attempt, since_ms, .. }) => {
                self.ledger.waited(since_ms, now_ms);
                self.execute(now_ms, attempt + 1)
            }
            (Verb::ExtendDeadline { deadline_ms }, state) => {
                self.deadline_ms = Some(deadline_ms);
                match state {
                    State::Parked { since_ms, .. } => self.look(since_ms, now_ms),
                    State::Paused { since_ms, attempt, retry, .. } => self.hold(since_ms, attempt, retry),
                    _ => Command::Ignore,
                }
            }
            (Verb::SkipDependency { ticket_id }, state) => {
                if let Some(predecessors) = &mut self.predecessors {
                    predecessors.skip(&ticket_id);
                }
                match state {
                    State::Parked { since_ms, .. } => self.look(since_ms, now_ms),
                    _ => Command::Ignore,
                }
            }
            (Verb::RetryNow, _) => Command::Ignore,
        }
    }

    /// Waits for the time of a retry, unless the ticket is paused.
    pub(super) fn wait_to_retry(&mut self, now_ms: i64, next: u32, retry: RetryAt) -> Command {
        if self.paused {
            return self.hold(now_ms, next, Some(retry));
        }
        let RetryAt { failed_at_ms, at_ms, code } = retry;
        self.state =
            State::RetryWait { attempt: next.saturating_sub(1), since_ms: failed_at_ms, until_ms: at_ms, code };
        Command::Wait { for_ms: u64::try_from(at_ms - now_ms).unwrap_or(0) }
    }

    /// The next attempt waits until somebody resumes the ticket. A deadline that is enforced goes on counting.
    pub(super) fn hold(&mut self, since_ms: i64, attempt: u32, retry: Option<RetryAt>) -> Command {
        let until_ms = self.enforced_deadline_ms();
        self.state = State::Paused { since_ms, until_ms, attempt, retry };
        Command::Hold { until_ms }
    }

    fn weigh(&self, now_ms: i64, verb: &Verb) -> Result<Effect, String> {
        if let Verb::Cancel { .. } = verb
            && let Some(reason) = self.cancel_under_way()
        {
            return Ok(Already(format!("it is being cancelled already ({reason})")));
        }
        if self.verdict.is_some() {
            return Err(format!("it has ended as {}", self.ending()));
        }
        match verb {
            Verb::Cancel { .. } => Ok(Change(match self.state {
                State::Executing { attempt, .. } => format!("attempt {attempt} is being stopped"),
                _ => "it is cancelled; nothing was running".to_owned(),
            })),
            Verb::Pause if matches!(self.state, State::Stopping { .. }) => {
                Err("it is being cancelled; there is nothing left to pause".to_owned())
            }
            Verb::Pause if self.paused => Ok(Already("it is paused already".to_owned())),
            Verb::Pause => Ok(Change(match self.state {
                State::Executing { attempt, .. } => {
                    format!("attempt {attempt} goes on; no other begins until it is resumed")
                }
                _ => "no attempt begins until it is resumed".to_owned(),
            })),
            Verb::Resume if !self.paused => Ok(Already(format!("it is not paused; it is {}", self.doing()))),
            Verb::Resume => Ok(Change("it goes on where it was".to_owned())),
            Verb::RetryNow => match &self.state {
                State::RetryWait { attempt, .. } => Ok(Change(format!("attempt {} begins now", attempt + 1))),
                State::Paused { .. } => Err("it is paused; resume it first".to_owned()),
                _ => Err(format!("it is {}; only the wait for a retry can be cut short", self.doing())),
            },
            Verb::ExtendDeadline { deadline_ms } => self.weigh_deadline(now_ms, *deadline_ms),
            Verb::SkipDependency { ticket_id } => self.weigh_skip(ticket_id),
        }
    }

    fn weigh_deadline(&self, now_ms: i64, wanted_ms: i64) -> Result<Effect, String> {
        match self.deadline_ms {
            None => Err("it has no sla.deadline, so there is none to extend".to_owned()),
            Some(present_ms) if wanted_ms == present_ms => Ok(Already("that is its deadline already".to_owned())),
            Some(present_ms) if wanted_ms < present_ms => {
                Err(format!("its deadline is {present_ms} (epoch ms); a deadline can only be moved to a later time"))
            }
            Some(_) if wanted_ms <= now_ms => Err(format!("{wanted_ms} (epoch ms) has passed already")),
            Some(_) if wanted_ms > LATEST_DEADLINE_MS => {
                Err(format!("{wanted_ms} is after the year 9999; the deadline is in epoch milliseconds"))
            }
            Some(_) => Ok(Change("later attempts and retries go by the new deadline".to_owned())),
        }
    }

    fn weigh_skip(&self, ticket_id: &str) -> Result<Effect, String> {
        let Some(predecessors) = &self.predecessors else {
            return Err("it does not wait for any other ticket".to_owned());
        };
        match (predecessors.is_satisfied(ticket_id), &self.state) {
            (None, _) => {
                let (open, count) = predecessors.open(super::failures::NAMED);
                let open =
                    if count == 0 { "nothing any more".to_owned() } else { super::failures::names(&open, count) };
                Err(format!("it does not depend on {ticket_id}; it waits for {open}"))
            }
            (Some(true), _) => Ok(Already(format!("{ticket_id} is not waited for any more"))),
            (Some(false), State::Received | State::Registering { .. } | State::Parked { .. }) => {
                Ok(Change(format!("{ticket_id} is not waited for any more")))
            }
            (Some(false), _) => Err(format!("it is {} and waits for no other ticket", self.doing())),
        }
    }

    /// Why the ticket is being cancelled, if it is.
    fn cancel_under_way(&self) -> Option<String> {
        match (&self.state, &self.verdict) {
            (State::Stopping { reason, .. }, _) => Some(bounded(reason.clone(), Order::MOST_WHY)),
            (State::Reporting { .. } | State::ReportStuck { .. }, Some(Verdict::Cancelled(failed))) => {
                Some(failed.message.clone())
            }
            _ => None,
        }
    }

    fn ending(&self) -> String {
        match self.verdict() {
            Some(Verdict::Failed(failed) | Verdict::Cancelled(failed)) => format!("FAILED ({})", failed.code),
            _ => "COMPLETED".to_owned(),
        }
    }

    /// The state in words.
    fn doing(&self) -> String {
        match &self.state {
            State::Received => "not begun".to_owned(),
            State::Registering { .. } => "asking the tickets it depends on".to_owned(),
            State::Parked { count, .. } => format!("waiting for {count} ticket(s)"),
            State::Collecting { .. } => "fetching outputs".to_owned(),
            State::Executing { attempt, .. } => format!("executing attempt {attempt}"),
            State::Stopping { attempt, .. } => format!("stopping attempt {attempt}"),
            State::RetryWait { attempt, .. } => format!("waiting to repeat attempt {attempt}"),
            State::Paused { .. } => "paused".to_owned(),
            State::Reporting { .. } | State::ReportStuck { .. } => "reporting its result".to_owned(),
            State::Closed => "closed".to_owned(),
        }
    }
}
