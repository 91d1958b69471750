//! Runtimes whose work runs outside of the worker: made of settings, with what removes the work that they leave behind.

mod code_forge;
#[cfg(feature = "docker")]
pub(crate) mod docker;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
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
        let endpoints = config.endpoints.clone();
        let mut runtimes = Self { sweeps: Vec::new(), endpoints, metrics: Arc::clone(metrics) };
        #[cfg(not(all(feature = "docker", feature = "kubernetes")))]
        let _ = (runs, &mut runtimes);
        if let Some(settings) = &config.code_forge {
            registry = code_forge::add_to(registry, &runtimes, settings, metrics, spans)?;
        }
        if let Some(settings) = &config.lambda {
            #[cfg(feature = "lambda")]
            {
                registry = lambda::add_to(registry, &runtimes, settings, metrics, spans)?;
            }
            #[cfg(not(feature = "lambda"))]
            is_not_here("LAMBDA_ENABLED", settings);
        }
        if let Some(settings) = &config.docker {
            #[cfg(feature = "docker")]
            {
                registry = docker::add_to(registry, &mut runtimes, settings, metrics, runs);
            }
            #[cfg(not(feature = "docker"))]
            is_not_here("DOCKER_ENABLED", settings);
        }
        if let Some(settings) = &config.kubernetes {
            #[cfg(feature = "kubernetes")]
            {
                registry = kubernetes::add_to(registry, &mut runtimes, settings, metrics, runs);
            }
            #[cfg(not(feature = "kubernetes"))]
            is_not_here("K8S_JOBS_ENABLED", settings);
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

#[cfg(not(all(feature = "docker", feature = "kubernetes", feature = "lambda")))]
fn is_not_here<S>(setting: &'static str, _: &S) {
    tracing::warn!(setting, "it is true, and this build has no such runtime: its tickets fail");
}
