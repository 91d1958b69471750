//! What activities need of the platform. `worker-agents` implements these.

use std::time::Duration;

use futures::future::BoxFuture;
use ticket_schemas::{SecurityLevel, TaskType, Ticket};
use ticket_workflows::{Owed, Report, StatusEnd, StatusUpdate, TraceContext};
use zeroize::Zeroizing;

use crate::logs::Line;

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

/// A ticket that undoes another one could not be published now.
#[derive(Debug, thiserror::Error)]
#[error("compensation ticket {ticket_id} was not published: {cause}; it is tried again")]
pub struct CompensationError {
    /// The ticket that undoes.
    pub ticket_id: String,
    /// What the broker, the registry or the encoder said.
    pub cause: String,
}

/// How one attempt ended, for counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// `BUILD`, `DEPLOY`, …
    pub task_type: &'static str,
    /// The registered provider that ran it; `None`: there was none.
    pub provider: Option<&'a str>,
    /// Attempt as the workflow counts it.
    pub attempt: u32,
    /// `completed`, an error code, or `handed_back` when the worker is shutting down.
    pub end: &'a str,
    /// Why a COMPENSATE ticket undoes: its `reason`, as it has it.
    pub compensation_reason: Option<&'a str>,
    /// How long it ran here.
    pub duration: Duration,
}

/// Another provider does a ticket's work than the one before it in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderChange<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// Its task type.
    pub task_type: TaskType,
    /// The provider that could not; the ticket may have made up its name.
    pub from: &'a str,
    /// The one that takes over.
    pub to: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Told about what activities do. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// An attempt begins on this worker.
    fn attempt_started(&self, ticket_id: &str, task_type: &'static str, attempt: u32);
    /// Its work is done by another provider.
    fn provider_changed(&self, change: &ProviderChange<'_>);
    /// It ended on this worker.
    fn attempt_ended(&self, end: &AttemptEnd<'_>);
    /// A ticket's result has been published.
    fn ticket_reported(&self, report: &Report);
    /// A status is owed to the ticket service no more.
    fn status_settled(&self, update: &StatusUpdate, end: &StatusEnd);
    /// A try to report failed, and it is owed for longer than `REPORT_STUCK_AFTER_SECONDS`.
    fn report_stuck(&self, ticket_id: &str, owed: Owed, error: &str);
}

/// As whom the Service Registry knows this worker.
pub trait Registrations: Send + Sync + 'static {
    /// The registry's own id of the agent that tickets of this security level are planned for; `None` while there is none. It
    /// is another one than `AGENT_ID` (INC-105).
    fn registry_id(&self, level: SecurityLevel) -> Option<String>;
}

/// It does not.
impl Registrations for () {
    fn registry_id(&self, _: SecurityLevel) -> Option<String> {
        None
    }
}

/// Makes spans of what activities do (`docs/adr/0021-tracing.md`). Must not block.
pub trait Tracer: Send + Sync + 'static {
    /// The context of a span within `parent`, for the calls that are made meanwhile; `parent` itself where none is made.
    fn begin(&self, parent: &TraceContext) -> TraceContext;
    /// An attempt ended on this worker. `span`: the context that [`Tracer::begin`] gave when it began.
    fn attempt_ended(&self, ticket: &Ticket, span: &TraceContext, end: &AttemptEnd<'_>);
    /// A ticket's result has been published.
    fn ticket_reported(&self, report: &Report);
}

/// Makes no spans; contexts are passed on as they are.
impl Tracer for () {
    fn begin(&self, parent: &TraceContext) -> TraceContext {
        parent.clone()
    }

    fn attempt_ended(&self, _: &Ticket, _: &TraceContext, _: &AttemptEnd<'_>) {}

    fn ticket_reported(&self, _: &Report) {}
}

/// Whose log it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogName {
    /// The ticket.
    pub ticket_id: String,
    /// The run of its workflow.
    pub run_id: String,
    /// Attempt as the workflow counts it, from 1.
    pub attempt: u32,
}

/// Keeps the whole logs of attempts.
pub trait LogSink: Send + Sync + 'static {
    /// Opens the log of an attempt, after what it holds of it already.
    fn open(&self, name: LogName) -> BoxFuture<'_, Result<OpenLog, LogSinkError>>;
}

/// A log that lines can be added to.
pub struct OpenLog {
    /// Where people find it.
    pub address: String,
    /// Number of the last line that it holds; 0: none.
    pub last_seq: u64,
    /// Least time between the beginnings of two calls while there is little to be kept: lines are gathered meanwhile, and work goes on.
    /// Zero: work waits until each piece is kept.
    pub pace: Duration,
    /// What adds lines.
    pub writer: Box<dyn LogWriter>,
}

/// Adds lines to one log: one call after the other. A call that takes too long is dropped, and none follows it, nor an error.
pub trait LogWriter: Send + 'static {
    /// Returns when the lines would outlive this process. Answers with how many lines this writer has left out because the log was
    /// too large.
    fn append(&mut self, lines: Vec<Line>) -> BoxFuture<'_, Result<u64, LogSinkError>>;

    /// Nothing more comes. Answers as `append` does.
    fn close(&mut self) -> BoxFuture<'_, Result<u64, LogSinkError>>;
}

/// A sink does not keep lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct LogSinkError {
    /// Where the log was to be.
    pub address: String,
    /// What the system or the peer said.
    pub cause: String,
}

/// The secrets that this worker holds, which must not be in anything it passes on.
pub trait WorkerSecrets: Send + Sync + 'static {
    /// Those that can be read now, or were last. Answers within a second or two, whatever holds them.
    fn texts(&self) -> BoxFuture<'_, Vec<Zeroizing<String>>>;
}
