//! What happens to one record: it becomes a started ticket, a recognised duplicate, a skipped one or a dead letter, and
//! is durable then. A record that waits when its partition is given up stays what it was: unread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_schemas::Ticket;
use tokio_util::sync::CancellationToken;

use super::decision::{Decision, backoff};
use super::decode::{Decoded, Decoder, Rejection};
use super::dlq::DeadLetters;
use super::gate::Gate;
use super::record::Record;
use super::start::Starter;
use crate::events::{DuplicateRecognised, PeerUnavailable, RecordSkipped, SetupFault, TicketStarted};
use crate::health::Health;
use crate::metrics::Metrics;

/// Between two tries while the set-up is wrong.
const SETUP_PAUSE: Duration = Duration::from_secs(2);
/// The readiness check that a set-up fault takes away.
pub const SETUP_CHECK: &str = "temporal_setup";

/// Handles records. Shared by all partitions.
pub(crate) struct Intake {
    pub(crate) decoder: Decoder,
    pub(crate) starter: Starter,
    pub(crate) gate: Gate,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
}

impl Intake {
    /// Makes the record durable, however long that takes; `None` when `stop` came first, while it still waited.
    pub(crate) async fn handle(&self, record: &Record, stop: &CancellationToken) -> Option<()> {
        let position = &record.position;
        let mut failures = 0;
        let decoded = loop {
            match self.decoder.decode(record).await {
                Ok(decoded) => break decoded,
                Err(error) => {
                    let error = error.to_string();
                    stop.run_until_cancelled(self.wait("schema_registry", record, &error, &mut failures)).await?;
                }
            }
        };
        match decoded {
            Decoded::Ticket(ticket) => self.start(&ticket, record, stop).await?,
            Decoded::NotPending(ticket) => self.metrics.emit(RecordSkipped {
                ticket_id: ticket.ticket_id.as_str(),
                position,
                status: ticket.status.as_str(),
            }),
            Decoded::Rejected(rejection) => {
                stop.run_until_cancelled(self.dead_letters.publish(record, &rejection)).await?
            }
        }
        Some(())
    }

    async fn start(&self, ticket: &Ticket, record: &Record, stop: &CancellationToken) -> Option<()> {
        let ticket_id = ticket.ticket_id.as_str();
        let task_type = ticket.task_type.as_str();
        let position = &record.position;
        stop.run_until_cancelled(self.gate.admit(ticket_id)).await?;
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            let decision = self.starter.start(ticket, position).await;
            if !matches!(decision, Decision::Unavailable { .. } | Decision::SetupFault { .. }) {
                self.health.ready(SETUP_CHECK);
            }
            let rejection = match decision {
                Decision::Started { run_id } => {
                    let took = asked.elapsed();
                    self.metrics.emit(TicketStarted { ticket_id, task_type, position, run_id: &run_id, took });
                    return Some(());
                }
                Decision::Duplicate { first } => {
                    self.gate.give_back(ticket_id);
                    self.metrics.emit(DuplicateRecognised { ticket_id, task_type, position, first: &first });
                    return Some(());
                }
                Decision::Unavailable { reason } => {
                    stop.run_until_cancelled(self.wait("temporal", record, &reason, &mut failures)).await?;
                    continue;
                }
                Decision::SetupFault { fault, reason } => {
                    self.health.not_ready(SETUP_CHECK, reason.clone());
                    self.metrics.emit(SetupFault { fault, error: &reason });
                    // Readiness is gone; asking more often than this helps nobody.
                    stop.run_until_cancelled(tokio::time::sleep(SETUP_PAUSE)).await?;
                    continue;
                }
                Decision::Collision { first } => Rejection::of_ticket(
                    "ticket_id_collision",
                    format!(
                        "ticket id {ticket_id} was started before by {first:?} with different work; this record at {position} was not run. \
                         give the ticket an id of its own"
                    ),
                    ticket,
                ),
                Decision::TicketRefused { reason } => {
                    Rejection::of_ticket("ticket_refused", format!("the server refused the ticket: {reason}"), ticket)
                }
            };
            self.gate.give_back(ticket_id);
            return stop.run_until_cancelled(self.dead_letters.publish(record, &rejection)).await;
        }
    }

    async fn wait(&self, peer: &'static str, record: &Record, error: &str, failures: &mut u32) {
        let retry_in = backoff(*failures);
        *failures = failures.saturating_add(1);
        self.metrics.emit(PeerUnavailable { peer, position: &record.position, error, retry_in });
        tokio::time::sleep(retry_in).await;
    }
}
