//! What activities need of the platform. `worker-agents` implements these.

use std::time::Duration;

use futures::future::BoxFuture;
use ticket_schemas::Ticket;
use ticket_workflows::{Report, TraceContext};

/// Where results go.
pub trait ResultSink: Send + Sync + 'static {
    /// Publishes the result and returns once the broker has acknowledged it. May be called again for the same report:
    /// copies carry one result id and equal bytes.
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>>;
}

/// A result could not be published now.
#[derive(Debug, thiserror::Error)]
#[error("result {result_id} of ticket {ticket_id} was not published: {cause}; it is tried again")]
pub struct PublishError {
    /// The result.
    pub result_id: String,
    /// Its ticket.
    pub ticket_id: String,
    /// What the broker or the encoder said.
    pub cause: String,
}

/// Where tickets go that undo failed ones: to the topic that this worker takes tickets from.
pub trait TicketSink: Send + Sync + 'static {
    /// Publishes the ticket and returns once the broker has acknowledged it. May be called again for the same ticket: it has
    /// one id and one digest, and runs once.
    fn publish<'a>(
        &'a self,
        ticket: &'a Ticket,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), CompensationError>>;
}

/// What the ticket service is told of compensations. Each call is repeated until it is answered with `Ok`, so one that can
/// never succeed (the service does not know the original) must be answered with `Ok` in the end.
pub trait CompensationService: Send + Sync + 'static {
    /// Creates the ticket (`POST /api/v1/tickets/`); the service publishes it then. One that exists already is created.
    fn create<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), CompensationError>>;
    /// Sets the original's status (`PATCH /api/v1/tickets/{id}/status`).
    fn mark<'a>(
        &'a self,
        original: &'a str,
        mark: CompensationMark<'a>,
    ) -> BoxFuture<'a, Result<(), CompensationError>>;
}

/// How the original of a compensation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompensationMark<'a> {
    /// COMPENSATING: what it did is being undone by this ticket.
    Compensating {
        /// The ticket that undoes it.
        ticket_id: &'a str,
    },
    /// COMPENSATED: it has been undone.
    Compensated {
        /// Why it failed: the service forgets an error that a later status does not repeat.
        error_message: &'a str,
    },
    /// FAILED, as before: an operator wants things to stay as they are.
    Failed {
        /// Why it failed.
        error_message: &'a str,
    },
}

/// A step of a compensation was not made.
#[derive(Debug, thiserror::Error)]
#[error("compensation of ticket {ticket_id}: {cause}; it is tried again")]
pub struct CompensationError {
    /// The ticket that undoes, or its original.
    pub ticket_id: String,
    /// What the peer said.
    pub cause: String,
}

/// How one attempt ended, for counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// `BUILD`, `DEPLOY`, …
    pub task_type: &'static str,
    /// Attempt as the workflow counts it.
    pub attempt: u32,
    /// `completed`, an error code, or `handed_back` when the worker is shutting down.
    pub end: &'a str,
    /// How long it ran here.
    pub duration: Duration,
}

/// Told about what activities do. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// An attempt begins on this worker.
    fn attempt_started(&self, ticket_id: &str, task_type: &'static str, attempt: u32);
    /// It ended on this worker.
    fn attempt_ended(&self, end: &AttemptEnd<'_>);
    /// A ticket's result has been published.
    fn ticket_reported(&self, report: &Report);
}
