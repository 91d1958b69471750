//! The consumer: group membership, rebalances, and one task for each assigned partition.
//!
//! Invariant: the main consumer is polled for ever, by one task; rebalance callbacks run nowhere else. A partition is
//! paused between its assignment and the split of its queue, so that no record goes past its task.
//!
//! A consumer that breaks (a fatal error of librdkafka, a partition task that panics) is given up and replaced by a new
//! one: what it had not committed is read again. Meanwhile `/health` is red (INC-17). One whose credentials changed is
//! ended in good order and replaced too (INC-13).

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use ticket_activities::border_call;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::intake::Intake;
use super::pace::pause;
use super::partition::Partition;
use super::{flow, members};
use crate::events::{ConsumerError, ConsumerLost};
use crate::health::{Health, Pulse};
use crate::kafka::{Clients, Context, Repeats, error_code};
use crate::metrics::Metrics;
use crate::task::once;

/// The consumer of the tickets topic.
pub(crate) type BridgeConsumer = StreamConsumer<Rebalances>;

/// The readiness check of group membership.
pub(crate) const CONSUMER_CHECK: &str = "kafka_consumer";
/// The liveness entry of the consumer.
pub(crate) const CONSUMER_LOOP: &str = "kafka_consumer";
/// The liveness entry of the task that owns the partitions.
const OWNER_LOOP: &str = "kafka_partitions";
/// A consumer that has lived so long breaks for a new reason.
const STABLE: Duration = Duration::from_secs(60);
/// Loops that have nothing to do show that often that they live.
const BEAT: Duration = Duration::from_secs(1);
/// Rebalances waiting for the main task; there are never more than one or two.
const QUEUED: usize = 64;
/// How long a revoked partition's task gets in all, commit included.
pub(crate) const REVOKE_PATIENCE: Duration = Duration::from_secs(8);

/// What the group coordinator did.
enum Change {
    Assigned(TopicPartitionList),
    /// Answered when the partitions are given up.
    Revoked(TopicPartitionList, std::sync::mpsc::SyncSender<()>),
}

/// The consumer's context: turns callbacks into messages for the main task.
pub(crate) struct Rebalances {
    /// Credentials, and what becomes of refusals.
    access: Context,
    changes: mpsc::Sender<Change>,
    metrics: Arc<Metrics>,
    repeats: Mutex<Repeats>,
}

impl Rebalances {
    fn new(access: Context, changes: mpsc::Sender<Change>, metrics: Arc<Metrics>) -> Self {
        Self { access, changes, metrics, repeats: Mutex::default() }
    }

    /// Logs and counts an error, unless one like it has just been told.
    fn tell(&self, error: &KafkaError, reason: &str) {
        let code = error_code(error);
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        if repeats.is_news(&code, Instant::now()) {
            self.metrics.emit(ConsumerError { code, error: reason });
        }
    }
}

impl ClientContext for Rebalances {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Context::ENABLE_REFRESH_OAUTH_TOKEN;

    fn error(&self, error: KafkaError, reason: &str) {
        self.tell(&error, reason);
        self.access.note(&error, reason);
    }

    fn generate_oauth_token(&self, configured: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.access.generate_oauth_token(configured)
    }
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let (given_up, wait) = std::sync::mpsc::sync_channel(1);
        if self.changes.try_send(Change::Revoked((*partitions).clone(), given_up)).is_ok() {
            // This thread polls the consumer; the tasks that give up run on others meanwhile.
            tokio::task::block_in_place(|| {
                if wait.recv_timeout(REVOKE_PATIENCE).is_err() {
                    tracing::warn!("partitions were not given up in time");
                }
            });
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                // One without partitions does not say that they could be read.
                if partitions.count() > 0 {
                    self.access.served();
                }
                if let Err(error) = consumer.pause(partitions) {
                    tracing::error!(%error, "assigned partitions could not be paused");
                }
                if self.changes.try_send(Change::Assigned((*partitions).clone())).is_err() {
                    tracing::error!("a rebalance was lost: the bridge does not keep up with the group");
                }
            }
            Rebalance::Error(error) => {
                self.metrics.emit(ConsumerError { code: "Rebalance".to_owned(), error: &error.to_string() })
            }
            Rebalance::Revoke(_) => {}
        }
    }
}

/// Why a consumer's life ended, when nothing broke.
enum Ended {
    Stopped,
    /// The credentials changed.
    Renewed,
}

/// Consumes until stopped.
pub(crate) struct Consumption {
    pub(crate) kafka: Clients,
    /// Its group.
    pub(crate) group: String,
    /// How long a loop may get nowhere before it counts as dead.
    pub(crate) stall: Duration,
    pub(crate) topic: String,
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
}

impl Consumption {
    /// Subscribes and consumes; returns once every partition is drained, committed and left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let error = match self.session(&stop).await {
                Ok(Ended::Stopped) => return,
                // Not a failure: the partitions were given up in good order, and the next one takes them up again.
                Ok(Ended::Renewed) => {
                    tracing::info!("kafka_consumer_replaced");
                    continue;
                }
                Err(error) => error,
            };
            failures = if began.elapsed() > STABLE { 1 } else { failures + 1 };
            let retry_in = pause(failures, fastrand::f64());
            let error = format!("{error:#}");
            self.health.not_ready(CONSUMER_CHECK, error.clone());
            self.metrics.emit(ConsumerLost { error: &error, retry_in });
            self.health.dead(CONSUMER_LOOP, error);
            if stop.run_until_cancelled(tokio::time::sleep(retry_in)).await.is_none() {
                return;
            }
        }
    }

    /// The life of one consumer.
    ///
    /// # Errors
    /// When it breaks and another is needed.
    async fn session(&self, stop: &CancellationToken) -> anyhow::Result<Ended> {
        // Before the credentials are read, so that no change is missed.
        let mut renewals = self.kafka.renewals();
        let (changes, inbox) = mpsc::channel(QUEUED);
        let context = Rebalances::new(self.kafka.context("consumer"), changes, Arc::clone(&self.metrics));
        let consumer: Arc<BridgeConsumer> = Arc::new(self.kafka.tickets_config().create_with_context(context)?);
        consumer.subscribe(&[&self.topic])?;
        self.metrics.kafka_consumer_initialized.inc();
        let (ending, broken) = (CancellationToken::new(), CancellationToken::new());
        let owner = Owner {
            consumer: Arc::clone(&consumer),
            intake: Arc::clone(&self.intake),
            health: self.health.clone(),
            broken: broken.clone(),
            ending: ending.clone(),
            stall: self.stall,
            paused: false,
            tasks: BTreeMap::new(),
        };
        let pulse = self.health.pulse(CONSUMER_LOOP, self.stall);
        let mut tasks = Tasks {
            owned: Some(tokio::spawn(owner.run(inbox, ending.clone()))),
            // A task of its own: `block_in_place` in a callback must not block this one.
            polled: Some(tokio::spawn(poll_for_ever(Arc::clone(&consumer), pulse))),
        };
        let gate = self.intake.gate.clone();
        let followed = tokio::spawn(members::follow(Arc::clone(&consumer), self.group.clone(), gate));
        let _followed = AbortOnDropHandle::new(followed);
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(Ended::Stopped),
            Ok(()) = renewals.changed() => Ok(Ended::Renewed),
            () = broken.cancelled() => Err(anyhow::anyhow!("a partition's task broke")),
            lost = tasks.lost() => Err(lost),
        };
        ending.cancel();
        let given_up = tasks.end().await;
        // Leaving the group hands the partitions over at once instead of after the session time-out.
        border_call("kafka.leave", || consumer.unsubscribe());
        given_up.and(ended)
    }
}

/// The tasks of one consumer. A task that has ended is waited for once and no more.
struct Tasks {
    owned: Option<JoinHandle<()>>,
    polled: Option<JoinHandle<anyhow::Error>>,
}

impl Tasks {
    /// Resolves when one of them has ended although nobody told it to. Cancel-safe.
    async fn lost(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = once(&mut self.owned) => match ended {
                Ok(()) => anyhow::anyhow!("the owner of the partitions has ended"),
                Err(error) => anyhow::anyhow!("the owner of the partitions broke: {error}"),
            },
            ended = once(&mut self.polled) => {
                ended.unwrap_or_else(|error| anyhow::anyhow!("the poll loop broke: {error}"))
            }
        }
    }

    /// Waits until the partitions are given up, and ends the poll loop then: their commits are answered meanwhile.
    ///
    /// # Errors
    /// When the owner broke.
    async fn end(self) -> anyhow::Result<()> {
        let given_up = match self.owned {
            Some(owned) => owned.await.context("the owner of the partitions broke"),
            None => Ok(()),
        };
        if let Some(polled) = self.polled {
            polled.abort();
            // Waits for a callback that is under way; being aborted is how it ends.
            let _ = polled.await;
        }
        given_up
    }
}

/// Polls the main consumer until it breaks. Records come through partition queues, so this yields only errors, and
/// callbacks.
async fn poll_for_ever(consumer: Arc<BridgeConsumer>, pulse: Pulse) -> anyhow::Error {
    loop {
        pulse.beat();
        let Ok(polled) = tokio::time::timeout(BEAT, consumer.recv()).await else { continue };
        match polled {
            Ok(message) => {
                tracing::error!(
                    offset = rdkafka::Message::offset(&message),
                    "a record came past its partition's task; it is read again after a restart"
                );
            }
            Err(KafkaError::MessageConsumptionFatal(code)) => {
                return anyhow::anyhow!("librdkafka gave up with a fatal error: {code}");
            }
            // librdkafka reconnects by itself. Its errors stand in the queue before the assignment that ends an outage:
            // none may be waited for.
            Err(error) => consumer.client().context().tell(&error, &error.to_string()),
        }
    }
}

/// Owns the partition tasks.
struct Owner {
    consumer: Arc<BridgeConsumer>,
    intake: Arc<Intake>,
    health: Health,
    /// Told by a partition's task that ends although nobody stopped it.
    broken: CancellationToken,
    /// Ends the partitions' tasks, also when the owner itself is gone.
    ending: CancellationToken,
    stall: Duration,
    /// Whether the assignment is paused, because the gate is closed.
    paused: bool,
    tasks: BTreeMap<(String, i32), (CancellationToken, JoinHandle<()>)>,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Change>, stop: CancellationToken) {
        let pulse = self.health.pulse(OWNER_LOOP, self.stall);
        let mut beats = tokio::time::interval(BEAT);
        let mut closed = self.intake.gate.closed();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                change = inbox.recv() => match change {
                    Some(Change::Assigned(partitions)) => self.assign(&partitions),
                    Some(Change::Revoked(partitions, given_up)) => {
                        let wanted: Vec<_> = keys(&partitions);
                        self.give_up(|key| wanted.contains(key)).await;
                        // The callback may have stopped waiting.
                        let _ = given_up.send(());
                    }
                    None => break,
                },
                paused = flow::change(&mut closed, self.paused) => self.pause(paused),
                _ = beats.tick() => pulse.beat(),
            }
        }
        self.give_up(|_| true).await;
    }

    /// Pauses the whole assignment, or resumes it. What was fetched and not taken yet is dropped and fetched again then.
    fn pause(&mut self, paused: bool) {
        let mut partitions = TopicPartitionList::new();
        for (topic, number) in self.tasks.keys() {
            partitions.add_partition(topic, *number);
        }
        let result = if paused { self.consumer.pause(&partitions) } else { self.consumer.resume(&partitions) };
        match result {
            Ok(()) => tracing::info!(partitions = partitions.count(), paused, "assignment_flow"),
            // One that is not ours any more, mostly; records that come all the same wait at the gate.
            Err(error) => tracing::error!(%error, paused, "the assignment could not be paused or resumed"),
        }
        self.paused = paused;
    }

    fn assign(&mut self, partitions: &TopicPartitionList) {
        for (topic, number) in keys(partitions) {
            let Some(queue) = self.consumer.split_partition_queue(&topic, number) else {
                tracing::error!(topic, partition = number, "the partition has no queue; it is not consumed");
                continue;
            };
            let stop = self.ending.child_token();
            let partition = Partition {
                topic: topic.clone(),
                number,
                queue,
                consumer: Arc::clone(&self.consumer),
                intake: Arc::clone(&self.intake),
                stop: stop.clone(),
                pulse: self.health.pulse(format!("partition {topic}/{number}"), self.stall),
            };
            tracing::info!(topic, partition = number, "partition_assigned");
            let alarm = self.broken.clone().drop_guard();
            let task = tokio::spawn(async move {
                partition.run().await;
                alarm.disarm();
            });
            self.tasks.insert((topic, number), (stop, task));
        }
        // Assigned partitions come paused. Under a closed gate they stay so, and so do those that were there before: a
        // rebalance may have cleared it.
        if *self.intake.gate.closed().borrow() {
            self.pause(true);
        } else if let Err(error) = self.consumer.resume(partitions) {
            tracing::error!(%error, "assigned partitions could not be resumed");
        }
        self.health.ready(CONSUMER_CHECK);
        self.health.alive(CONSUMER_LOOP);
    }

    async fn give_up(&mut self, mut which: impl FnMut(&(String, i32)) -> bool) {
        let going: Vec<_> = self.tasks.keys().filter(|key| which(key)).cloned().collect();
        let mut ending = Vec::new();
        for key in going {
            if let Some((stop, task)) = self.tasks.remove(&key) {
                stop.cancel();
                ending.push((key, task));
            }
        }
        for ((topic, partition), task) in ending {
            if let Err(error) = task.await {
                tracing::error!(topic, partition, %error, "a partition task broke");
            }
            tracing::info!(topic, partition, "partition_given_up");
        }
    }
}

fn keys(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inc_17_a_poll_loop_that_ends_is_told_and_waited_for_once() {
        let owner_ends = CancellationToken::new();
        let stopped = owner_ends.clone();
        let mut tasks = Tasks {
            owned: Some(tokio::spawn(async move { stopped.cancelled().await })),
            polled: Some(tokio::spawn(async { anyhow::anyhow!("fatal") })),
        };
        assert_eq!(tasks.lost().await.to_string(), "fatal");
        owner_ends.cancel();
        assert!(tasks.end().await.is_ok());
    }

    #[tokio::test]
    async fn inc_17_an_owner_that_breaks_is_told_and_ends_the_poll_loop() {
        let mut tasks = Tasks {
            owned: Some(tokio::spawn(async { panic!("a defect") })),
            polled: Some(tokio::spawn(std::future::pending())),
        };
        assert!(tasks.lost().await.to_string().contains("the owner of the partitions broke"));
        assert!(tasks.end().await.is_ok());
    }
}
