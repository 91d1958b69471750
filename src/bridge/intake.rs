//! What happens to one record: it becomes a started ticket, a recognised duplicate, a skipped one or a dead letter, and
//! is durable then. A record that waits when its partition is given up stays what it was: unread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_schemas::Ticket;
use tokio_util::sync::CancellationToken;

use super::decision::{Decision, Refusal};
use super::decode::{Decoded, Decoder, Rejection};
use super::dlq::DeadLetters;
use super::gate::Gate;
use super::pace::Turnstile;
use super::record::Record;
use super::start::{Starter, phase_at_start};
use super::trace::of_ticket;
use crate::events::{
    DuplicateRecognised, PeerUnavailable, RecordIgnored, RecordSkipped, SetupFault, TicketRedriven, TicketStarted,
    TraceHeadersIgnored,
};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::spans::{Consumed, Disposition, Spans};

/// The readiness check that a set-up fault takes away.
pub const SETUP_CHECK: &str = "temporal_setup";

/// The readiness check that a registry takes away which does not let this worker in. It does not exist before.
pub(crate) const REGISTRY_CHECK: &str = "schema_registry";

/// Handles records. Shared by all partitions.
pub(crate) struct Intake {
    pub(crate) decoder: Decoder,
    pub(crate) starter: Starter,
    pub(crate) spans: Spans,
    pub(crate) gate: Gate,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
}

/// The peers as one partition sees them: when one is away, its records wait for it together.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    temporal: Turnstile,
    schema_registry: Turnstile,
}

/// What handling a record came to.
pub(crate) struct Handled {
    /// Whether it is durable. If not, the partition was given up while it waited.
    pub(crate) durable: bool,
    /// How long the start took, when one was answered.
    pub(crate) start: Option<Duration>,
    /// Whether a start went unanswered.
    pub(crate) refused: bool,
}

impl Intake {
    /// Whether records have a reason to wait: no place, or a peer that is away.
    pub(crate) fn waits(&self, lane: &Lane) -> bool {
        let away = lane.temporal.is_closed() || lane.schema_registry.is_closed() || self.dead_letters.is_away();
        away || self.gate.makes_wait()
    }

    /// Makes the record durable, however long that takes, unless `stop` comes first while it still waits.
    pub(crate) async fn handle(&self, record: &Record, lane: &Lane, stop: &CancellationToken) -> Handled {
        let mut handled = Handled { durable: false, start: None, refused: false };
        handled.durable = self.make_durable(record, lane, stop, &mut handled).await.is_some();
        handled
    }

    async fn make_durable(
        &self,
        record: &Record,
        lane: &Lane,
        stop: &CancellationToken,
        handled: &mut Handled,
    ) -> Option<()> {
        if !record.ignored.is_empty() {
            self.metrics.emit(TraceHeadersIgnored { position: record.position(), headers: &record.ignored });
        }
        match stop.run_until_cancelled(self.decode(record, lane)).await? {
            Decoded::Ticket(ticket) => self.start(&ticket, record, lane, stop, handled).await?,
            Decoded::Ignored(ticket) => self.metrics.emit(RecordIgnored {
                ticket_id: ticket.ticket_id.as_str(),
                position: record.position(),
                task_type: ticket.task_type.as_str(),
            }),
            Decoded::NotPending(ticket) => self.metrics.emit(RecordSkipped {
                ticket_id: ticket.ticket_id.as_str(),
                position: record.position(),
                status: ticket.status.as_str(),
            }),
            Decoded::Rejected(rejection) => {
                stop.run_until_cancelled(self.dead_letters.publish(record, &rejection)).await?;
                self.consumed(record, None, Disposition::DeadLettered(rejection.code));
            }
        }
        Some(())
    }

    /// Decodes; waits while that needs a schema and the registry is away. Records that need none pass it meanwhile.
    async fn decode(&self, record: &Record, lane: &Lane) -> Decoded {
        loop {
            let asks = self.decoder.needs_registry(record);
            if asks {
                lane.schema_registry.pass().await;
            }
            match self.decoder.decode(record).await {
                Ok(decoded) => {
                    if asks {
                        lane.schema_registry.answered();
                        self.health.ready_again(REGISTRY_CHECK);
                    }
                    return decoded;
                }
                Err(error) => {
                    if let Some(retry_in) = lane.schema_registry.failed() {
                        let (peer, position, reason) = ("schema_registry", record.position(), error.to_string());
                        self.metrics.emit(PeerUnavailable { peer, position, error: &reason, retry_in });
                        if let Some(fault) = error.fault() {
                            self.metrics.emit(SetupFault { fault, error: &reason });
                            self.health.not_ready(REGISTRY_CHECK, reason);
                        }
                    }
                }
            }
        }
    }

    async fn start(
        &self,
        ticket: &Ticket,
        record: &Record,
        lane: &Lane,
        stop: &CancellationToken,
        handled: &mut Handled,
    ) -> Option<()> {
        let ticket_id = ticket.ticket_id.as_str();
        let task_type = ticket.task_type.as_str();
        let position = record.position();
        let start = match self.starter.prepare(ticket, &record.provenance) {
            Ok(start) => start,
            Err(refusal) => return self.reject(&refusal, ticket, record, stop).await,
        };
        stop.run_until_cancelled(self.gate.admit(ticket_id, phase_at_start(ticket))).await?;
        loop {
            stop.run_until_cancelled(lane.temporal.pass()).await?;
            let asked = Instant::now();
            let decision = start.ask().await;
            let took = asked.elapsed();
            if !matches!(decision, Decision::Unavailable { .. } | Decision::SetupFault { .. }) {
                lane.temporal.answered();
                self.health.ready(SETUP_CHECK);
                handled.start = Some(took);
            }
            match decision {
                Decision::Unavailable { reason } => {
                    handled.refused = true;
                    if let Some(retry_in) = lane.temporal.failed() {
                        self.metrics.emit(PeerUnavailable { peer: "temporal", position, error: &reason, retry_in });
                    }
                }
                Decision::SetupFault { fault, reason } => {
                    handled.refused = true;
                    if lane.temporal.failed().is_some() {
                        self.metrics.emit(SetupFault { fault, error: &reason });
                        self.health.not_ready(SETUP_CHECK, reason);
                    }
                }
                Decision::Started { run_id } => {
                    self.metrics.emit(TicketStarted { ticket_id, task_type, position, run_id: &run_id, took });
                    self.consumed(record, Some(ticket), Disposition::Started(start.trace()));
                    return Some(());
                }
                Decision::Redriven { run_id, previous } => {
                    let run_id = run_id.as_str();
                    self.metrics.emit(TicketRedriven { ticket_id, task_type, position, run_id, previous: &previous });
                    self.consumed(record, Some(ticket), Disposition::Redriven(start.trace()));
                    return Some(());
                }
                Decision::Duplicate { first } => {
                    self.gate.give_back(ticket_id);
                    self.metrics.emit(DuplicateRecognised { ticket_id, task_type, position, first: &first });
                    self.consumed(record, Some(ticket), Disposition::Duplicate);
                    return Some(());
                }
                Decision::Refused(refusal) => {
                    self.gate.give_back(ticket_id);
                    return self.reject(&refusal, ticket, record, stop).await;
                }
            }
        }
    }

    /// Sends a record to the DLQ whose ticket is not to be started.
    async fn reject(
        &self,
        refusal: &Refusal,
        ticket: &Ticket,
        record: &Record,
        stop: &CancellationToken,
    ) -> Option<()> {
        let rejection = Rejection::of_refusal(refusal, ticket, record.position());
        stop.run_until_cancelled(self.dead_letters.publish(record, &rejection)).await?;
        self.consumed(record, Some(ticket), Disposition::DeadLettered(rejection.code));
        Some(())
    }

    /// Tells the ticket's trace that the record is durable.
    fn consumed(&self, record: &Record, ticket: Option<&Ticket>, disposition: Disposition<'_>) {
        if !self.spans.are_made() {
            return;
        }
        let headers = record.provenance.trace.clone();
        let producer = match ticket {
            Some(ticket) => of_ticket(headers, ticket),
            None => headers,
        };
        let position = record.position();
        self.spans.consumed(&Consumed { position, taken: record.taken, producer, ticket, disposition });
    }
}
