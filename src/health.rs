//! What `/health` and `/ready` know: named loops that live or do not, and named checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether it passes.
    pub ok: bool,
    /// Why not, and what to do; or what an operator should know although it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// State of the process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<&'static str, Check>,
    ready: BTreeMap<&'static str, Check>,
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

    /// The loops, and whether all live.
    #[must_use]
    pub fn liveness(&self) -> (bool, BTreeMap<&'static str, Check>) {
        let state = self.state();
        (state.live.values().all(|check| check.ok), state.live.clone())
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
