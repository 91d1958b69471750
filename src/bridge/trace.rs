//! Trace headers of a record: read, checked, bounded (INC-04). A header that cannot be used is left out and counted; it
//! never costs a ticket.

use ticket_schemas::Ticket;
use ticket_workflows::TraceContext;

/// Most bytes of all three headers together: what W3C asks every party to pass on of baggage alone.
const MAX_BYTES: usize = 8192;
/// Most bytes of `tracestate`: what W3C asks every party to pass on.
const MAX_TRACESTATE_BYTES: usize = 512;
/// Length of a `traceparent` of version 00; later versions begin alike.
const TRACEPARENT_BYTES: usize = 55;

/// Name of a header that could not be used: a label.
pub(crate) type Ignored = &'static str;

/// What the headers say, and which of them could not be used. Names are compared in any case; of several headers with one
/// name the last counts (`contracts/kafka.md §3`).
pub(crate) fn read<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> (TraceContext, Vec<Ignored>) {
    let mut found = [("traceparent", None), ("tracestate", None), ("baggage", None)];
    for (key, value) in headers {
        if let Some(slot) = found.iter_mut().find(|(name, _)| key.eq_ignore_ascii_case(name)) {
            slot.1 = value.filter(|value| !value.is_empty());
        }
    }
    let mut ignored = Vec::new();
    let mut usable = |(name, value): (&'static str, Option<&[u8]>), check: &dyn Fn(&str) -> Option<String>| {
        let checked = std::str::from_utf8(value?).ok().and_then(|text| check(text.trim()));
        if checked.is_none() {
            ignored.push(name);
        }
        checked
    };
    let traceparent = usable(found[0], &parent);
    // Without its parent a trace state means nothing.
    let with_parent = traceparent.is_some();
    let tracestate = usable(found[1], &|text| printable(text, MAX_TRACESTATE_BYTES).filter(|_| with_parent));
    let left = MAX_BYTES - TRACEPARENT_BYTES - tracestate.as_ref().map_or(0, String::len);
    let baggage = usable(found[2], &|text| printable(text, left));
    (TraceContext { traceparent, tracestate, baggage }, ignored)
}

/// The same, and where no header named a parent, the one that the ticket's own ids make.
pub(crate) fn of_ticket(trace: TraceContext, ticket: &Ticket) -> TraceContext {
    if trace.traceparent.is_some() {
        return trace;
    }
    let ids = ticket.trace_id.as_deref().zip(ticket.span_id.as_deref());
    // Sampled: whoever wrote the ids into the ticket had a span of its own.
    let made = ids.and_then(|(trace, span)| parent(&format!("00-{trace}-{span}-01").to_ascii_lowercase()));
    TraceContext { traceparent: made, ..trace }
}

/// A `traceparent` in the form of version 00, whatever later version it came in; `None` when it is malformed.
fn parent(text: &str) -> Option<String> {
    let known = text.get(..TRACEPARENT_BYTES)?;
    let rest = &text[TRACEPARENT_BYTES..];
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let named = |part: &str| part.bytes().any(|byte| byte != b'0');
    let form = parts.next().is_none() && hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let length = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    (form && length && version != "ff" && named(trace) && named(span)).then(|| format!("00-{trace}-{span}-{flags}"))
}

fn printable(text: &str, most: usize) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(headers: &[(&str, &[u8])]) -> (TraceContext, Vec<Ignored>) {
        read(headers.iter().map(|(key, value)| (*key, Some(*value))))
    }

    #[test]
    fn inc_04_names_are_found_in_any_case_and_the_last_of_several_counts() {
        let (trace, ignored) = of(&[
            ("TraceParent", b"nonsense"),
            ("traceparent", PARENT.as_bytes()),
            ("TRACESTATE", b"vendor=1"),
            ("Baggage", b"neural.hive.plan.id=p"),
            ("other", b"x"),
        ]);
        assert_eq!(
            trace.headers().collect::<Vec<_>>(),
            [("traceparent", PARENT), ("tracestate", "vendor=1"), ("baggage", "neural.hive.plan.id=p")]
        );
        assert!(ignored.is_empty());
        assert_eq!(read([("traceparent", None)].into_iter()), (TraceContext::default(), vec![]));
    }

    #[test]
    fn inc_04_a_malformed_parent_is_ignored_with_its_state_and_counted() {
        let later = format!("cc{}-what-is-new", &PARENT[2..]);
        for (text, taken) in [
            (PARENT, true),
            (later.as_str(), true),
            (&PARENT.to_ascii_uppercase(), false),
            (&PARENT[..54], false),
            (&format!("{PARENT}-more"), false),
            (&format!("ff{}", &PARENT[2..]), false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false),
            ("0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            (&"é".repeat(40), false),
        ] {
            let (trace, ignored) = of(&[("traceparent", text.as_bytes()), ("tracestate", b"a=b")]);
            assert_eq!(trace.traceparent.as_deref(), taken.then_some(PARENT), "{text}");
            assert_eq!(trace.tracestate.is_some(), taken, "{text}");
            assert_eq!(ignored.is_empty(), taken, "{text}");
        }
        assert_eq!(of(&[("traceparent", &[0xff, 0xfe])]).1, ["traceparent"]);
    }

    #[test]
    fn inc_04_what_is_too_long_or_not_printable_is_left_out() {
        let long = vec![b'a'; MAX_BYTES];
        let (trace, ignored) = of(&[("traceparent", PARENT.as_bytes()), ("baggage", &long)]);
        assert_eq!((trace.baggage, ignored), (None, vec!["baggage"]));
        let most = MAX_BYTES - TRACEPARENT_BYTES;
        assert!(of(&[("baggage", &long[..most])]).0.baggage.is_some());
        assert_eq!(of(&[("baggage", b"a=\r\nb")]).1, ["baggage"]);
        let state = vec![b'a'; MAX_TRACESTATE_BYTES + 1];
        assert_eq!(of(&[("traceparent", PARENT.as_bytes()), ("tracestate", &state)]).1, ["tracestate"]);
    }

    #[test]
    fn inc_04_without_a_header_the_tickets_own_ids_are_the_parent() {
        let ticket = |trace: &str, span: &str| {
            let text = format!(
                r#"{{"ticket_id":"t","task_id":"a","task_type":"EXECUTE","status":"PENDING","dependencies":[],
                   "trace_id":"{trace}","span_id":"{span}"}}"#
            );
            ticket_schemas::decode_json_ticket(text.as_bytes()).expect("a ticket")
        };
        let ids = ticket("4BF92F3577B34DA6A3CE929D0E0E4736", "00f067aa0ba902b7");
        assert_eq!(of_ticket(TraceContext::default(), &ids).traceparent.as_deref(), Some(PARENT));
        let named = TraceContext { traceparent: Some("kept".to_owned()), ..TraceContext::default() };
        assert_eq!(of_ticket(named.clone(), &ids), named);
        for (trace, span) in [("", ""), ("4bf9", "00f0"), ("4bf92f3577b34da6a3ce929d0e0e4736", "-")] {
            assert_eq!(of_ticket(TraceContext::default(), &ticket(trace, span)).traceparent, None);
        }
    }
}
