//! What `/health` and `/ready` know: named loops that live or do not, and named checks.
//!
//! A loop lives when it says so, and as long as it keeps its [`Pulse`]: one that hangs says nothing, and is found by
//! that (INC-17). A loop that waits for a peer beats; an outage is no reason to restart the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;
use utoipa::ToSchema;

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Whether it passes.
    pub ok: bool,
    /// Why not, and what to do; or what an operator should know although it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// State of the process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    pulses: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<&'static str, Check>,
    ready: BTreeMap<&'static str, Check>,
    beating: BTreeMap<u64, Beating>,
}

/// A loop that has to show that it gets on.
#[derive(Debug)]
struct Beating {
    name: String,
    last: Instant,
    limit: Duration,
}

/// A loop's promise to get on: unless it beats in time, the process is not alive. Dropped, the promise ends.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    id: u64,
}

impl Pulse {
    /// The loop gets on, or waits for a peer.
    pub fn beat(&self) {
        if let Some(beating) = self.health.state().beating.get_mut(&self.id) {
            beating.last = Instant::now();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.health.state().beating.remove(&self.id);
    }
}

impl Health {
    /// Declares a readiness check, failing until it is set.
    pub fn expect(&self, check: &'static str) {
        self.not_ready(check, "not yet");
    }

    /// The check passes.
    pub fn ready(&self, check: &'static str) {
        self.with(|state| state.ready.insert(check, Check { ok: true, detail: None }));
    }

    /// The check passes, if it exists: one that only a fault brings up.
    pub fn ready_again(&self, check: &'static str) {
        self.with(|state| {
            if let Some(found) = state.ready.get_mut(check) {
                *found = Check { ok: true, detail: None };
            }
        });
    }

    /// The check passes, and an operator should know something.
    pub fn ready_with(&self, check: &'static str, detail: impl Into<String>) {
        let detail = Some(detail.into());
        self.with(|state| state.ready.insert(check, Check { ok: true, detail }));
    }

    /// The check fails.
    pub fn not_ready(&self, check: &'static str, detail: impl Into<String>) {
        let detail = Some(detail.into());
        self.with(|state| state.ready.insert(check, Check { ok: false, detail }));
    }

    /// The named loop runs.
    pub fn alive(&self, name: &'static str) {
        self.with(|state| state.live.insert(name, Check { ok: true, detail: None }));
    }

    /// The named loop has ended and should not have (INC-17).
    pub fn dead(&self, name: &'static str, detail: impl Into<String>) {
        let detail = Some(detail.into());
        self.with(|state| state.live.insert(name, Check { ok: false, detail }));
    }

    /// The named loop begins, and promises to beat at least every `limit`.
    #[must_use]
    pub fn pulse(&self, name: impl Into<String>, limit: Duration) -> Pulse {
        let id = self.0.pulses.fetch_add(1, Ordering::Relaxed);
        self.state().beating.insert(id, Beating { name: name.into(), last: Instant::now(), limit });
        Pulse { health: self.clone(), id }
    }

    /// The loops, and whether all live.
    #[must_use]
    pub fn liveness(&self) -> (bool, BTreeMap<String, Check>) {
        let state = self.state();
        let mut loops: BTreeMap<String, Check> =
            state.live.iter().map(|(name, check)| ((*name).to_owned(), check.clone())).collect();
        for beating in state.beating.values() {
            let silent = beating.last.elapsed();
            let detail = (silent > beating.limit).then(|| {
                format!("no progress for {} s although its peers answer; restart the process", silent.as_secs())
            });
            // What a loop said of itself, that it is dead, weighs more.
            let check = loops.entry(beating.name.clone()).or_insert(Check { ok: true, detail: None });
            if check.ok && detail.is_some() {
                *check = Check { ok: false, detail };
            }
        }
        (loops.values().all(|check| check.ok), loops)
    }

    /// The checks, and whether all pass. Nothing declared yet means not ready.
    #[must_use]
    pub fn readiness(&self) -> (bool, BTreeMap<&'static str, Check>) {
        let state = self.state();
        (!state.ready.is_empty() && state.ready.values().all(|check| check.ok), state.ready.clone())
    }

    /// Resolves once all checks pass.
    pub async fn wait_ready(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.readiness().0 {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.0.changed.notify_waiters();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn inc_17_a_loop_that_hangs_is_dead_and_one_that_goes_on_is_alive_again() {
        let health = Health::default();
        health.alive("consumer");
        let pulse = health.pulse("consumer", LIMIT);
        let other = health.pulse("partition tickets/3", LIMIT);
        tokio::time::advance(LIMIT).await;
        other.beat();
        assert!(health.liveness().0);
        tokio::time::advance(Duration::from_secs(1)).await;
        let (ok, loops) = health.liveness();
        assert!(!ok && loops["partition tickets/3"].ok);
        assert!(loops["consumer"].detail.as_deref().is_some_and(|detail| detail.contains("121 s")), "{loops:?}");
        pulse.beat();
        assert!(health.liveness().0);
    }

    #[tokio::test(start_paused = true)]
    async fn inc_17_a_loop_that_said_it_is_dead_is_dead_and_one_that_ended_is_not_missed() {
        let health = Health::default();
        let pulse = health.pulse("consumer", LIMIT);
        health.dead("consumer", "a fatal error");
        assert_eq!(health.liveness().1["consumer"].detail.as_deref(), Some("a fatal error"));
        health.alive("consumer");
        // A partition comes back after it was given up: the new one's promise is not the old one's.
        let old = health.pulse("partition", LIMIT);
        let new = health.pulse("partition", LIMIT);
        drop(old);
        tokio::time::advance(LIMIT + Duration::from_secs(1)).await;
        assert!(!health.liveness().1["partition"].ok);
        drop((pulse, new));
        let (ok, loops) = health.liveness();
        assert!(ok && loops.len() == 1, "{loops:?}");
    }
}
