//! How many tickets are in flight, as one bridge can know: a value without I/O (`docs/adr/0007-backpressure.md`).
//!
//! **The bound.** With `members` bridges and `pause_at` as the pause threshold of the whole group, no more than
//! `pause_at + members × ⌈pause_at / members⌉` tickets are ever in flight ([`Limits::bound`]), whatever the order in
//! which the bridges count, and although a count may lag by [`VISIBILITY_LAG`]. Why: a bridge admits only while what it
//! knows of is below `pause_at`. What it cannot know of are starts of the last [`BLIND`] seconds, and no bridge ever has
//! more than `⌈pause_at / members⌉` open ones of those, because it assumes that every other one has as many as itself.
//! With counts that do not lag one bridge alone never passes `pause_at`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How late a start may show up in a count: one second at worst was measured.
pub const VISIBILITY_LAG: Duration = Duration::from_secs(1);
/// Starts of another bridge that are older than this are in every bridge's count: the time between two counts, that of a
/// count, and the lag, rounded up.
pub const BLIND: Duration = Duration::from_secs(6);

/// When consumption pauses and resumes, for one member of the group and for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// `MAX_CONCURRENT_TICKETS`: of one member.
    pub capacity: u64,
    /// `CONSUMER_PAUSE_THRESHOLD`.
    pub pause: f64,
    /// `CONSUMER_RESUME_THRESHOLD`.
    pub resume: f64,
    /// Members of the consumer group; at least one.
    pub members: u64,
}

impl Limits {
    /// What the whole group may have in flight.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.capacity.saturating_mul(self.members.max(1))
    }

    /// Tickets in flight at which consumption pauses: at least one, or nothing would ever run.
    #[must_use]
    pub fn pause_at(&self) -> u64 {
        self.fraction(self.pause).max(1)
    }

    /// Tickets in flight at which it resumes; below [`Limits::pause_at`].
    #[must_use]
    pub fn resume_at(&self) -> u64 {
        self.fraction(self.resume).min(self.pause_at() - 1)
    }

    /// The most tickets that are ever in flight.
    #[must_use]
    pub fn bound(&self) -> u64 {
        let members = self.members.max(1);
        self.pause_at().saturating_add(members.saturating_mul(self.pause_at().div_ceil(members)))
    }

    fn fraction(&self, fraction: f64) -> u64 {
        (self.total() as f64 * fraction).floor() as u64
    }
}

/// What the server said.
#[derive(Debug, Clone, Copy)]
struct Count {
    tickets: u64,
    /// When it was asked.
    asked: Instant,
    /// Tickets in it that were seen to finish since it was answered.
    finished: u64,
}

/// The estimate at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether the server has ever answered. Before, nothing may be started.
    pub known: bool,
    /// Tickets in flight, those of other bridges too.
    pub in_flight: u64,
    /// Own tickets among them that other bridges may not know of yet.
    unseen: u64,
}

impl Look {
    /// Whether one more may be started.
    #[must_use]
    pub fn admits(&self, limits: &Limits) -> bool {
        let others = limits.members.saturating_sub(1).saturating_mul(self.unseen);
        self.known && self.in_flight.saturating_add(others) < limits.pause_at()
    }
}

/// The estimate of one bridge.
#[derive(Debug, Default)]
pub struct Estimate {
    count: Option<Count>,
    /// Own starts of tickets not seen to finish, oldest first: more than one while a duplicate is being found out. Those
    /// older than [`BLIND`] are left to the count.
    own: BTreeMap<String, Vec<Instant>>,
}

impl Estimate {
    /// What there is to know now.
    #[must_use]
    pub fn look(&self, now: Instant) -> Look {
        let Some(count) = &self.count else {
            let own = self.own.values().map(Vec::len).sum::<usize>() as u64;
            return Look { known: false, in_flight: own, unseen: own };
        };
        let counted = count.tickets.saturating_sub(count.finished);
        let blind = self.blind_since(now);
        let (mut since, mut young, mut old) = (0, 0, 0);
        for started in self.own.values().flatten() {
            since += u64::from(*started >= count.asked);
            let visible = *started + VISIBILITY_LAG <= count.asked;
            young += u64::from(!visible);
            old += u64::from(visible && *started > blind);
        }
        // Those that the count must have seen and has not have finished elsewhere.
        let unseen = young + counted.min(old);
        // A count that lags misses own starts that are known to be open.
        Look { known: true, in_flight: (counted + since).max(unseen), unseen }
    }

    /// A ticket is being started.
    pub fn started(&mut self, ticket_id: &str, now: Instant) {
        self.own.entry(ticket_id.to_owned()).or_default().push(now);
    }

    /// A start turned out to be none: the ticket is a duplicate, or refused. Others of the same id stay.
    pub fn given_back(&mut self, ticket_id: &str) {
        self.take(ticket_id, Vec::pop);
    }

    fn take(&mut self, ticket_id: &str, which: impl FnOnce(&mut Vec<Instant>) -> Option<Instant>) -> Option<Instant> {
        let starts = self.own.get_mut(ticket_id)?;
        let taken = which(starts);
        if starts.is_empty() {
            self.own.remove(ticket_id);
        }
        taken
    }

    /// A ticket was seen to finish, `age` after its start.
    pub fn finished(&mut self, ticket_id: &str, age: Duration, now: Instant) {
        let own = self.take(ticket_id, |starts| (!starts.is_empty()).then(|| starts.remove(0)));
        let Some(count) = &mut self.count else { return };
        let counted = match own {
            Some(started) => started < count.asked,
            // One of another bridge may be younger than the count: then it is not in it.
            None => age > now.duration_since(count.asked) + VISIBILITY_LAG,
        };
        count.finished += u64::from(counted);
    }

    /// The server, asked at `asked`, answers now that so many tickets are open.
    pub fn counted_at(&mut self, tickets: u64, asked: Instant, now: Instant) {
        // What finished while the server counted may be in the count still; the next one tells.
        self.count = Some(Count { tickets, asked, finished: 0 });
        let blind = self.blind_since(now);
        self.own.retain(|_, starts| {
            starts.retain(|started| *started > blind);
            !starts.is_empty()
        });
    }

    /// Starts up to then are in every bridge's count. While counts fail, that moment does not move.
    fn blind_since(&self, now: Instant) -> Instant {
        let before = |at: Instant, time: Duration| at.checked_sub(time).unwrap_or(at);
        let asked = self.count.map_or(now, |count| count.asked);
        before(now, BLIND).min(before(asked, VISIBILITY_LAG))
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
