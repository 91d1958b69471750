//! Metrics of the endpoints of providers. The platform has none of its workers; the numbers of the states are those of its
//! `redis_circuit_breaker_state` (`contracts/observability.md §2`).

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};
use ticket_activities::external::{CircuitState, EndpointEvent};

use super::{counters, gauges, histograms};

/// The state of each endpoint's circuit.
pub const CIRCUIT_STATE: &str = "worker_agent_circuit_breaker_state";
const WAIT_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// Metrics of endpoints, by provider.
#[derive(Debug, Clone)]
pub struct EndpointMetrics {
    /// State of the circuit: 0 closed, 1 half-open, 2 open.
    pub circuit_state: IntGaugeVec,
    /// How often it opened.
    pub circuit_opened: IntCounterVec,
    /// Attempts that were not let begin, because the circuit was open.
    pub refused: IntCounterVec,
    /// How long calls waited for their turn, those that did.
    pub wait: HistogramVec,
}

impl EndpointMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            circuit_state: gauges(
                registry,
                CIRCUIT_STATE,
                "state of the circuit of a provider's endpoint: 0 closed, 1 half-open, 2 open",
                &["provider"],
            )?,
            circuit_opened: counters(
                registry,
                "worker_agent_circuit_breaker_opened_total",
                "times the circuit of a provider's endpoint opened",
                &["provider"],
            )?,
            refused: counters(
                registry,
                "worker_agent_circuit_breaker_refused_total",
                "attempts that began nothing because the circuit was open",
                &["provider"],
            )?,
            wait: histograms(
                registry,
                "worker_agent_provider_call_wait_seconds",
                "time that calls to a provider waited for their turn",
                WAIT_BUCKETS,
                &["provider"],
            )?,
        })
    }

    /// Something was seen of a provider's endpoint.
    pub(crate) fn note(&self, provider: &'static str, event: EndpointEvent) {
        match event {
            EndpointEvent::Circuit(state) => {
                self.circuit_state.with_label_values(&[provider]).set(number(state));
                let opened = self.circuit_opened.with_label_values(&[provider]);
                opened.inc_by(u64::from(state == CircuitState::Open));
                // There from the start, or nobody sees it grow from 0 to 1.
                let _ = self.refused.with_label_values(&[provider]);
            }
            EndpointEvent::Refused => self.refused.with_label_values(&[provider]).inc(),
            EndpointEvent::Waited(time) => self.wait.with_label_values(&[provider]).observe(time.as_secs_f64()),
        }
    }
}

fn number(state: CircuitState) -> i64 {
    match state {
        CircuitState::Closed => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Open => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_circuit_is_there_from_the_start_and_its_openings_are_counted() {
        let registry = Registry::new();
        let metrics = EndpointMetrics::new(&registry).expect("metrics");
        let of = |provider| {
            (
                metrics.circuit_state.with_label_values(&[provider]).get(),
                metrics.circuit_opened.with_label_values(&[provider]).get(),
            )
        };
        metrics.note("docker", EndpointEvent::Circuit(CircuitState::Closed));
        let families = registry.gather();
        let names: Vec<_> = families.iter().map(|family| family.name()).collect();
        let breaker =
            ["opened_total", "refused_total", "state"].map(|end| format!("worker_agent_circuit_breaker_{end}"));
        assert_eq!(names, breaker);
        assert_eq!(of("docker"), (0, 0));
        metrics.note("docker", EndpointEvent::Circuit(CircuitState::Open));
        assert_eq!(of("docker"), (2, 1));
        metrics.note("docker", EndpointEvent::Circuit(CircuitState::HalfOpen));
        assert_eq!(of("docker"), (1, 1));
        metrics.note("docker", EndpointEvent::Circuit(CircuitState::Open));
        assert_eq!((of("docker"), of("other")), ((2, 2), (0, 0)));
        metrics.note("docker", EndpointEvent::Refused);
        metrics.note("docker", EndpointEvent::Waited(Duration::from_millis(1_500)));
        assert_eq!(metrics.refused.with_label_values(&["docker"]).get(), 1);
        let wait = metrics.wait.with_label_values(&["docker"]);
        assert_eq!((wait.get_sample_count(), wait.get_sample_sum()), (1, 1.5));
    }
}
