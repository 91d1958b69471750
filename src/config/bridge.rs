//! How tickets are taken from Kafka, and the limits they are held to.

use std::time::Duration;

use ticket_workflows::{CompensationPolicy, DeadlinePolicy, DependencyPolicy, TicketPolicy};

use super::reader::{Reader, millis};
use crate::bridge::Fairness;

/// Backpressure and ticket policy.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// `MAX_CONCURRENT_TICKETS`: tickets ready and not finished, for each member of the consumer group.
    pub max_concurrent_tickets: u64,
    /// `CONSUMER_PAUSE_THRESHOLD`: fraction of it at which consumption pauses.
    pub pause_threshold: f64,
    /// `CONSUMER_RESUME_THRESHOLD`: fraction of it at which it resumes.
    pub resume_threshold: f64,
    /// `LIVENESS_STALL_SECONDS`: how long a loop may get nowhere although its peers answer before `/health` is red.
    pub stall: Duration,
    /// `TICKET_FAIRNESS`.
    pub fairness: Fairness,
    /// What every ticket of this bridge is held to.
    pub policy: TicketPolicy,
}

impl BridgeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let dependencies = dependencies(reader);
        let config = Self {
            max_concurrent_tickets: reader.number(
                "MAX_CONCURRENT_TICKETS",
                10,
                1,
                "tickets ready and not finished, for each member of the consumer group",
            ),
            pause_threshold: reader.fraction("CONSUMER_PAUSE_THRESHOLD", 0.8, "fraction at which consumption pauses"),
            resume_threshold: reader.fraction("CONSUMER_RESUME_THRESHOLD", 0.5, "fraction at which it resumes"),
            stall: reader.seconds(
                "LIVENESS_STALL_SECONDS",
                120.0,
                "how long a loop may get nowhere although its peers answer before /health is red; added by this product",
            ),
            fairness: reader
                .one_of(
                    "TICKET_FAIRNESS",
                    &[("plan", Fairness::Plan), ("intent", Fairness::Intent), ("none", Fairness::None)],
                    "plan",
                    "whose tickets share the slots evenly within a priority: plan, intent or none; added by this product",
                )
                .unwrap_or_default(),
            policy: TicketPolicy {
                timeout_multiplier: multiplier(reader),
                default_timeout_ms: TicketPolicy::default().default_timeout_ms,
                default_max_retries: u32::try_from(reader.number(
                    "MAX_RETRIES_PER_TICKET",
                    3,
                    0,
                    "extra attempts of a ticket without sla.max_retries",
                ))
                .unwrap_or(u32::MAX),
                backoff_base_ms: millis(reader.seconds("RETRY_BACKOFF_BASE_SECONDS", 2.0, "back-off before the first retry")),
                backoff_max_ms: millis(reader.seconds("RETRY_BACKOFF_MAX_SECONDS", 60.0, "longest back-off")),
                deadline: reader
                    .one_of(
                        "DEADLINE_POLICY",
                        &[
                            ("enforce", DeadlinePolicy::Enforce),
                            ("strict", DeadlinePolicy::Strict),
                            ("mark", DeadlinePolicy::Mark),
                        ],
                        "enforce",
                        "enforce (sla.deadline bounds all work; time spent waiting for dependencies does not count), strict (it \
                         does) or mark (a late result is only marked); added by this product",
                    )
                    .unwrap_or_default(),
                compensation: reader
                    .boolean(
                        "COMPENSATION_ENABLED",
                        false,
                        "whether what a failed ticket did is undone by a COMPENSATE ticket; added by this product",
                    )
                    .then_some(CompensationPolicy { appear_timeout_ms: dependencies.unknown_timeout_ms }),
                dependencies: Some(dependencies),
                // Read with the ticket service.
                reporting: None,
            },
        };
        if config.resume_threshold > config.pause_threshold {
            reader.error("CONSUMER_RESUME_THRESHOLD must not be above CONSUMER_PAUSE_THRESHOLD".to_owned());
        }
        config
    }
}

fn dependencies(reader: &mut Reader<'_>) -> DependencyPolicy {
    let in_ms = |seconds: f64| (seconds * 1000.0) as u64;
    let unknown = reader.seconds(
        "DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS",
        300.0,
        "how long a ticket waits for one that nobody has heard of; added by this product",
    );
    let interval: f64 = reader.parsed(
        "DEPENDENCY_CHECK_INTERVAL_SECONDS",
        0.0,
        "seconds, at least 0",
        "nothing is polled: with DEPENDENCY_CHECK_MAX_ATTEMPTS, the longest wait for dependencies that are open; 0: no limit",
    );
    let attempts = reader.number(
        "DEPENDENCY_CHECK_MAX_ATTEMPTS",
        0,
        0,
        "times DEPENDENCY_CHECK_INTERVAL_SECONDS (5 when that is not set), the longest wait for dependencies; 0: no limit",
    );
    let limit = match (interval, attempts) {
        (_, 0) if interval <= 0.0 => None,
        (interval, 0) => Some(interval * 60.0),
        (interval, attempts) => Some(if interval > 0.0 { interval } else { 5.0 } * attempts as f64),
    };
    DependencyPolicy { unknown_timeout_ms: millis(unknown), wait_limit_ms: limit.map(in_ms) }
}

fn multiplier(reader: &mut Reader<'_>) -> f64 {
    let multiplier: f64 = reader.parsed(
        "TASK_TIMEOUT_MULTIPLIER",
        1.5,
        "a number above zero, at most 1000",
        "factor on sla.timeout_ms for each attempt",
    );
    if !(multiplier > 0.0 && multiplier <= 1000.0) {
        reader.error(format!("TASK_TIMEOUT_MULTIPLIER={multiplier}: expected a number above zero, at most 1000"));
    }
    multiplier
}
