//! External work: what runs outside of the worker and goes on without it. One protocol for every provider of it.
//!
//! [`External`] turns a [`Provider`] into an [`Executor`]: derive a [`Key`] → look up → prepare → create →
//! record the handle in the heartbeat → watch → collect. Cancelled or out of time it stops the work and has the stop
//! confirmed; on a worker that goes away it detaches and stops nothing. What an attempt leaves behind is removed by the
//! [`Janitor`], and only after the ticket's run has ended: a worker that is lost between removal and answer would otherwise
//! have the work done twice (`docs/adr/0024-external-work.md`).
//!
//! A provider never retries, never waits for anything but its peer (and, as it follows output, the log) and never decides about
//! deadlines. Its faults are [`Fault`]s; what follows from them is decided here. All attempts at one provider share its
//! [`Endpoint`], which keeps new work from a provider that fails, and calls within their rate.

mod circuit;
mod endpoint;
mod fault;
mod janitor;
mod key;
mod patience;
mod provider;
mod record;
mod run;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;

use ticket_workflows::Outcome;
use tokio::sync::Notify;

pub use circuit::CircuitState;
pub use endpoint::{Endpoint, EndpointEvent, EndpointLimits, OnEndpointEvent};
pub use fault::{Fault, reasons, said};
pub use janitor::{Janitor, Runs};
pub use key::Key;
pub use patience::Patience;
pub use provider::{Leftover, Plan, Provider};
pub(crate) use record::is_recorded;
use run::Run;

use crate::executor::{Executor, Job, Recognition};

/// Told of every call to a provider: what was asked, and whether there was an answer.
pub type OnCall = Arc<dyn Fn(&'static str, bool) + Send + Sync>;

/// A provider's work as an executor.
pub struct External<P> {
    provider: Arc<P>,
    endpoint: Arc<Endpoint>,
    patience: Patience,
    ended: Arc<Notify>,
}

impl<P: Provider> External<P> {
    /// Runs tickets on `provider`, at an endpoint with the usual limits that nobody looks at.
    #[must_use]
    pub fn new(provider: Arc<P>) -> Self {
        let endpoint = Endpoint::new(P::NAME, EndpointLimits::default(), Arc::new(|_| ()));
        Self { provider, endpoint: Arc::new(endpoint), patience: Patience::default(), ended: Arc::default() }
    }

    /// Calls the provider at this endpoint.
    #[must_use]
    pub fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Arc::new(endpoint);
        self
    }

    /// Waits as `patience` says.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// What removes the work that tickets leave behind. It looks when an attempt has ended here, and every `interval`.
    #[must_use]
    pub fn janitor(&self, runs: Arc<dyn Runs>, interval: std::time::Duration) -> Janitor<P> {
        Janitor::new(Arc::clone(&self.provider), Arc::clone(&self.endpoint), runs, Arc::clone(&self.ended), interval)
    }
}

impl<P: Provider> Executor for External<P> {
    type Params = P::Params;

    const EXTERNAL: bool = true;
    const RECOGNITION: Recognition = P::RECOGNITION;

    async fn execute(&self, params: P::Params, job: Job) -> Outcome {
        let outcome = match self.provider.plan(params, &job) {
            Ok(plan) => {
                let run = Run::new(&*self.provider, &self.endpoint, &self.patience, &job, plan.limit);
                run.attempt(plan.spec).await
            }
            Err(failed) => failed.into(),
        };
        self.ended.notify_one();
        outcome
    }
}
