//! The trace that a ticket's work belongs to (INC-04): where an attempt finds it, and what the calls of an activity carry on.
//!
//! The input of `execute` has no place of its own for it, and one would be a change of every history. So the bridge writes the
//! trace into the metadata of the ticket that it starts a workflow with.

use std::future::Future;

use ticket_schemas::Ticket;
use ticket_workflows::TraceContext;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
/// Where the trace id stands in a `traceparent`.
const TRACE_ID: std::ops::Range<usize> = 3..35;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Makes `ticket` carry `trace`, and nothing that its producer wrote under the same keys.
pub fn carry(ticket: &mut Ticket, trace: &TraceContext) {
    for key in [TRACEPARENT, TRACESTATE, BAGGAGE] {
        ticket.metadata.remove(key);
    }
    ticket.metadata.extend(trace.headers().map(|(key, value)| (key.to_owned(), value.to_owned())));
}

/// What `ticket` carries. Of a ticket that an earlier version started it is whatever the producer wrote, unchecked.
#[must_use]
pub fn carried(ticket: &Ticket) -> TraceContext {
    let value = |key: &str| ticket.metadata.get(key).cloned();
    TraceContext { traceparent: value(TRACEPARENT), tracestate: value(TRACESTATE), baggage: value(BAGGAGE) }
}

/// Does `work` within `trace`: what it calls carries it on. A task that `work` spawns is not part of it.
pub async fn within<F: Future>(trace: TraceContext, work: F) -> F::Output {
    CURRENT.scope(trace, work).await
}

/// What a call made now carries on; nothing outside of [`within`].
#[must_use]
pub fn current() -> TraceContext {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// The trace id, for log lines.
#[must_use]
pub fn trace_id(trace: &TraceContext) -> Option<&str> {
    trace.traceparent.as_deref()?.get(TRACE_ID)
}

#[cfg(test)]
mod tests {
    use ticket_schemas::decode_json_ticket;

    use super::*;

    #[test]
    fn inc_04_a_ticket_carries_the_trace_that_it_was_given_and_not_what_its_producer_wrote() {
        let text = r#"{"ticket_id":"t","task_id":"t","task_type":"EXECUTE","status":"PENDING","dependencies":[],
            "metadata":{"traceparent":"forged","baggage":"forged","kept":"yes"}}"#;
        let mut ticket = decode_json_ticket(text.as_bytes()).expect("a ticket");
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext {
            traceparent: Some(parent.to_owned()),
            tracestate: Some("vendor=1".to_owned()),
            baggage: None,
        };
        carry(&mut ticket, &trace);
        assert_eq!(carried(&ticket), trace);
        assert_eq!(ticket.metadata.len(), 3, "{:?}", ticket.metadata);
        assert_eq!(trace_id(&trace), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        carry(&mut ticket, &TraceContext::default());
        assert_eq!((carried(&ticket), ticket.metadata.len()), (TraceContext::default(), 1));
    }

    #[tokio::test]
    async fn inc_04_a_call_carries_the_trace_that_it_is_made_within() {
        let trace = TraceContext { traceparent: Some("00-1".to_owned()), ..TraceContext::default() };
        assert_eq!(current(), TraceContext::default());
        assert_eq!(within(trace.clone(), async { current() }).await, trace);
    }
}
