//! Ids of spans.
//!
//! Whoever ends a ticket, on whatever worker and however often, tells of it under the same ids as whoever started it, and nothing
//! but its context has come along. So the ids of the two spans that belong to a ticket as a whole are computed: that of its life
//! from the start's request id, that of the record's consumption from the former.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};
use ticket_workflows::TraceContext;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl Ids {
    /// Those of a `traceparent` of version 00; `None` when there is none that can be used.
    pub(super) fn of(context: &TraceContext) -> Option<Self> {
        let mut parts = context.traceparent.as_deref()?.split('-');
        let mut part = |length: usize| parts.next().filter(|part| part.len() == length);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let ids = Self {
            trace: TraceId::from_hex(trace).ok()?,
            span: SpanId::from_hex(span).ok()?,
            flags: TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        };
        let known = version == "00" && ids.trace != TraceId::INVALID && ids.span != SpanId::INVALID;
        known.then_some(ids)
    }

    /// The trace of a ticket that came without one.
    pub(super) fn root(request_id: &str) -> Self {
        let [trace, span] = digest("root", request_id.as_bytes());
        Self { trace: TraceId::from(u128::from_be_bytes(trace)), span: head(span), flags: TraceFlags::default() }
    }

    /// A span within this one.
    pub(super) fn child(self) -> Self {
        Self { span: SpanId::from(fastrand::u64(1..)), ..self }
    }

    /// The span of the life of the ticket that `request_id` starts. Its second half can be told from its first one: see
    /// [`Ids::is_ticket`].
    pub(super) fn ticket(self, request_id: &str) -> Self {
        let [_, digest] = digest("ticket", request_id.as_bytes());
        let [a, b, c, d, ..] = digest;
        Self { span: self.checked([a, b, c, d]), ..self }
    }

    /// Whether this is the span of a ticket's life. A ticket that was started while no spans were made has its producer's span
    /// instead.
    pub(super) fn is_ticket(self) -> bool {
        let [a, b, c, d, ..] = self.span.to_bytes();
        self.checked([a, b, c, d]) == self.span
    }

    fn checked(self, first: [u8; 4]) -> SpanId {
        let [_, check] = digest("check", &[&self.trace.to_bytes()[..], &first].concat());
        let [a, b, c, d] = first;
        SpanId::from_bytes([a, b, c, d, check[0], check[1], check[2], check[3]])
    }

    /// The span of the consumption of the record that started the ticket.
    pub(super) fn consumption(self) -> Self {
        let [_, span] = digest("consumption", &self.span.to_bytes());
        Self { span: head(span), ..self }
    }

    pub(super) fn is_sampled(self) -> bool {
        self.flags.is_sampled()
    }

    pub(super) fn sampled(self, sampled: bool) -> Self {
        Self { flags: self.flags.with_sampled(sampled), ..self }
    }

    /// Whether the trace is among a part of all traces. All SDKs of OpenTelemetry decide alike.
    pub(super) fn falls_within(self, ratio: f64) -> bool {
        let [.., a, b, c, d, e, f, g, h] = self.trace.to_bytes();
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        number < (ratio * (1u64 << 63) as f64) as u64
    }

    pub(super) fn span(self) -> SpanId {
        self.span
    }

    /// The context of this span, with what came along with `parent`.
    pub(super) fn within(self, parent: &TraceContext) -> TraceContext {
        let traceparent = format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags);
        TraceContext { traceparent: Some(traceparent), ..parent.clone() }
    }

    /// As the exporter takes it. What vendors add is passed on as text; of a span nobody asks for it.
    pub(super) fn exported(self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, false, TraceState::NONE)
    }
}

/// 32 bytes in halves.
fn digest(purpose: &str, of: &[u8]) -> [[u8; 16]; 2] {
    let digest: [u8; 32] = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(of).finalize().into();
    let (first, second) = digest.split_at(16);
    let mut halves = [[0; 16]; 2];
    halves[0].copy_from_slice(first);
    halves[1].copy_from_slice(second);
    halves
}

fn head(half: [u8; 16]) -> SpanId {
    let [a, b, c, d, e, f, g, h, ..] = half;
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(traceparent: &str) -> TraceContext {
        let state = Some("vendor=1".to_owned());
        TraceContext { traceparent: Some(traceparent.to_owned()), tracestate: state, baggage: None }
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn inc_04_a_context_is_read_and_written_as_it_was() {
        let ids = Ids::of(&context(PARENT)).expect("ids");
        assert_eq!(ids.within(&context(PARENT)), context(PARENT));
        assert!(ids.is_sampled() && !ids.sampled(false).is_sampled());
        for wrong in [
            "",
            "nonsense",
            "00-0-0-01",
            &PARENT[..54],
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902é-01",
        ] {
            assert_eq!(Ids::of(&context(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_ids_of_a_ticket_are_those_of_its_start_and_say_that_they_are() {
        let producer = Ids::of(&context(PARENT)).expect("ids");
        let ticket = producer.ticket("kafka:t/0@1#1:a");
        assert_eq!(ticket, producer.ticket("kafka:t/0@1#1:a"));
        assert_ne!(ticket, producer.ticket("kafka:t/0@2#1:a"));
        assert!(ticket.is_ticket() && !producer.is_ticket());
        let spans = [producer, ticket, ticket.consumption(), ticket.child(), ticket.child()].map(Ids::span);
        for (at, span) in spans.iter().enumerate() {
            assert!(!spans[at + 1..].contains(span), "{spans:?}");
        }
        assert_eq!(ticket.consumption(), ticket.consumption());
        assert!(!ticket.child().is_ticket() && !ticket.consumption().is_ticket());
        assert_ne!(Ids::root("a"), Ids::root("b"));
    }

    #[test]
    fn a_part_of_all_traces_is_a_part_of_any() {
        let roots: Vec<Ids> = (0..2_000).map(|n| Ids::root(&n.to_string())).collect();
        let within = |ratio| roots.iter().filter(|root| root.falls_within(ratio)).count();
        assert_eq!((within(0.0), within(1.0)), (0, 2_000));
        assert!((400..600).contains(&within(0.25)), "{}", within(0.25));
    }
}
