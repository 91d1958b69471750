//! One partition: records are taken in order, a bounded number is handled at once, and the contiguous prefix of durable
//! ones is committed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::consumer::{BridgeConsumer, Rebalances};
use super::intake::Intake;
use super::record::Record;
use super::window::Window;

/// Starts in flight for each partition. More than about eight buys little and multiplies latency (measured).
const MAX_IN_FLIGHT: usize = 8;
/// Between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long records in flight get to become durable when the partition is taken away. Below the session time-out, or the
/// group would be stuck; what does not make it is read again and recognised.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A partition this process owns.
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) number: i32,
    pub(crate) queue: StreamPartitionQueue<Rebalances>,
    pub(crate) consumer: Arc<BridgeConsumer>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) stop: CancellationToken,
}

impl Partition {
    /// Runs until stopped; then waits for records in flight, commits, and gives up.
    pub(crate) async fn run(self) {
        let mut window = Window::default();
        let mut committed = None;
        let mut in_flight = FuturesUnordered::new();
        let mut commits = tokio::time::interval(COMMIT_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(durable) = in_flight.next(), if !in_flight.is_empty() => note(&mut window, durable),
                _ = commits.tick() => self.commit(&window, &mut committed, CommitMode::Async),
                message = self.queue.recv(), if in_flight.len() < MAX_IN_FLIGHT => match message {
                    Ok(message) => {
                        let record = Record::of(&message);
                        window.take(record.position.offset);
                        in_flight.push(handle(Arc::clone(&self.intake), record, self.stop.clone()));
                    }
                    // Errors are reported by the consumer's context; here they only mean that nothing came.
                    Err(error) => tracing::debug!(%error, partition = self.number, "partition queue error"),
                },
            }
        }
        let drained = tokio::time::timeout(HAND_OVER, async {
            while let Some(durable) = in_flight.next().await {
                note(&mut window, durable);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                topic = self.topic,
                partition = self.number,
                in_flight = in_flight.len(),
                "records were not durable in time; the next owner reads them again"
            );
        }
        self.commit(&window, &mut committed, CommitMode::Sync);
    }

    fn commit(&self, window: &Window, committed: &mut Option<i64>, mode: CommitMode) {
        let Some(position) = window.committable().filter(|position| committed.is_none_or(|last| *position > last))
        else {
            return;
        };
        let mut offsets = TopicPartitionList::new();
        let result = offsets
            .add_partition_offset(&self.topic, self.number, Offset::Offset(position))
            .and_then(|()| self.consumer.commit(&offsets, mode));
        match result {
            Ok(()) => *committed = Some(position),
            // Not lost: the next commit covers it, and records read twice are recognised.
            Err(error) => {
                tracing::warn!(topic = self.topic, partition = self.number, position, %error, "offset_commit_failed")
            }
        }
    }
}

/// The record's offset once it is durable; `None` when the partition was given up while it waited.
async fn handle(intake: Arc<Intake>, record: Record, stop: CancellationToken) -> Option<i64> {
    intake.handle(&record, &stop).await.map(|()| record.position.offset)
}

fn note(window: &mut Window, durable: Option<i64>) {
    if let Some(offset) = durable {
        window.done(offset);
    }
}
