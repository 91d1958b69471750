//! What a waiting ticket knows of the tickets it depends on: a value without I/O.

use std::collections::{BTreeMap, BTreeSet};

use ticket_schemas::Ticket;

use super::failures;
use crate::dependencies::{DependencyOutcome, DependencyState, Registered};
use crate::outcome::Failed;
use crate::policy::DependencyPolicy;

/// What follows from what is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// All have completed.
    Satisfied,
    /// The ticket cannot be worked on any more.
    Hopeless(Failed),
    /// Some are open; `until_ms` is when to look again, epoch milliseconds.
    Waiting { until_ms: i64 },
    /// Those that are not at their end are to be asked about once more.
    AskAgain,
}

/// The predecessors of one ticket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Predecessors {
    ticket_id: String,
    policy: DependencyPolicy,
    /// `None`: not asked about yet.
    states: BTreeMap<String, Option<DependencyState>>,
    /// Those that an operator does not want to be waited for.
    skipped: BTreeSet<String>,
    since_ms: i64,
    /// How often they were asked about, and when they answered last.
    asked: u32,
    asked_ms: i64,
}

/// Longest time between two looks at predecessors that do not tell, in milliseconds. One that was terminated never tells.
const MAX_LOOK_INTERVAL_MS: u64 = 3_600_000;

impl Predecessors {
    /// Those of a ticket; repetitions count once. `None` when it has none.
    pub(super) fn of(ticket: &Ticket, policy: &DependencyPolicy) -> Option<Self> {
        let states: BTreeMap<_, _> = ticket.dependencies.iter().map(|id| (id.as_str().to_owned(), None)).collect();
        (!states.is_empty()).then(|| Self {
            ticket_id: ticket.ticket_id.as_str().to_owned(),
            policy: policy.clone(),
            states,
            skipped: BTreeSet::new(),
            since_ms: 0,
            asked: 0,
            asked_ms: 0,
        })
    }

    /// The wait begins. A failure when it can have no end.
    pub(super) fn begin(&mut self, now_ms: i64) -> Option<Failed> {
        self.since_ms = now_ms;
        if self.states.contains_key(&self.ticket_id) {
            return Some(failures::cycle(&[self.ticket_id.clone(), self.ticket_id.clone()]));
        }
        (self.states.len() > DependencyPolicy::MOST).then(|| failures::too_many_dependencies(self.states.len()))
    }

    /// Those to ask about: all that are not known to have completed.
    pub(super) fn to_ask(&self) -> Vec<String> {
        self.open(usize::MAX).0
    }

    /// Those waited for, `limit` at most, and how many there are.
    pub(super) fn open(&self, limit: usize) -> (Vec<String>, usize) {
        let open = |state: &&Option<DependencyState>| **state != Some(DependencyState::Completed);
        let count = self.states.values().filter(open).count();
        let ids = self.states.iter().filter(|(_, state)| open(state)).map(|(id, _)| id.clone());
        (ids.take(limit).collect(), count)
    }

    /// The answer of the registration. What a predecessor has told meanwhile is newer.
    pub(super) fn registered(&mut self, registered: Registered, now_ms: i64) -> Standing {
        self.asked = self.asked.saturating_add(1);
        self.asked_ms = now_ms;
        for (id, state) in registered.states {
            if let Some(known) = self.states.get_mut(&id)
                && !matches!(known, Some(DependencyState::Completed | DependencyState::Failed { .. }))
            {
                *known = Some(state);
            }
        }
        let skipped = |path: &Vec<String>| path.get(1).is_some_and(|first| self.skipped.contains(first));
        if let Some(path) = registered.cycle.filter(|path| !skipped(path)) {
            return Standing::Hopeless(failures::cycle(&path));
        }
        self.standing(now_ms)
    }

    /// A predecessor told how it ended. Others than predecessors are not listened to.
    pub(super) fn told(&mut self, told: DependencyOutcome) {
        if let Some(state) = self.states.get_mut(&told.ticket_id)
            && matches!(told.outcome, DependencyState::Completed | DependencyState::Failed { .. })
            && *state != Some(DependencyState::Completed)
        {
            *state = Some(told.outcome);
        }
    }

    /// Whether a predecessor is not waited for any more; `None` when it is none.
    pub(super) fn is_satisfied(&self, ticket_id: &str) -> Option<bool> {
        self.states.get(ticket_id).map(|state| *state == Some(DependencyState::Completed))
    }

    /// A predecessor counts as completed from now on, whatever it tells.
    pub(super) fn skip(&mut self, ticket_id: &str) {
        if let Some(state) = self.states.get_mut(ticket_id) {
            *state = Some(DependencyState::Completed);
            self.skipped.insert(ticket_id.to_owned());
        }
    }

    /// What follows from what is known at `now_ms`.
    pub(super) fn standing(&self, now_ms: i64) -> Standing {
        let failed = self.states.iter().find_map(|(id, state)| match state {
            Some(DependencyState::Failed { code }) => Some((id, code)),
            _ => None,
        });
        if let Some((id, code)) = failed {
            return Standing::Hopeless(failures::dependency_failed(id, code));
        }
        let (open, count) = self.open(failures::NAMED);
        if count == 0 {
            return Standing::Satisfied;
        }
        let wait_until_ms = self.policy.wait_limit_ms.map(|limit| self.since_ms.saturating_add_unsigned(limit));
        if wait_until_ms.is_some_and(|until_ms| now_ms >= until_ms) {
            return Standing::Hopeless(failures::dependencies_took_too_long(&open, count, now_ms - self.since_ms));
        }
        let patience_ms = self.since_ms.saturating_add_unsigned(self.policy.unknown_timeout_ms);
        let unknown = self.states.iter().filter(|(_, state)| **state == Some(DependencyState::Unknown));
        let unknown: Vec<_> = unknown.map(|(id, _)| id.clone()).collect();
        if !unknown.is_empty() && self.asked_ms >= patience_ms {
            let named = unknown.get(..failures::NAMED).unwrap_or(&unknown);
            return Standing::Hopeless(failures::dependencies_unknown(named, unknown.len(), now_ms - self.since_ms));
        }
        let interval_ms = self.policy.unknown_timeout_ms.saturating_mul(1 << self.asked.saturating_sub(1).min(16));
        let mut look_ms = self.asked_ms.saturating_add_unsigned(interval_ms.clamp(1_000, MAX_LOOK_INTERVAL_MS));
        if !unknown.is_empty() {
            look_ms = look_ms.min(patience_ms);
        }
        if now_ms >= look_ms {
            return Standing::AskAgain;
        }
        Standing::Waiting { until_ms: wait_until_ms.map_or(look_ms, |wait_until_ms| wait_until_ms.min(look_ms)) }
    }
}
