//! The bridge: from Kafka records to Temporal workflows.
//!
//! Every record becomes exactly one of *a started ticket, a recognised duplicate, a skipped record, a dead letter*, and
//! only then may its offset be committed. The pure parts are [`window`] (what may be committed) and [`decision`] (what an
//! answer means); the rest is I/O around them.

mod commits;
mod consumer;
pub mod decision;
mod decode;
mod dlq;
pub mod estimate;
mod flow;
mod gate;
mod intake;
mod members;
pub mod pace;
mod partition;
mod priority;
mod record;
mod start;
mod trace;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use temporalio_client::Client;
use tokio_util::sync::CancellationToken;

pub(crate) use consumer::REVOKE_PATIENCE as HAND_OVER_PATIENCE;
pub use gate::Gate;
pub use intake::SETUP_CHECK;
pub use priority::Fairness;
pub use record::{Provenance, REDRIVE_HEADER};
pub(crate) use start::is_redrive;
pub use start::{Start, Starter};

use crate::config::Config;
use crate::health::Health;
use crate::kafka::{Clients, Producer};
use crate::metrics::Metrics;
use crate::registry::RegistryClient;
use crate::spans::Spans;
use consumer::{CONSUMER_CHECK, Consumption};
use decode::Decoder;
use dlq::DeadLetters;
use gate::COUNT_CHECK;
use intake::Intake;

/// What the bridge is made of.
pub struct BridgeParts {
    /// Temporal.
    pub client: Client,
    /// How long the namespace remembers closed tickets; `None`: not known.
    pub retention: Option<Duration>,
    /// Makes the consumer.
    pub kafka: Clients,
    /// For dead letters.
    pub producer: Producer,
    /// `None`: JSON only.
    pub registry: Option<Arc<RegistryClient>>,
    /// Backpressure.
    pub gate: Gate,
    /// Traces.
    pub spans: Spans,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Liveness and readiness.
    pub health: Health,
}

/// Runs the bridge until stopped; records in flight become durable and are committed before it returns.
///
/// # Errors
/// When a part that cannot be restarted breaks.
pub async fn run(config: &Config, parts: BridgeParts, stop: CancellationToken) -> anyhow::Result<()> {
    parts.health.expect(CONSUMER_CHECK);
    parts.health.expect(COUNT_CHECK);
    let refresh = {
        let counting = parts.gate.clone().refresh_until(
            parts.client.clone(),
            config.temporal.task_queue.clone(),
            parts.health.clone(),
            parts.health.pulse(COUNT_CHECK, config.bridge.stall),
            stop.clone(),
        );
        let (health, stop) = (parts.health.clone(), stop.clone());
        tokio::spawn(async move {
            let ended = tokio::spawn(counting).await;
            if ended.is_err() && !stop.is_cancelled() {
                health.dead(COUNT_CHECK, "the count of open tickets broke; restart the process");
            }
            ended
        })
    };
    let intake = Intake {
        decoder: Decoder::new(
            parts.registry,
            config.identity.supported_task_types.clone(),
            config.identity.ignored_task_types.clone(),
        ),
        starter: Starter::new(
            parts.client,
            config.temporal.task_queue.clone(),
            config.identity.agent_id.clone(),
            config.bridge.policy.clone(),
        )
        .with_retention(parts.retention)
        .with_fairness(config.bridge.fairness)
        .with_spans(parts.spans.clone()),
        spans: parts.spans,
        gate: parts.gate,
        dead_letters: DeadLetters::new(parts.producer, config.kafka.dlq_topic.clone(), Arc::clone(&parts.metrics)),
        metrics: Arc::clone(&parts.metrics),
        health: parts.health.clone(),
    };
    let consumption = Consumption {
        kafka: parts.kafka,
        group: config.kafka.group_id.clone(),
        stall: config.bridge.stall,
        topic: config.kafka.tickets_topic.clone(),
        intake: Arc::new(intake),
        metrics: parts.metrics,
        health: parts.health,
    };
    consumption.run(stop).await;
    refresh.await??;
    Ok(())
}
