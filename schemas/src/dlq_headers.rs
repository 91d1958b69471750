//! Headers that the worker writes on records of its own (`contracts/kafka.md §3`, INC-04): trace context and the
//! platform's ids, passed on from the record that they are about.

use std::collections::BTreeMap;

use crate::dlq::{DlqEnvelope, DlqHeader};

/// Who made a record.
pub const SOURCE_HEADER: &str = "x-neural-hive-source";

const SERVICE: &str = "worker-agents";
const TRACE_CONTEXT: [&str; 3] = ["traceparent", "tracestate", "baggage"];
const PLATFORM_PREFIX: &str = "x-neural-hive-";
/// Largest value passed on, in bytes: what W3C asks of a carrier of baggage.
const MAX_VALUE_BYTES: usize = 8192;
/// Most bytes passed on. With them a dead letter stays below its topic's `max.message.bytes`.
const MAX_TOTAL_BYTES: usize = 32 * 1024;

/// Of `headers`, trace context and `x-neural-hive-*` under lower-case names, the first of each name; the source is this
/// worker.
///
/// The orchestrator writes some names twice, in mixed and in lower case. Headers that are too large to carry are left out.
#[must_use]
pub fn platform_headers<'a>(headers: impl IntoIterator<Item = DlqHeader<'a>>) -> BTreeMap<String, Vec<u8>> {
    let mut passed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut room = MAX_TOTAL_BYTES;
    for DlqHeader { key, value } in headers {
        let Some(value) = value.filter(|value| value.len() <= MAX_VALUE_BYTES) else { continue };
        let name = key.to_ascii_lowercase();
        if !(TRACE_CONTEXT.contains(&name.as_str()) || name.starts_with(PLATFORM_PREFIX)) || passed.contains_key(&name)
        {
            continue;
        }
        if let Some(left) = room.checked_sub(name.len() + value.len()) {
            room = left;
            passed.insert(name, value.to_vec());
        }
    }
    passed.insert(SOURCE_HEADER.to_owned(), SERVICE.into());
    passed
}

impl DlqEnvelope<'_> {
    /// Headers of the dead-letter record: those of the original that belong to the platform. What they lack and the ticket
    /// itself knows (parent span, plan, intent) is added.
    #[must_use]
    pub fn platform_headers(&self) -> BTreeMap<String, Vec<u8>> {
        let mut headers = platform_headers(self.headers.iter().copied());
        let field = |name: &str| self.original?.get(name)?.as_str().filter(|text| is_plain(text));
        for (name, value) in [
            ("traceparent", parent(field("trace_id"), field("span_id"))),
            ("x-neural-hive-plan-id", field("plan_id").map(str::to_owned)),
            ("x-neural-hive-intent-id", field("intent_id").map(str::to_owned)),
        ] {
            if let Some(value) = value {
                headers.entry(name.to_owned()).or_insert_with(|| value.into_bytes());
            }
        }
        headers
    }
}

/// W3C trace context of a span, if the ids are some.
fn parent(trace_id: Option<&str>, span_id: Option<&str>) -> Option<String> {
    let hex = |text: &str, digits: usize| {
        text.len() == digits
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|byte| byte != b'0')
    };
    let (trace_id, span_id) = (trace_id?, span_id?);
    (hex(trace_id, 32) && hex(span_id, 16)).then(|| format!("00-{trace_id}-{span_id}-01"))
}

/// An id that needs no escape anywhere.
fn is_plain(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_04_only_the_platforms_headers_are_passed_on_under_lower_case_names() {
        let header = |key, value| DlqHeader { key, value: Some(value) };
        let large = vec![b'x'; MAX_VALUE_BYTES + 1];
        let passed = platform_headers([
            header("traceparent", b"00-1"),
            header("X-Neural-Hive-Plan-Id", b"first"),
            header("x-neural-hive-plan-id", b"second"),
            header("x-neural-hive-source", b"orchestrator-dynamic"),
            header("authorization", b"secret"),
            header("baggage", &large),
            DlqHeader { key: "tracestate", value: None },
        ]);
        let expected: BTreeMap<String, Vec<u8>> =
            [("traceparent", "00-1"), ("x-neural-hive-plan-id", "first"), ("x-neural-hive-source", "worker-agents")]
                .map(|(name, value)| (name.to_owned(), value.into()))
                .into();
        assert_eq!(passed, expected);
        let names: Vec<String> = (0..100).map(|n| format!("x-neural-hive-{n}")).collect();
        let many = platform_headers(names.iter().map(|key| DlqHeader { key, value: Some(&large[..4096]) }));
        assert!(many.values().map(Vec::len).sum::<usize>() <= MAX_TOTAL_BYTES + SERVICE.len());
    }

    #[test]
    fn a_parent_is_made_of_valid_ids_only() {
        let (trace, span) = ("503f41b616cbc5a0c4dd37df1f271b41", "ddebe27caf1ff2a1");
        assert_eq!(parent(Some(trace), Some(span)).as_deref(), Some(&*format!("00-{trace}-{span}-01")));
        for (trace, span) in [
            (None, Some(span)),
            (Some(trace), None),
            (Some("0"), Some(span)),
            (Some(trace), Some("0000000000000000")),
            (Some("503F41B616CBC5A0C4DD37DF1F271B41"), Some(span)),
        ] {
            assert_eq!(parent(trace, span), None);
        }
    }
}
