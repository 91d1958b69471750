//! The spans of a ticket, with the names and attributes of the platform (`contracts/observability.md §5`).

use std::time::SystemTime;

use opentelemetry::trace::SpanKind;
use ticket_activities::{AttemptEnd, Tracer, code, requested_provider};
use ticket_schemas::Ticket;
use ticket_workflows::{RecordPosition, Report, TraceContext};

use super::Spans;
use super::ids::Ids;
use super::span::{Span, at_ms};

/// A record that is durable.
pub(crate) struct Consumed<'a> {
    /// Where it stands.
    pub(crate) position: &'a RecordPosition,
    /// When it was taken.
    pub(crate) taken: SystemTime,
    /// What its headers say, or its ticket.
    pub(crate) producer: TraceContext,
    /// Its ticket, if it holds one.
    pub(crate) ticket: Option<&'a Ticket>,
    /// What became of it.
    pub(crate) disposition: Disposition<'a>,
}

/// What became of a record that has a span.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disposition<'a> {
    /// It started a ticket, whose place in the trace that is.
    Started(&'a TraceContext),
    /// The same, of a ticket that had failed before.
    Redriven(&'a TraceContext),
    /// Its ticket was started before.
    Duplicate,
    /// It is a dead letter, with this code.
    DeadLettered(&'static str),
}

impl Disposition<'_> {
    /// The word of `worker_agent_records_total`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Redriven(_) => "redriven",
            Self::Duplicate => "duplicate",
            Self::DeadLettered(_) => "dead_lettered",
        }
    }

    fn error(self) -> Option<&'static str> {
        match self {
            Self::DeadLettered(code) => Some(code),
            _ => None,
        }
    }
}

impl Spans {
    /// A record was made durable.
    pub(crate) fn consumed(&self, consumed: &Consumed<'_>) {
        let producer = Ids::of(&consumed.producer);
        let own = match consumed.disposition {
            Disposition::Started(place) | Disposition::Redriven(place) => Ids::of(place).map(Ids::consumption),
            Disposition::Duplicate | Disposition::DeadLettered(_) => {
                producer.map(|producer| producer.child().sampled(self.takes(Some(producer), producer)))
            }
        };
        let position = consumed.position;
        let times = (consumed.taken, SystemTime::now());
        let span = Span::between(format!("kafka.consume.{}", position.topic), own, producer, times)
            .kind(SpanKind::Consumer)
            .of_remote()
            .with("messaging.system", "kafka")
            .with("messaging.operation.type", "process")
            .with("messaging.destination.name", position.topic.clone())
            .with("messaging.destination.partition.id", position.partition.to_string())
            .with("messaging.kafka.offset", position.offset)
            .with("neural.hive.disposition", consumed.disposition.as_str())
            .failed(consumed.disposition.error());
        self.end(match consumed.ticket {
            Some(ticket) => of_ticket(span, ticket),
            None => span,
        });
    }

    /// A result was sent to a topic, or was not. `span`: the context that its record carries.
    pub(crate) fn produced(
        &self,
        report: &Report,
        topic: &str,
        span: &TraceContext,
        began: SystemTime,
        error: Option<&str>,
    ) {
        if !self.are_made() {
            return;
        }
        let span = Span::new(format!("kafka.produce.{topic}"), span, &report.trace, began)
            .kind(SpanKind::Producer)
            .with("messaging.system", "kafka")
            .with("messaging.operation.type", "send")
            .with("messaging.destination.name", topic.to_owned())
            .with("neural.hive.ticket_id", report.result.ticket_id.as_str().to_owned())
            .failed(error);
        self.end(span);
    }
}

impl Tracer for Spans {
    fn begin(&self, parent: &TraceContext) -> TraceContext {
        Self::begin(self, parent)
    }

    fn attempt_ended(&self, ticket: &Ticket, span: &TraceContext, end: &AttemptEnd<'_>) {
        if !self.are_made() {
            return;
        }
        let began = SystemTime::now().checked_sub(end.duration).unwrap_or(SystemTime::UNIX_EPOCH);
        let error = (end.end != "completed").then_some(end.end);
        let status = match error {
            None => "success",
            Some(code::TIMEOUT) => "timeout",
            Some(_) => "failed",
        };
        let provider = requested_provider(ticket).ok().flatten().unwrap_or_default();
        let span = Span::new("task_execution", span, &ticket_activities::trace::carried(ticket), began)
            .with("neural.hive.task_id", ticket.ticket_id.as_str().to_owned())
            .with("neural.hive.executor", provider)
            .with("neural.hive.execution_status", status)
            .with("neural.hive.attempt", i64::from(end.attempt))
            .with("neural.hive.duration_seconds", end.duration.as_secs_f64())
            .failed(error);
        self.end(of_ticket(span, ticket));
    }

    /// The ticket's life is over. Whoever publishes its result again tells the same once more, under the same id.
    fn ticket_reported(&self, report: &Report) {
        // One that was started while no spans were made has none of its own.
        let Some(ids) = Ids::of(&report.trace).filter(|ids| self.are_made() && ids.is_ticket()) else { return };
        let ended_ms = report.result.timestamp;
        let times = (at_ms(ended_ms - report.duration_ms), at_ms(ended_ms));
        let text = |key: &str| report.extra.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let span = Span::between("ticket_execution".to_owned(), Some(ids), Some(ids.consumption()), times)
            .with("neural.hive.ticket_id", report.result.ticket_id.as_str().to_owned())
            .with("neural.hive.task_type", report.task_type.clone())
            .with("neural.hive.plan_id", text("plan_id"))
            .with("neural.hive.intent_id", text("intent_id"))
            .with("neural.hive.correlation_id", text("correlation_id"))
            .with("error", report.error_code.is_some())
            .failed(report.error_code.as_deref());
        self.end(span);
    }
}

fn of_ticket(span: Span, ticket: &Ticket) -> Span {
    span.with("neural.hive.ticket_id", ticket.ticket_id.as_str().to_owned())
        .with("neural.hive.task_type", ticket.task_type.as_str())
        .with("neural.hive.plan_id", ticket.plan_id.as_str().to_owned())
        .with("neural.hive.intent_id", ticket.intent_id.as_str().to_owned())
        .with("neural.hive.correlation_id", ticket.correlation_id.clone().unwrap_or_default())
}
