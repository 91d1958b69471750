//! What a rejection says. Nothing in the platform declares its shape, so only `ticket_id` is asked for.

use serde_json::{Map, Value};
use ticket_schemas::{MAX_VALUE_BYTES, TicketId};

/// Longest reason passed on, in characters.
const MAX_REASON_CHARS: usize = 300;
/// Where reasons are looked for, in this order.
const REASON_KEYS: [&str; 8] = [
    "rejection_reason",
    "reason",
    "rejection_reasons",
    "reasons",
    "violations",
    "message",
    "error",
    "validation_status",
];
/// Objects that may stand around the ticket or the verdict.
const FRAMES: [&str; 5] = ["ticket", "execution_ticket", "rejection_metadata", "validation", "validation_result"];

/// A rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) ticket_id: TicketId,
    /// Why, bounded and in one line; empty when it does not say.
    pub(super) reason: String,
}

impl Rejection {
    /// Reads a record's value.
    ///
    /// # Errors
    /// What keeps it from being followed.
    pub(super) fn read(value: Option<&[u8]>) -> Result<Self, String> {
        let value = value.ok_or("the record has no value")?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!("the record has {} bytes, more than {MAX_VALUE_BYTES}", value.len()));
        }
        let object: Map<String, Value> =
            serde_json::from_slice(value).map_err(|error| format!("the record is no JSON object: {error}"))?;
        let id = objects(&object).find_map(|object| object.get("ticket_id")?.as_str());
        let id = id.ok_or("the record has no text ticket_id")?;
        let ticket_id = id.parse().map_err(|error| format!("its ticket_id is none: {error}"))?;
        let reason = objects(&object).find_map(|object| REASON_KEYS.iter().find_map(|key| words(object.get(*key)?)));
        Ok(Self { ticket_id, reason: reason.map(|reason| line(&reason)).unwrap_or_default() })
    }

    /// What the cancel request says; the ticket's result quotes it.
    pub(super) fn cancel_reason(&self) -> String {
        if self.reason.is_empty() {
            "rejected by guard-agents".to_owned()
        } else {
            format!("rejected by guard-agents: {}", self.reason)
        }
    }
}

/// The object itself, then those that it may be wrapped in or wrap.
fn objects(object: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    std::iter::once(object).chain(FRAMES.iter().filter_map(|frame| object.get(*frame)?.as_object()))
}

/// A text, or the texts of a list; `None` when there are none.
fn words(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                Value::Object(object) => {
                    REASON_KEYS.iter().find_map(|key| Some(object.get(*key)?.as_str()?.to_owned()))
                }
                _ => None,
            };
            items.iter().filter_map(item).collect::<Vec<_>>().join(", ")
        }
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

fn line(text: &str) -> String {
    let mut line: String =
        text.trim().chars().take(MAX_REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().count() > MAX_REASON_CHARS {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_02_only_the_ticket_id_is_needed_and_the_reason_is_found_in_many_shapes() {
        for (text, id, reason) in [
            (r#"{"ticket_id":"t-1"}"#, "t-1", ""),
            (r#"{"ticket_id":"t-1","rejection_reason":"secret found"}"#, "t-1", "secret found"),
            (r#"{"ticket_id":"t-1","reasons":["a","b",3]}"#, "t-1", "a, b"),
            (
                r#"{"ticket_id":"t-1","violations":[{"message":"no limits"},{"reason":"root"}]}"#,
                "t-1",
                "no limits, root",
            ),
            (r#"{"ticket":{"ticket_id":"t-2"},"validation_result":{"reason":"policy"}}"#, "t-2", "policy"),
            (
                r#"{"ticket_id":"t-1","status":"PENDING","rejection_metadata":{"rejection_reason":"x\ny"}}"#,
                "t-1",
                "x y",
            ),
            (r#"{"ticket_id":"t-1","reason":"","message":"m"}"#, "t-1", "m"),
        ] {
            let read = Rejection::read(Some(text.as_bytes())).expect(text);
            assert_eq!((read.ticket_id.as_str(), read.reason.as_str()), (id, reason), "{text}");
        }
    }

    #[test]
    fn inc_02_a_reason_is_bounded() {
        let text = serde_json::json!({ "ticket_id": "t", "reason": "é".repeat(10_000) }).to_string();
        let reason = Rejection::read(Some(text.as_bytes())).expect("read").cancel_reason();
        assert!(reason.starts_with("rejected by guard-agents: é") && reason.ends_with('…'));
        assert!(reason.chars().count() < 400);
    }

    #[test]
    fn inc_02_what_cannot_be_read_says_why() {
        let long = vec![b' '; MAX_VALUE_BYTES + 1];
        for (value, why) in [
            (None, "no value"),
            (Some(b"nonsense".as_slice()), "no JSON object"),
            (Some(b"[1]"), "no JSON object"),
            (Some(b"{}"), "ticket_id"),
            (Some(br#"{"ticket_id":7}"#), "ticket_id"),
            (Some(br#"{"ticket_id":"a b"}"#), "ticket_id"),
            (Some(&[0, 0, 0, 0, 1, 2]), "no JSON object"),
            (Some(&long), "bytes"),
        ] {
            let error = Rejection::read(value).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
