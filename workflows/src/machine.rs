//! The ticket's state machine: a value without I/O. The workflow feeds it what happened and carries out what it says.
//!
//! Invariant: a ticket is terminal exactly once; from [`State::Reporting`] on, the verdict no longer changes.

mod failures;
mod ledger;
mod orders;
mod predecessors;
mod vocabulary;
mod waiting;

use serde::Serialize;
use ticket_schemas::Ticket;

use crate::dependencies::DependencyState;
use crate::execution::ExecuteResponse;
use crate::orders::OrderRecord;
use crate::outcome::{ExternalState, Failed, FailureClass, Outcome, code};
use crate::policy::{DeadlinePolicy, TicketPolicy};
use failures::{cancelled, deadline_passed, deadline_passed_paused, history_full, misreference, refusal, timed_out};
pub use ledger::{AttemptRecord, Ledger, Times};
use predecessors::Predecessors;
pub use vocabulary::{Command, Concluded, Event, RetryAt, State, Verdict};

/// The machine: state, limits, ledger and, in the end, the verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    state: State,
    ledger: Ledger,
    verdict: Option<Verdict>,
    concluded: Option<Concluded>,
    refusal: Option<Failed>,
    policy: TicketPolicy,
    attempt_timeout_ms: u64,
    max_attempts: u32,
    deadline_ms: Option<i64>,
    predecessors: Option<Predecessors>,
    /// When the wait for dependencies ended well.
    released_ms: Option<i64>,
    /// Bytes that one more attempt puts into the history, and those that attempts have put there.
    request_bytes: usize,
    history_bytes: usize,
    /// No attempt begins while it is true.
    paused: bool,
    /// The last orders that changed something.
    orders: Vec<OrderRecord>,
    /// What the cancel order said.
    preempted_by: Option<String>,
    grace_ms: Option<u64>,
    /// The time of the last event.
    clock_ms: i64,
}

/// Most bytes that attempts may put into a history. The server ends a workflow at 50 MiB, and its ticket would then have
/// no outcome at all; this leaves room for everything else.
const HISTORY_BUDGET: usize = 30 * 1024 * 1024;

impl Machine {
    /// The machine of a ticket that has just been received.
    #[must_use]
    pub fn new(ticket: &Ticket, policy: &TicketPolicy) -> Self {
        let sla = ticket.sla.as_ref();
        let retries = sla.and_then(|sla| sla.max_retries).and_then(|n| u32::try_from(n).ok());
        Self {
            state: State::Received,
            ledger: Ledger::default(),
            verdict: None,
            concluded: None,
            refusal: if policy.dependencies.is_some() { misreference(ticket) } else { refusal(ticket) },
            predecessors: policy.dependencies.as_ref().and_then(|policy| Predecessors::of(ticket, policy)),
            released_ms: None,
            attempt_timeout_ms: policy.attempt_timeout_ms(sla.and_then(|sla| sla.timeout_ms)),
            max_attempts: retries.unwrap_or(policy.default_max_retries).saturating_add(1),
            deadline_ms: sla.and_then(|sla| sla.deadline),
            request_bytes: encoded_bytes(ticket),
            history_bytes: 0,
            paused: false,
            orders: Vec::new(),
            preempted_by: None,
            grace_ms: None,
            clock_ms: 0,
            policy: policy.clone(),
        }
    }

    /// What the ticket is doing.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its attempts so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How it ended; `None` while it is open.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// When it ended; `None` while it is open.
    #[must_use]
    pub fn concluded(&self) -> Option<Concluded> {
        self.concluded
    }

    /// `sla.deadline`, or what an order has made of it, epoch milliseconds.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }

    /// Where the deadline bounds work, epoch milliseconds: `sla.deadline`, and unless the policy is strict no earlier than
    /// a ticket that had to wait for others would need from its release on. A planner stamps all tickets of a plan with the
    /// planning time; a chain of them would otherwise fail by construction.
    #[must_use]
    pub fn enforced_deadline_ms(&self) -> Option<i64> {
        let deadline_ms = self.deadline_ms?;
        match (self.policy.deadline, self.released_ms) {
            (DeadlinePolicy::Mark, _) => None,
            (DeadlinePolicy::Enforce, Some(released_ms)) => {
                let work_ms = self.attempt_timeout_ms.saturating_mul(u64::from(self.max_attempts));
                Some(deadline_ms.max(released_ms.saturating_add_unsigned(work_ms)))
            }
            _ => Some(deadline_ms),
        }
    }

    /// When all it depends on had completed, epoch milliseconds; `None` for a ticket without dependencies.
    #[must_use]
    pub fn released_ms(&self) -> Option<i64> {
        self.released_ms
    }

    /// Whether it depends on other tickets and a version that waits for them runs it.
    #[must_use]
    pub fn depends(&self) -> bool {
        self.predecessors.is_some()
    }

    /// How it ended, for those that depend on it; `None` while it is open.
    #[must_use]
    pub fn outcome(&self) -> Option<DependencyState> {
        Some(match self.verdict()? {
            Verdict::Completed(_) => DependencyState::Completed,
            Verdict::Failed(failed) | Verdict::Cancelled(failed) => {
                DependencyState::Failed { code: failed.code.clone() }
            }
        })
    }

    /// Attempts the ticket may have in all: `max_retries + 1`.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The transition function. `now_ms` is workflow time, and for [`Event::Admitted`] the workflow's start; `jitter` draws from the workflow's random source, 0.0..1.0.
    pub fn apply(&mut self, now_ms: i64, event: Event, jitter: impl FnOnce() -> f64) -> Command {
        let state = self.state.clone();
        let recorded_at_ms = match &event {
            Event::Admitted => Some(now_ms),
            Event::Answered(response) => Some(response.ended_at_ms),
            _ => None,
        };
        self.clock_ms = self.clock_ms.max(now_ms);
        let command = self.transition(state, event, now_ms, jitter);
        if command == Command::Publish {
            // The time of an order of this very workflow task may still change.
            let settled = self.orders.last().is_none_or(|last| last.at_ms < now_ms);
            let recorded = recorded_at_ms.is_some() && settled;
            self.concluded = Some(Concluded { at_ms: recorded_at_ms.unwrap_or(now_ms), recorded });
        }
        command
    }

    fn transition(&mut self, state: State, event: Event, now_ms: i64, jitter: impl FnOnce() -> f64) -> Command {
        match (state, event) {
            (State::Received, Event::Admitted) => match self.refusal.take() {
                Some(refusal) => self.conclude(now_ms, Verdict::Failed(refusal)),
                None if self.predecessors.is_some() => self.begin_waiting(now_ms),
                None => self.execute(now_ms, 1),
            },
            (State::Received, Event::CancelRequested(reason)) => self.cancel(now_ms, &reason, None),

            (State::Registering { since_ms }, Event::Registered(registered)) => match &mut self.predecessors {
                Some(predecessors) => {
                    let standing = predecessors.registered(registered, now_ms);
                    self.follow(standing, since_ms, now_ms)
                }
                None => Command::Ignore,
            },
            (State::Registering { .. }, Event::PredecessorEnded(told)) => {
                self.told(told);
                Command::Ignore
            }
            (State::Parked { since_ms, .. }, Event::PredecessorEnded(told)) => {
                self.told(told);
                self.look(since_ms, now_ms)
            }
            (State::Parked { since_ms, .. }, Event::WaitOver) => self.look(since_ms, now_ms),
            (State::Collecting { .. }, Event::Collected { filled_bytes }) => {
                if let Some(bytes) = filled_bytes {
                    self.request_bytes = bytes;
                    self.history_bytes += bytes;
                }
                self.execute(now_ms, 1)
            }
            (State::Registering { .. } | State::Collecting { .. }, Event::Broken(message)) => {
                self.conclude(now_ms, Verdict::Failed(Failed::permanent(code::INTERNAL, message)))
            }
            (State::Collecting { .. }, Event::NotCollected(message)) => {
                self.conclude(now_ms, Verdict::Failed(failures::reference(message)))
            }
            (
                State::Registering { .. } | State::Parked { .. } | State::Collecting { .. },
                Event::CancelRequested(reason),
            ) => self.cancel(now_ms, &reason, None),

            (State::Executing { attempt, since_ms }, Event::Answered(response)) => {
                self.note(attempt, since_ms, now_ms, Some(&response), None);
                let ended_ms = response.ended_at_ms;
                match response.outcome {
                    Outcome::Completed(completed) => self.conclude(now_ms, Verdict::Completed(completed)),
                    Outcome::Failed(failed) => {
                        self.history_bytes += encoded_bytes(&failed);
                        self.failed_attempt(now_ms, ended_ms, attempt, failed, jitter)
                    }
                }
            }
            (State::Executing { attempt, since_ms }, Event::TimedOut) => {
                let failed = timed_out(attempt, self.attempt_timeout_ms);
                self.note(attempt, since_ms, now_ms, None, Some(&failed.code));
                self.failed_attempt(now_ms, now_ms, attempt, failed, jitter)
            }
            (State::Executing { attempt, since_ms }, Event::Broken(message)) => {
                let failed = Failed::permanent(code::INTERNAL, message);
                self.note(attempt, since_ms, now_ms, None, Some(&failed.code));
                self.conclude(now_ms, Verdict::Failed(failed))
            }
            (State::Executing { attempt, .. }, Event::CancelRequested(reason)) => {
                self.state = State::Stopping { attempt, since_ms: now_ms, reason };
                Command::Stop
            }
            // Only a cancelled workflow stops an attempt, and the cancel is seen first; still, never get stuck.
            (State::Executing { attempt, since_ms }, Event::Stopped) => {
                self.note(attempt, since_ms, now_ms, None, Some(code::CANCELLED));
                self.cancel(now_ms, "the attempt was stopped", Some(ExternalState::Unknown))
            }

            (State::Stopping { attempt, since_ms, reason }, Event::Answered(response)) => {
                self.note(attempt, since_ms, now_ms, Some(&response), None);
                match response.outcome {
                    // The work was done before the stop reached it: say so.
                    Outcome::Completed(completed) => self.conclude(now_ms, Verdict::Completed(completed)),
                    Outcome::Failed(failed) => {
                        let state = failed.external_state;
                        let mut cancelled = cancelled(&reason, self.preempted_by.as_deref(), state);
                        let mut report = failed.report;
                        report.metadata.append(&mut cancelled.report.metadata);
                        cancelled.report = report;
                        cancelled.evidence = failed.evidence;
                        self.conclude(now_ms, Verdict::Cancelled(cancelled))
                    }
                }
            }
            (
                State::Stopping { attempt, since_ms, reason },
                Event::Stopped | Event::TimedOut | Event::Broken(_) | Event::GraceOver,
            ) => {
                self.note(attempt, since_ms, now_ms, None, Some(code::CANCELLED));
                self.cancel(now_ms, &reason, Some(ExternalState::Unknown))
            }
            (State::Stopping { reason, .. }, Event::Unbegun) => self.cancel(now_ms, &reason, None),
            (State::Executing { attempt, .. }, Event::Unbegun) if self.paused => self.hold(now_ms, attempt, None),
            (State::Executing { attempt, .. }, Event::Unbegun) => self.execute(now_ms, attempt),

            (State::RetryWait { attempt, since_ms, .. }, Event::WaitOver) => {
                self.ledger.waited(since_ms, now_ms);
                self.execute(now_ms, attempt + 1)
            }
            (State::RetryWait { .. } | State::Paused { .. }, Event::CancelRequested(reason)) => {
                self.cancel(now_ms, &reason, None)
            }

            (State::Paused { since_ms, attempt, retry, .. }, Event::WaitOver) => match self.enforced_deadline_ms() {
                Some(deadline_ms) if deadline_ms <= now_ms => {
                    let failed = deadline_passed_paused(deadline_ms, retry.as_ref());
                    self.conclude(now_ms, Verdict::Failed(failed))
                }
                _ => self.hold(since_ms, attempt, retry),
            },

            (state, Event::Ordered(order)) => self.ordered(state, order, now_ms),

            (State::Reporting { since_ms }, Event::ReportOverdue(owed)) if !owed.is_empty() => {
                self.state = State::ReportStuck { since_ms, owed };
                Command::Ignore
            }

            (State::Reporting { .. } | State::ReportStuck { .. }, Event::Published) => {
                self.state = State::Closed;
                Command::Close
            }
            _ => Command::Ignore,
        }
    }

    fn execute(&mut self, now_ms: i64, attempt: u32) -> Command {
        let mut timeout_ms = self.attempt_timeout_ms;
        if let Some(deadline_ms) = self.enforced_deadline_ms() {
            match u64::try_from(deadline_ms - now_ms) {
                Ok(left_ms) if left_ms > 0 => timeout_ms = timeout_ms.min(left_ms),
                _ => return self.conclude(now_ms, Verdict::Failed(deadline_passed(deadline_ms, None))),
            }
        }
        if self.paused {
            return self.hold(now_ms, attempt, None);
        }
        self.state = State::Executing { attempt, since_ms: now_ms };
        Command::Execute { attempt, timeout_ms }
    }

    /// An attempt that ended at `ended_ms` failed. Whether that is the ticket's end depends on times of the history alone: a
    /// workflow task that is lost decides the same again.
    fn failed_attempt(
        &mut self,
        now_ms: i64,
        ended_ms: i64,
        attempt: u32,
        mut failed: Failed,
        jitter: impl FnOnce() -> f64,
    ) -> Command {
        let after_ms = match failed.class {
            FailureClass::Permanent => return self.conclude(now_ms, Verdict::Failed(failed)),
            FailureClass::Retry { after_ms } | FailureClass::Unavailable { after_ms } => after_ms,
        };
        self.history_bytes += self.request_bytes;
        if self.history_bytes + self.request_bytes > HISTORY_BUDGET {
            return self.conclude(now_ms, Verdict::Failed(history_full(attempt, failed)));
        }
        if attempt >= self.max_attempts {
            if attempt > 1 {
                failed.message = crate::outcome::bounded(
                    format!("attempt {attempt} of {}: {}", self.max_attempts, failed.message),
                    Failed::MAX_MESSAGE,
                );
            }
            return self.conclude(now_ms, Verdict::Failed(self.late(ended_ms, failed)));
        }
        let for_ms = self.policy.backoff_ms(attempt, jitter(), after_ms);
        let until_ms = now_ms.saturating_add_unsigned(for_ms);
        if let Some(deadline_ms) = self.enforced_deadline_ms()
            && ended_ms.saturating_add_unsigned(for_ms) >= deadline_ms
        {
            return self.conclude(now_ms, Verdict::Failed(deadline_passed(deadline_ms, Some(failed))));
        }
        self.wait_to_retry(now_ms, attempt + 1, RetryAt { failed_at_ms: now_ms, at_ms: until_ms, code: failed.code })
    }

    /// A time-out at the deadline is the deadline's doing.
    fn late(&self, ended_ms: i64, failed: Failed) -> Failed {
        match self.enforced_deadline_ms() {
            Some(deadline_ms) if failed.code == code::TIMEOUT && ended_ms >= deadline_ms => {
                deadline_passed(deadline_ms, Some(failed))
            }
            _ => failed,
        }
    }

    fn cancel(&mut self, now_ms: i64, reason: &str, state: Option<ExternalState>) -> Command {
        self.conclude(now_ms, Verdict::Cancelled(cancelled(reason, self.preempted_by.as_deref(), state)))
    }

    fn conclude(&mut self, now_ms: i64, verdict: Verdict) -> Command {
        self.verdict = Some(verdict);
        self.state = State::Reporting { since_ms: now_ms };
        Command::Publish
    }

    fn note(
        &mut self,
        attempt: u32,
        since_ms: i64,
        now_ms: i64,
        response: Option<&ExecuteResponse>,
        end: Option<&str>,
    ) {
        let answered = response.map(|response| match &response.outcome {
            Outcome::Completed(_) => "completed",
            Outcome::Failed(failed) => failed.code.as_str(),
        });
        let record = AttemptRecord {
            attempt,
            started_at_ms: response.map_or(since_ms, |response| response.started_at_ms),
            ended_at_ms: response.map_or(now_ms, |response| response.ended_at_ms),
            end: end.or(answered).unwrap_or(code::INTERNAL).to_owned(),
            worker: response.map(|response| response.agent_id.clone()),
            lost_workers: response.map_or(0, |response| response.lost_workers),
        };
        self.ledger.record(record, since_ms);
    }
}

/// Size of a value as it stands in a history.
pub(crate) fn encoded_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests;
