//! One partition: records are taken in order, as many are handled at once as the server answers quickly, and the
//! contiguous prefix of durable ones is committed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use ticket_activities::border;
use tokio_util::sync::CancellationToken;

use super::commits::Commits;
use super::consumer::{BridgeConsumer, Rebalances};
use super::intake::{Handled, Intake, Lane};
use super::pace::Pace;
use super::record::Record;
use super::window::Window;
use crate::health::Pulse;

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
    /// Shows that its records get on.
    pub(crate) pulse: Pulse,
}

impl Partition {
    /// Runs until stopped; then waits for records in flight, commits, and gives up.
    pub(crate) async fn run(self) {
        let (mut window, mut pace) = (Window::default(), Pace::default());
        let mut commits = Commits::new(Arc::clone(&self.consumer), self.topic.clone(), self.number);
        let lane = Arc::new(Lane::default());
        let mut in_flight = FuturesUnordered::new();
        let mut commit = tokio::time::interval(COMMIT_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some((offset, handled)) = in_flight.next(), if !in_flight.is_empty() => {
                    note(&mut window, offset, &handled);
                    self.pulse.beat();
                    // The one that has just ended was in flight too.
                    adapt(&mut pace, &handled, in_flight.len() + 1);
                }
                _ = commit.tick() => {
                    commits.send(window.committable());
                    // Records that wait for a peer or for a place are no fault of this process.
                    if in_flight.is_empty() || self.intake.waits(&lane) {
                        self.pulse.beat();
                    }
                }
                () = commits.answered() => {}
                message = border("kafka.take", self.queue.recv()), if in_flight.len() < pace.limit() => match message {
                    Ok(message) => {
                        let record = Record::of(&message);
                        window.take(record.position().offset);
                        in_flight.push(handle(Arc::clone(&self.intake), Arc::clone(&lane), record, self.stop.clone()));
                    }
                    // Errors are reported by the consumer's context; here they only mean that nothing came.
                    Err(error) => tracing::debug!(%error, partition = self.number, "partition queue error"),
                },
            }
        }
        let drained = tokio::time::timeout(HAND_OVER, async {
            while let Some((offset, handled)) = in_flight.next().await {
                note(&mut window, offset, &handled);
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
        commits.finish(window.committable()).await;
    }
}

async fn handle(intake: Arc<Intake>, lane: Arc<Lane>, record: Record, stop: CancellationToken) -> (i64, Handled) {
    let handled = intake.handle(&record, &lane, &stop).await;
    (record.position().offset, handled)
}

fn note(window: &mut Window, offset: i64, handled: &Handled) {
    if handled.durable {
        window.done(offset);
    }
}

fn adapt(pace: &mut Pace, handled: &Handled, in_flight: usize) {
    if handled.refused {
        pace.refused();
    } else if let Some(took) = handled.start {
        pace.answered(took, in_flight);
    }
}
