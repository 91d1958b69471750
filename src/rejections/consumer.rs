//! Consumes rejections: many at once, since one may wait for its ticket; commits the contiguous prefix of those done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use temporalio_client::Client;
use ticket_activities::now_ms;
use ticket_workflows::RecordPosition;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::cancel::{self, PATIENCE_MS, Verdict, judge};
use super::record::Rejection;
use crate::bridge::pace::{Turnstile, pause};
use crate::bridge::window::Window;
use crate::config::KafkaConfig;
use crate::events::{ConsumerError, PeerUnavailable, RejectionHandled};
use crate::health::Health;
use crate::kafka::{Clients, Repeats, StreamReader, error_code};
use crate::metrics::Metrics;
use crate::task::once;

/// The liveness entry.
pub(super) const REJECTIONS_LOOP: &str = "kafka_rejections";
/// Rejections under way at once. Each waits for its ticket a minute at most.
const AT_ONCE: usize = 256;
/// Between two looks for a ticket that has no run yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long the last commit and the leaving of the group may take: a broker that is away must not hold up a shutdown.
const HAND_OVER: Duration = Duration::from_secs(2);
/// A consumer that has lived so long breaks for a new reason.
const STABLE: Duration = Duration::from_secs(60);

/// Follows rejections.
pub struct Rejections {
    kafka: Clients,
    /// Its consumer group.
    group: String,
    topic: String,
    follower: Arc<Follower>,
    health: Health,
}

struct Follower {
    client: Client,
    metrics: Arc<Metrics>,
    temporal: Turnstile,
}

/// What was committed: partitions and offsets.
type Committed = KafkaResult<Vec<(i32, i64)>>;
/// A rejection that is done: its partition, the reading it belongs to, its offset.
type Done = (i32, u64, i64);

impl Rejections {
    /// Of these settings; `None` when rejections are not to be followed.
    #[must_use]
    pub fn of(
        config: &KafkaConfig,
        kafka: &Clients,
        client: &Client,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> Option<Self> {
        let topic = config.rejected_topic.clone()?;
        let follower =
            Follower { client: client.clone(), metrics: Arc::clone(metrics), temporal: Turnstile::default() };
        let group = format!("{}-rejected", config.group_id);
        Some(Self { kafka: kafka.clone(), group, topic, follower: Arc::new(follower), health: health.clone() })
    }

    /// Consumes until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let session = || {
            let (this, stop) = (Arc::clone(&this), stop.clone());
            async move { this.session(&stop).await }
        };
        supervise(&this.health, &stop, session).await;
    }

    /// The life of one consumer.
    ///
    /// # Errors
    /// When it breaks and another is needed.
    async fn session(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        // Before the credentials are read, so that no change is missed.
        let mut renewals = self.kafka.renewals();
        let mut consumer = self.kafka.tickets_config();
        consumer.set("group.id", &self.group);
        let consumer: Arc<StreamReader> = Arc::new(consumer.create_with_context(self.kafka.context("rejections"))?);
        consumer.subscribe(&[&self.topic])?;
        self.health.alive(REJECTIONS_LOOP);
        // The bridge gets this long to start what it has not read yet, whatever the age of the rejections.
        let began_ms = now_ms();
        let mut partitions: BTreeMap<i32, Reading> = BTreeMap::new();
        let mut under_way = FuturesUnordered::new();
        let mut commits = tokio::time::interval(COMMIT_INTERVAL);
        let mut committing: Option<JoinHandle<Committed>> = None;
        let mut repeats = Repeats::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // The credentials changed: another consumer takes over.
                Ok(()) = renewals.changed() => break,
                Some(done) = under_way.next(), if !under_way.is_empty() => note(&mut partitions, done),
                _ = commits.tick(), if committing.is_none() => committing = self.commit(&consumer, &partitions),
                answer = once(&mut committing) => self.committed(&mut partitions, answer),
                message = consumer.recv(), if under_way.len() < AT_ONCE => match message {
                    Ok(message) => {
                        let (partition, offset) = (message.partition(), message.offset());
                        let reading = partitions.entry(partition).or_default();
                        reading.take(offset);
                        let work = self.follow(&message, began_ms);
                        let number = reading.number;
                        under_way.push(async move { work.await; (partition, number, offset) });
                    }
                    Err(KafkaError::MessageConsumptionFatal(code)) => {
                        anyhow::bail!("librdkafka gave up with a fatal error: {code}");
                    }
                    // librdkafka reconnects by itself.
                    Err(error) => {
                        let code = error_code(&error);
                        if repeats.is_news(&code, Instant::now()) {
                            self.follower.metrics.emit(ConsumerError { code, error: &error.to_string() });
                        }
                    }
                },
            }
        }
        // What still waits is read again after the restart.
        let last = async {
            if let Some(committing) = committing {
                self.committed(&mut partitions, committing.await);
            }
            if let Some(last) = self.commit(&consumer, &partitions) {
                self.committed(&mut partitions, last.await);
            }
            // Blocks: it leaves the group.
            tokio::task::spawn_blocking(move || drop(consumer)).await
        };
        if tokio::time::timeout(HAND_OVER, last).await.is_err() {
            tracing::warn!(topic = self.topic, "the rejections' group was not left in time; some may be read again");
        }
        Ok(())
    }

    /// Reads the record and follows it; ends when it may be committed.
    fn follow(&self, message: &BorrowedMessage<'_>, began_ms: i64) -> impl Future<Output = ()> + Send + use<> {
        let follower = Arc::clone(&self.follower);
        let position = RecordPosition {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        };
        let rejected_at_ms = message.timestamp().to_millis().unwrap_or_else(now_ms);
        let rejection = Rejection::read(message.payload());
        async move {
            match rejection {
                Ok(rejection) => follower.follow(&rejection, &position, rejected_at_ms, began_ms).await,
                Err(error) => follower.metrics.emit(RejectionHandled {
                    ticket_id: None,
                    position: &position,
                    outcome: "unreadable",
                    detail: &error,
                }),
            }
        }
    }

    /// Sends a commit of what is done, on a thread that may block: librdkafka tells nobody that a commit was refused
    /// which it was not asked to wait for. `None`: there is nothing new.
    fn commit(
        &self,
        consumer: &Arc<StreamReader>,
        partitions: &BTreeMap<i32, Reading>,
    ) -> Option<JoinHandle<Committed>> {
        // One that has gone to another member is that member's to commit.
        let assigned = consumer.assignment().ok()?;
        let positions: Vec<(i32, i64)> = partitions
            .iter()
            .filter(|(partition, _)| assigned.find_partition(&self.topic, **partition).is_some())
            .filter_map(|(partition, reading)| Some((*partition, reading.news()?)))
            .collect();
        if positions.is_empty() {
            return None;
        }
        let (consumer, topic) = (Arc::clone(consumer), self.topic.clone());
        Some(tokio::task::spawn_blocking(move || {
            let mut offsets = TopicPartitionList::new();
            for (partition, position) in &positions {
                offsets.add_partition_offset(&topic, *partition, Offset::Offset(*position))?;
            }
            consumer.commit(&offsets, CommitMode::Sync).map(|()| positions)
        }))
    }

    fn committed(&self, partitions: &mut BTreeMap<i32, Reading>, answer: Result<Committed, JoinError>) {
        let error = match answer {
            Ok(Ok(positions)) => {
                for (partition, position) in positions {
                    if let Some(reading) = partitions.get_mut(&partition) {
                        reading.committed = Some(position);
                    }
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Not lost: the next commit covers it, and to cancel twice is to cancel once.
        tracing::warn!(error, topic = self.topic, "offset_commit_failed");
    }
}

/// Runs one session after the other until stopped. One that breaks is replaced; meanwhile `/health` is red (INC-17).
async fn supervise<F>(health: &Health, stop: &CancellationToken, session: impl Fn() -> F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut failures = 0;
    loop {
        let began = Instant::now();
        // A task of its own, so that a panic ends only the session.
        let ended = tokio::spawn(session()).await.context("the session broke").and_then(|result| result);
        let error = match ended {
            Err(error) => error,
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => continue,
        };
        failures = if began.elapsed() > STABLE { 1 } else { failures + 1 };
        let error = format!("{error:#}");
        tracing::error!(error, "kafka_rejections_consumer_lost");
        health.dead(REJECTIONS_LOOP, error);
        if stop.run_until_cancelled(tokio::time::sleep(pause(failures, fastrand::f64()))).await.is_none() {
            return;
        }
    }
}

impl Follower {
    /// Follows a rejection until that is done, however long Temporal is away.
    async fn follow(&self, rejection: &Rejection, position: &RecordPosition, rejected_at_ms: i64, began_ms: i64) {
        let give_up_at_ms = rejected_at_ms.max(began_ms).saturating_add(PATIENCE_MS);
        let (outcome, detail) = loop {
            self.temporal.pass().await;
            let judged = match cancel::find(&self.client, rejection.ticket_id.as_str()).await {
                Ok(run) => judge(run, rejected_at_ms, now_ms(), give_up_at_ms),
                Err(status) => {
                    self.away(position, &status);
                    continue;
                }
            };
            let done = match judged {
                Verdict::Cancel => match cancel::cancel(&self.client, rejection, position).await {
                    Ok(true) => Some(("cancelled", rejection.reason.as_str())),
                    // It has just ended: the next look says how.
                    Ok(false) => None,
                    Err(status) => {
                        self.away(position, &status);
                        continue;
                    }
                },
                Verdict::Closed => Some(("closed", "the ticket had ended before it was rejected")),
                Verdict::Superseded => Some(("superseded", "the ticket was published again after it was rejected")),
                Verdict::NotStarted => Some((
                    "not_started",
                    "the ticket has no workflow; should it come after all, it runs: cancel it by hand",
                )),
                Verdict::Wait => None,
            };
            self.temporal.answered();
            match done {
                Some(done) => break done,
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let ticket_id = Some(rejection.ticket_id.as_str());
        self.metrics.emit(RejectionHandled { ticket_id, position, outcome, detail });
    }

    fn away(&self, position: &RecordPosition, status: &tonic::Status) {
        if let Some(retry_in) = self.temporal.failed() {
            let error = status.to_string();
            self.metrics.emit(PeerUnavailable { peer: "temporal", position, error: &error, retry_in });
        }
    }
}

/// A partition as it is read between two assignments.
#[derive(Debug, Default)]
struct Reading {
    window: Window,
    /// Counts the readings: what belongs to an earlier one says nothing about this one.
    number: u64,
    next: i64,
    committed: Option<i64>,
}

impl Reading {
    /// A record is read. One that was read before shows that the partition has been away and is back.
    fn take(&mut self, offset: i64) {
        if offset < self.next {
            *self = Self { number: self.number + 1, ..Self::default() };
        }
        self.next = offset + 1;
        self.window.take(offset);
    }

    /// The offset to commit, when it is another than the last.
    fn news(&self) -> Option<i64> {
        self.window.committable().filter(|position| Some(*position) != self.committed)
    }
}

fn note(partitions: &mut BTreeMap<i32, Reading>, (partition, number, offset): Done) {
    if let Some(reading) = partitions.get_mut(&partition)
        && reading.number == number
    {
        reading.window.done(offset);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn inc_17_a_consumer_that_breaks_is_replaced_and_health_is_red_meanwhile() {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let sessions = Arc::new(AtomicUsize::new(0));
        let session = || {
            let (number, health, stop) = (sessions.fetch_add(1, Ordering::SeqCst), health.clone(), stop.clone());
            async move {
                health.alive(REJECTIONS_LOOP);
                tokio::time::sleep(Duration::from_secs(1)).await;
                match number {
                    0 => anyhow::bail!("the broker said no"),
                    1 => panic!("a defect"),
                    _ => stop.cancelled().await,
                }
                Ok(())
            }
        };
        let watched = async {
            let mut seen = Vec::new();
            for _ in 0..2 {
                while health.liveness().0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                seen.push(health.liveness().1[REJECTIONS_LOOP].detail.clone().unwrap_or_default());
                while !health.liveness().0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            stop.cancel();
            seen
        };
        health.alive(REJECTIONS_LOOP);
        let ((), seen) = tokio::join!(supervise(&health, &stop, session), watched);
        assert!(seen[0].contains("the broker said no") && seen[1].contains("the session broke"), "{seen:?}");
        assert_eq!(sessions.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn inc_02_a_rejection_that_waits_keeps_its_offset_and_holds_up_no_other() {
        let mut partitions = BTreeMap::from([(0, Reading::default())]);
        for offset in 5..8 {
            partitions.get_mut(&0).expect("reading").take(offset);
        }
        note(&mut partitions, (0, 0, 6));
        note(&mut partitions, (0, 0, 7));
        assert_eq!(partitions[&0].news(), None, "5 waits");
        note(&mut partitions, (0, 0, 5));
        assert_eq!(partitions[&0].news(), Some(8));
        note(&mut partitions, (1, 0, 5));
    }

    #[test]
    fn inc_02_what_is_read_again_after_a_rebalance_is_not_done_by_what_was_read_before() {
        let mut partitions = BTreeMap::from([(0, Reading::default())]);
        let reading = partitions.get_mut(&0).expect("reading");
        (5..8).for_each(|offset| reading.take(offset));
        reading.take(5);
        assert_eq!(reading.number, 1);
        note(&mut partitions, (0, 0, 5));
        assert_eq!(partitions[&0].news(), None, "that was the earlier reading");
        note(&mut partitions, (0, 1, 5));
        assert_eq!(partitions[&0].news(), Some(6));
    }
}
