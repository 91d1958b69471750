//! The commits of one partition: one at a time, each until it is answered.
//!
//! librdkafka tells nobody that a commit was refused which it was not asked to wait for, and a group refuses while it
//! rebalances. So each is waited for, on a thread that may block, and a refused one is sent again.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use ticket_activities::border_call;
use tokio::task::JoinHandle;

use super::consumer::BridgeConsumer;

/// How long the last commit of a partition that is given up may take; a broker that is away must not hold up a shutdown.
/// What is not committed is read again and recognised.
const LAST_COMMIT: Duration = Duration::from_secs(2);

/// Commits offsets of one partition.
pub(crate) struct Commits {
    consumer: Arc<BridgeConsumer>,
    topic: String,
    partition: i32,
    /// What the group has acknowledged.
    committed: Option<i64>,
    /// The commit that waits for its answer.
    under_way: Option<(i64, JoinHandle<KafkaResult<()>>)>,
}

impl Commits {
    pub(crate) fn new(consumer: Arc<BridgeConsumer>, topic: String, partition: i32) -> Self {
        Self { consumer, topic, partition, committed: None, under_way: None }
    }

    /// Sends a commit of `position`, unless it is committed already or another is under way.
    pub(crate) fn send(&mut self, position: Option<i64>) {
        let Some(position) = position.filter(|position| self.committed.is_none_or(|committed| *position > committed))
        else {
            return;
        };
        if self.under_way.is_some() {
            return;
        }
        let (consumer, topic, partition) = (Arc::clone(&self.consumer), self.topic.clone(), self.partition);
        let commit = tokio::task::spawn_blocking(move || {
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(&topic, partition, Offset::Offset(position))?;
            border_call("kafka.commit", || consumer.commit(&offsets, CommitMode::Sync))
        });
        self.under_way = Some((position, commit));
    }

    /// Waits for the answer to the commit under way; for ever when there is none. Cancel-safe.
    pub(crate) async fn answered(&mut self) {
        let Some((position, commit)) = &mut self.under_way else { return std::future::pending().await };
        let (position, answer) = (*position, commit.await);
        self.under_way = None;
        let error = match answer {
            Ok(Ok(())) => {
                self.committed = Some(position);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(topic = self.topic, partition = self.partition, position, error, "offset_commit_failed");
    }

    /// Commits `position` before the partition is given up.
    pub(crate) async fn finish(mut self, position: Option<i64>) {
        let answered = tokio::time::timeout(LAST_COMMIT, async {
            if self.under_way.is_some() {
                self.answered().await;
            }
            self.send(position);
            if self.under_way.is_some() {
                self.answered().await;
            }
        });
        if answered.await.is_err() {
            tracing::warn!(
                topic = self.topic,
                partition = self.partition,
                position,
                "the last commit was not answered in time; what it covers is read again and recognised"
            );
        }
    }
}
