//! The consumer of the dead-letter topic: one alert for each record, at least once (INC-20).
//!
//! Invariant: an offset is committed only when the alert of its record, and of all before it, is acknowledged. While
//! alerts cannot be published the consumer stays in its group, paused, and tries again; nothing else of the worker waits
//! for it. A consumer that breaks is replaced, like the bridge's (INC-17).

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use ticket_activities::border;
use ticket_schemas::{DlqHeader, platform_headers};
use ticket_workflows::RecordPosition;
use tokio_util::sync::CancellationToken;

use super::alert::DlqAlert;
use super::letter::Letter;
use crate::bridge::pace::pause;
use crate::config::Config;
use crate::events::{DlqAlertFailed, DlqAlertSent, DlqConsumerError, DlqConsumerLost};
use crate::health::Health;
use crate::kafka::{Clients, Context, DELIVERY_TIMEOUT, Producer, Repeats, error_code};
use crate::metrics::Metrics;

/// The liveness entry of the consumer.
const ALERT_LOOP: &str = "dlq_alerts";
/// Between two commits. What a killed worker had alerted in it is alerted again, under the same ids.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// Alerts that wait for the one before: the assignment is paused at the first number and resumed at the second.
const PAUSE_AT: usize = 64;
const RESUME_AT: usize = 8;
/// How long an alert under way gets at shutdown, and the commit and the leaving of the group after it.
const HAND_OVER: Duration = Duration::from_secs(2);
/// A consumer that has lived so long breaks for a new reason.
const STABLE: Duration = Duration::from_secs(60);

type AlertConsumer = StreamConsumer<Members>;

/// Where alerts go.
#[derive(Clone)]
pub struct AlertTopic {
    /// Its producer.
    pub producer: Producer,
    /// Its name.
    pub topic: String,
}

/// Consumes dead letters until stopped.
pub struct Alerting {
    kafka: Clients,
    /// Its consumer group.
    group: String,
    topic: String,
    alerts: Option<AlertTopic>,
    metrics: Arc<Metrics>,
    health: Health,
}

/// The consumer's context: remembers which partitions were taken away.
struct Members {
    /// Credentials, and what becomes of refusals.
    access: Context,
    revoked: Arc<Mutex<Vec<i32>>>,
    metrics: Arc<Metrics>,
}

impl ClientContext for Members {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Context::ENABLE_REFRESH_OAUTH_TOKEN;

    fn error(&self, error: KafkaError, reason: &str) {
        self.metrics.emit(DlqConsumerError { code: error_code(&error), error: reason });
        self.access.note(&error, reason);
    }

    fn generate_oauth_token(&self, configured: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.generate_oauth_token(configured)
    }
}

impl ConsumerContext for Members {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                commit(consumer, CommitMode::Async);
                let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
                revoked.extend(partitions.elements().iter().map(|element| element.partition()));
            }
            Rebalance::Error(error) => {
                self.metrics.emit(DlqConsumerError { code: "Rebalance".to_owned(), error: &error.to_string() })
            }
            Rebalance::Assign(_) => self.access.served(),
        }
    }
}

/// An alert and what it is about.
struct Pending {
    alert: DlqAlert,
    position: RecordPosition,
    headers: OwnedHeaders,
}

impl Pending {
    fn of(letter: &Letter) -> Self {
        let original = letter.headers.iter().map(|(key, value)| DlqHeader { key, value: value.as_deref() });
        let headers = platform_headers(original).into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key: &key, value: Some(&value) })
        });
        Self { alert: DlqAlert::about(letter), position: letter.position.clone(), headers }
    }
}

impl Alerting {
    /// The consumer that the settings ask for, `None` when they turn it off. Alerts go through `producer`.
    #[must_use]
    pub fn new(
        config: &Config,
        kafka: Clients,
        producer: Producer,
        metrics: Arc<Metrics>,
        health: Health,
    ) -> Option<Self> {
        let settings = &config.dead_letters;
        if !settings.consumer_enabled {
            tracing::info!("KAFKA_DLQ_ENABLED=false: dead letters are not consumed, and nobody is alerted");
            return None;
        }
        if !settings.alerts_enabled {
            tracing::info!("DLQ_ALERT_ENABLED=false: dead letters are consumed without alerts");
        }
        let alerts = settings.alerts_enabled.then(|| AlertTopic { producer, topic: settings.alert_topic.clone() });
        let group = format!("{}-dlq", config.kafka.group_id);
        Some(Self { kafka, group, topic: config.kafka.dlq_topic.clone(), alerts, metrics, health })
    }

    /// Runs until stopped. Never fails: what breaks is replaced.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut failures = 0;
        loop {
            let began = Instant::now();
            // A task of its own, so that a defect in it ends nothing else.
            let session = tokio::spawn(Arc::clone(&this).session(stop.clone()));
            let error = match session.await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => {
                    tracing::info!("dlq_consumer_replaced");
                    continue;
                }
                Ok(Err(error)) => format!("{error:#}"),
                Err(broken) => format!("it broke: {broken}"),
            };
            failures = if began.elapsed() > STABLE { 1 } else { failures + 1 };
            let retry_in = pause(failures, fastrand::f64());
            this.metrics.emit(DlqConsumerLost { error: &error, retry_in });
            this.health.dead(ALERT_LOOP, error);
            if stop.run_until_cancelled(tokio::time::sleep(retry_in)).await.is_none() {
                return;
            }
        }
    }

    /// The life of one consumer.
    ///
    /// # Errors
    /// When it breaks and another is needed.
    async fn session(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let revoked = Arc::new(Mutex::new(Vec::new()));
        let access = self.kafka.context("dlq_consumer");
        let context = Members { access, revoked: Arc::clone(&revoked), metrics: Arc::clone(&self.metrics) };
        // Before the credentials are read, so that no change is missed.
        let mut renewals = self.kafka.renewals();
        let mut consumer = self.kafka.tickets_config();
        consumer
            .set("group.id", &self.group)
            // A dead letter must not go by because the group is new (`contracts/kafka.md §7`).
            .set("auto.offset.reset", "earliest")
            .set("fetch.message.max.bytes", "2097152");
        let consumer: Arc<AlertConsumer> = Arc::new(consumer.create_with_context(context)?);
        consumer.subscribe(&[&self.topic])?;
        self.health.alive(ALERT_LOOP);
        let ending = stop.child_token();
        let ended = {
            let mut consuming = std::pin::pin!(self.consume(&consumer, &revoked, &ending));
            tokio::select! {
                ended = &mut consuming => ended,
                // The credentials changed: ended in good order, and replaced.
                Ok(()) = renewals.changed() => {
                    ending.cancel();
                    consuming.await
                }
            }
        };
        // Blocks: the last commit, and leaving the group.
        let closing = tokio::task::spawn_blocking(move || {
            commit(consumer.as_ref(), CommitMode::Sync);
            drop(consumer);
        });
        if tokio::time::timeout(HAND_OVER, closing).await.is_err() {
            tracing::warn!("the dead letters' group was not left in time; some alerts may be sent again");
        }
        ended
    }

    async fn consume(
        &self,
        consumer: &AlertConsumer,
        revoked: &Mutex<Vec<i32>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut waiting: VecDeque<Pending> = VecDeque::new();
        let mut sending = FuturesUnordered::new();
        let mut commits = tokio::time::interval(COMMIT_INTERVAL);
        let mut paused = false;
        let mut repeats = Repeats::default();
        loop {
            let lost = std::mem::take(&mut *revoked.lock().unwrap_or_else(PoisonError::into_inner));
            // Their next owner reads them.
            waiting.retain(|pending| !lost.contains(&pending.position.partition));
            if sending.is_empty()
                && let Some(next) = waiting.pop_front()
            {
                sending.push(self.deliver(next));
            }
            if paused && waiting.len() <= RESUME_AT {
                consumer.resume(&consumer.assignment()?)?;
                paused = false;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                _ = commits.tick() => commit(consumer, CommitMode::Async),
                Some(position) = sending.next(), if !sending.is_empty() => store(consumer, &position),
                message = consumer.recv() => match message {
                    Ok(message) => {
                        waiting.push_back(Pending::of(&Letter::of(&message)));
                        if waiting.len() >= PAUSE_AT {
                            consumer.pause(&consumer.assignment()?)?;
                            paused = true;
                        }
                    }
                    Err(KafkaError::MessageConsumptionFatal(code)) => {
                        anyhow::bail!("librdkafka gave up with a fatal error: {code}")
                    }
                    // librdkafka reconnects by itself.
                    Err(error) => {
                        let code = error_code(&error);
                        if repeats.is_news(&code, Instant::now()) {
                            self.metrics.emit(DlqConsumerError { code, error: &error.to_string() });
                        }
                    }
                },
            }
        }
        if let Ok(Some(position)) = tokio::time::timeout(HAND_OVER, sending.next()).await {
            store(consumer, &position);
        }
        Ok(())
    }

    /// Publishes the alert, however long that takes; the dead letter's position.
    async fn deliver(&self, pending: Pending) -> RecordPosition {
        let Pending { alert, position, headers } = pending;
        let Some(AlertTopic { producer, topic }) = &self.alerts else { return position };
        let payload = alert.to_json();
        let mut failures = 0;
        loop {
            let record = FutureRecord::to(topic).key(&alert.alert_id).payload(&payload).headers(headers.clone());
            let sent = border("kafka.alert", producer.send(record, Timeout::After(DELIVERY_TIMEOUT))).await;
            let Err((error, _)) = sent else { break };
            failures = u32::saturating_add(failures, 1);
            let retry_in = pause(failures, fastrand::f64());
            let error_text =
                format!("{error}; check that topic {topic} (DLQ_ALERT_KAFKA_TOPIC) exists and may be written");
            self.metrics.emit(DlqAlertFailed {
                position: &position,
                topic,
                code: &error_code(&error),
                error: &error_text,
                retry_in,
            });
            tokio::time::sleep(retry_in).await;
        }
        self.metrics.emit(DlqAlertSent {
            alert_id: &alert.alert_id,
            position: &position,
            ticket_id: &alert.ticket_id,
            task_type: alert.task_type_label(),
            severity: alert.severity,
        });
        position
    }
}

/// The alert is out: the next commit passes its dead letter.
fn store(consumer: &AlertConsumer, position: &RecordPosition) {
    if let Err(error) = consumer.store_offset(&position.topic, position.partition, position.offset) {
        // The partition was taken away meanwhile: its next owner alerts again, under the same id.
        tracing::debug!(%error, %position, "the offset of a dead letter was not stored");
    }
}

/// Commits what was stored.
fn commit<C: ConsumerContext>(consumer: &impl rdkafka::consumer::Consumer<C>, mode: CommitMode) {
    match consumer.commit_consumer_state(mode) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        // Not lost: the next commit covers it.
        Err(error) => tracing::warn!(%error, "dlq_offset_commit_failed"),
    }
}
