//! Runtimes whose work runs outside of the worker: made of settings, with what removes the work that they leave behind.

mod code_forge;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "lambda")]
pub(crate) mod lambda;
mod runs;

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use ticket_activities::ExecutorRegistry;
use ticket_activities::external::{Endpoint, Runs};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, EndpointsConfig};
use crate::metrics::Metrics;
use crate::spans::Spans;
#[cfg(feature = "docker")]
pub(crate) use docker::look;
pub use runs::TemporalRuns;

/// Removes what ended tickets left at one provider, until it is told to end.
type Sweep = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The runtimes of this worker whose work runs outside of it.
pub struct ExternalRuntimes {
    sweeps: Vec<Sweep>,
    endpoints: EndpointsConfig,
    metrics: Arc<Metrics>,
}

impl ExternalRuntimes {
    /// Adds to `registry` those that settings switch on.
    ///
    /// # Errors
    /// When the client of one cannot be made.
    pub fn add_to(
        mut registry: ExecutorRegistry,
        config: &Config,
        metrics: &Arc<Metrics>,
        spans: &Spans,
        runs: &Arc<dyn Runs>,
    ) -> anyhow::Result<(ExecutorRegistry, Self)> {
        let runtimes = Self { sweeps: Vec::new(), endpoints: config.endpoints.clone(), metrics: Arc::clone(metrics) };
        if let Some(settings) = &config.code_forge {
            registry = code_forge::add_to(registry, &runtimes, settings, metrics, spans)?;
        }
        #[cfg(feature = "lambda")]
        if let Some(settings) = &config.lambda {
            registry = lambda::add_to(registry, &runtimes, settings, metrics, spans)?;
        }
        #[cfg(not(feature = "lambda"))]
        if config.lambda.is_some() {
            tracing::warn!("LAMBDA_ENABLED is true, and this build has no Lambda runtime: its tickets fail");
        }
        #[cfg(feature = "docker")]
        if let Some(settings) = &config.docker {
            return Ok(docker::add_to(registry, runtimes, settings, metrics, runs));
        }
        #[cfg(not(feature = "docker"))]
        {
            let _ = runs;
            if config.docker.is_some() {
                tracing::warn!("DOCKER_ENABLED is true, and this build has no Docker runtime: its tickets fail");
            }
        }
        Ok((registry, runtimes))
    }

    /// Where a provider is called: within the limits of settings, and seen in metrics.
    fn endpoint(&self, provider: &'static str) -> Endpoint {
        let metrics = Arc::clone(&self.metrics);
        let on_event = Arc::new(move |event| metrics.endpoints.note(provider, event));
        Endpoint::new(provider, self.endpoints.of(provider), on_event)
    }

    /// Removes what ended tickets left, until `stop`.
    pub async fn sweep(self, stop: CancellationToken) {
        join_all(self.sweeps.into_iter().map(|sweep| sweep(stop.clone()))).await;
    }
}
