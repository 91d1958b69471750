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
mod gate;
mod intake;
pub mod pace;
mod partition;
mod record;
mod start;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::FutureProducer;
use temporalio_client::Client;
use tokio_util::sync::CancellationToken;

pub use gate::Gate;
pub use intake::SETUP_CHECK;
pub use record::{Provenance, REDRIVE_HEADER};
pub use start::{Start, Starter};

use crate::config::Config;
use crate::health::Health;
use crate::kafka;
use crate::metrics::Metrics;
use crate::registry::RegistryClient;
use consumer::{CONSUMER_CHECK, Consumption};
use decode::Decoder;
use dlq::DeadLetters;
use intake::Intake;

/// What the bridge is made of.
pub struct BridgeParts {
    /// Temporal.
    pub client: Client,
    /// How long the namespace remembers closed tickets; `None`: not known.
    pub retention: Option<Duration>,
    /// For dead letters.
    pub producer: FutureProducer,
    /// `None`: JSON only.
    pub registry: Option<Arc<RegistryClient>>,
    /// Backpressure.
    pub gate: Gate,
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
    let refresh = tokio::spawn(parts.gate.clone().refresh_until(
        parts.client.clone(),
        config.temporal.task_queue.clone(),
        stop.clone(),
    ));
    let intake = Intake {
        decoder: Decoder::new(parts.registry, config.identity.supported_task_types.clone()),
        starter: Starter::new(
            parts.client,
            config.temporal.task_queue.clone(),
            config.identity.agent_id.clone(),
            config.bridge.policy.clone(),
        )
        .with_retention(parts.retention),
        gate: parts.gate,
        dead_letters: DeadLetters::new(parts.producer, config.kafka.dlq_topic.clone(), Arc::clone(&parts.metrics)),
        metrics: Arc::clone(&parts.metrics),
        health: parts.health.clone(),
    };
    let consumption = Consumption {
        consumer: kafka::consumer(&config.kafka),
        topic: config.kafka.tickets_topic.clone(),
        intake: Arc::new(intake),
        metrics: parts.metrics,
        health: parts.health,
    };
    consumption.run(stop).await;
    refresh.await?;
    Ok(())
}
