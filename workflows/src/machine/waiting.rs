//! The wait for other tickets: what begins it, what is looked at in it, and what ends it.

use super::failures::{self, deadline_passed, deadline_passed_waiting};
use super::predecessors::{Predecessors, Standing};
use super::{Command, Machine, State, Verdict};
use crate::dependencies::DependencyOutcome;
use crate::policy::DeadlinePolicy;

impl Machine {
    pub(super) fn begin_waiting(&mut self, now_ms: i64) -> Command {
        if let Some(deadline_ms) = self.enforced_deadline_ms()
            && deadline_ms <= now_ms
        {
            return self.conclude(now_ms, Verdict::Failed(deadline_passed(deadline_ms, None)));
        }
        match self.predecessors.as_mut().and_then(|predecessors| predecessors.begin(now_ms)) {
            Some(failed) => self.conclude(now_ms, Verdict::Failed(failed)),
            None => self.register(now_ms),
        }
    }

    fn register(&mut self, since_ms: i64) -> Command {
        self.state = State::Registering { since_ms };
        Command::Register { dependencies: self.predecessors.as_ref().map(Predecessors::to_ask).unwrap_or_default() }
    }

    pub(super) fn told(&mut self, told: DependencyOutcome) {
        if let Some(predecessors) = &mut self.predecessors {
            predecessors.told(told);
        }
    }

    /// What is to be done for a parked ticket now.
    pub(super) fn look(&mut self, since_ms: i64, now_ms: i64) -> Command {
        let Some(predecessors) = &self.predecessors else { return Command::Ignore };
        let standing = predecessors.standing(now_ms);
        self.follow(standing, since_ms, now_ms)
    }

    pub(super) fn follow(&mut self, standing: Standing, since_ms: i64, now_ms: i64) -> Command {
        match standing {
            Standing::Satisfied => {
                self.released_ms = Some(now_ms);
                self.state = State::Collecting { since_ms: now_ms };
                Command::Collect
            }
            Standing::Hopeless(failed) => self.conclude(now_ms, Verdict::Failed(failed)),
            Standing::AskAgain | Standing::Waiting { .. }
                if let Some(deadline_ms) = self.strict_deadline_ms()
                    && deadline_ms <= now_ms =>
            {
                let (named, count) = self.waits_for(failures::NAMED);
                self.conclude(now_ms, Verdict::Failed(deadline_passed_waiting(deadline_ms, &named, count)))
            }
            Standing::AskAgain => self.register(since_ms),
            Standing::Waiting { until_ms } => {
                let (waiting_for, count) = self.waits_for(State::MOST_NAMED);
                let until_ms = self.strict_deadline_ms().map_or(until_ms, |deadline_ms| deadline_ms.min(until_ms));
                self.state = State::Parked { since_ms, until_ms, waiting_for, count };
                Command::Park { until_ms }
            }
        }
    }

    /// The deadline that ends a wait for dependencies, too.
    fn strict_deadline_ms(&self) -> Option<i64> {
        self.enforced_deadline_ms().filter(|_| self.policy.deadline == DeadlinePolicy::Strict)
    }

    /// Some of the predecessors it waits for, and how many there are.
    fn waits_for(&self, limit: usize) -> (Vec<String>, usize) {
        self.predecessors.as_ref().map(|predecessors| predecessors.open(limit)).unwrap_or_default()
    }
}
