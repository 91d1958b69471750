//! Compares what a history says with what code asks for, attribute by attribute.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use temporalio_common::protos::temporal::api::common::v1::Payloads;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::history::{Recording, files};

/// Attributes that may differ: event, attribute (`*`: of every event), and why. Beside these, no event's *summary* and
/// *details* (its user metadata) are compared: they are words for people in the UI. Nor is what no history holds: how an
/// activity is cancelled, whether it may start eagerly, and of local activities all but id and type.
const MAY_DIFFER: &[(&str, &str, &str)] = &[
    ("*", "workflow_task_completed_event_id", "the server numbers events"),
    ("*", "new_execution_run_id", "the server gives the id"),
    ("ActivityTaskScheduled", "use_workflow_build_id", "the SDK's core sets it from the task queue"),
    ("SignalExternalWorkflowExecutionInitiated", "namespace", "a history does not say in which namespace it ran"),
    ("SignalExternalWorkflowExecutionInitiated", "namespace_id", "the server adds it"),
    ("WorkflowExecutionUpdateCompleted", "meta", "the caller's: id and identity"),
    ("WorkflowExecutionUpdateCompleted", "accepted_event_id", "the server numbers events"),
    ("WorkflowExecutionFailed", "retry_state", "the server says whether the workflow runs again"),
    ("WorkflowExecutionContinuedAsNew", "inherit_build_id", "the server sets it"),
];

/// Fields that inputs have got since histories were recorded that lack them: type of the activity, field, and why that is
/// right. A history that has the field is compared.
const ADDED: &[(&str, &str, &str)] = &[
    ("report", "input.payloads[0].sla", "says where the ticket's time went; a report of before is published without"),
    ("report", "input.payloads[0].result.result.metadata.sla", "the same, in the result itself"),
    ("register", "input.payloads[0].workflows_only", "an undo that the ticket service did not publish is unheard of"),
];

/// What a run that continues as new inherits from this one where the code does not say otherwise.
const INHERITED: &[&str] = &[
    "memo",
    "search_attributes",
    "task_queue",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "backoff_start_interval",
];

const NOTHING: &str = "nothing";

/// One attribute that differs.
pub(crate) struct Difference {
    /// `input.payloads[0].ticket.sla.max_retries`; empty: the kind of event.
    pub(crate) attribute: String,
    pub(crate) recorded: String,
    pub(crate) asked: String,
}

/// An event's name and attributes in a form that can be compared: payloads decoded, and nothing where a value is the
/// default (for the wire that is the same), or may differ.
pub(crate) fn comparable(attributes: &Attributes) -> (String, Value) {
    let (kind, mut fields) = readable(attributes);
    for (of, attribute, _why) in MAY_DIFFER {
        if *of == "*" || *of == kind {
            remove(&mut fields, attribute);
        }
    }
    (kind, fields)
}

fn readable(attributes: &Attributes) -> (String, Value) {
    let value = serde_json::to_value(attributes).expect("an event is JSON");
    let (kind, fields) = match value {
        Value::Object(object) => object.into_iter().next().expect("an event has a kind"),
        other => panic!("no event: {other}"),
    };
    (kind.trim_end_matches("EventAttributes").to_owned(), plain(fields).unwrap_or_else(|| json!({})))
}

/// What a history keeps of a local activity.
pub(crate) fn local_activity(id: &str, activity_type: &str, input: Option<&Payloads>) -> (String, Value) {
    let input = input.and_then(|input| plain(serde_json::to_value(input).expect("payloads are JSON")));
    ("local activity".to_owned(), json!({ "activity_id": id, "activity_type": activity_type, "input": input }))
}

/// How the recorded event differs from the one that was asked for.
pub(crate) fn differences(recorded: &(String, Value), asked: &(String, Value)) -> Vec<Difference> {
    if recorded.0 != asked.0 {
        let asked = format!("{} {}", asked.0, shown(&asked.1));
        return vec![Difference { attribute: String::new(), recorded: shown(&recorded.1), asked }];
    }
    let mut recorded_fields = recorded.1.clone();
    if recorded.0 == "WorkflowExecutionContinuedAsNew" {
        for name in INHERITED.iter().filter(|name| asked.1.get(**name).is_none()) {
            remove(&mut recorded_fields, name);
        }
    }
    let mut found = Vec::new();
    compare(String::new(), Some(&recorded_fields), Some(&asked.1), &mut found);
    let activity = recorded.1.pointer("/activity_type/name").and_then(Value::as_str).unwrap_or_default();
    found.retain(|found| {
        let added = ADDED.iter().any(|(of, field, _why)| *of == activity && *field == found.attribute);
        !(added && found.recorded == NOTHING)
    });
    found
}

fn compare(path: String, recorded: Option<&Value>, asked: Option<&Value>, found: &mut Vec<Difference>) {
    match (recorded, asked) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            for (name, value) in left {
                compare(below(name), Some(value), right.get(name), found);
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                compare(below(name), None, Some(value), found);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            for at in 0..left.len().max(right.len()) {
                compare(format!("{path}[{at}]"), left.get(at), right.get(at), found);
            }
        }
        _ if recorded == asked => {}
        _ => found.push(Difference {
            attribute: path,
            recorded: recorded.map_or_else(|| NOTHING.to_owned(), shown),
            asked: asked.map_or_else(|| NOTHING.to_owned(), shown),
        }),
    }
}

/// A value for people, of bounded length.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn remove(fields: &mut Value, name: &str) {
    fields.as_object_mut().and_then(|fields| fields.remove(name));
}

/// The value without what is the default, and with payloads decoded. `None`: it is a default itself.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if is_payload(&object) => Some(decoded(&object)),
        Value::Object(object) => {
            let kept: Map<String, Value> =
                object.into_iter().filter_map(|(name, value)| Some((name, plain(value)?))).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(array) => (!array.is_empty())
            .then(|| Value::Array(array.into_iter().map(|value| plain(value).unwrap_or(Value::Null)).collect())),
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() || text == "0.000000000s" => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        other => Some(other),
    }
}

fn is_payload(object: &Map<String, Value>) -> bool {
    object.get("metadata").is_some_and(|metadata| metadata.get("encoding").is_some())
}

/// The value of a payload; of one that is no JSON its encoding and bytes. The type that the server notes beside a search
/// attribute is not compared.
fn decoded(payload: &Map<String, Value>) -> Value {
    let bytes = |value: Option<&Value>| STANDARD.decode(value.and_then(Value::as_str).unwrap_or_default());
    let encoding = bytes(payload["metadata"].get("encoding")).unwrap_or_default();
    let data = bytes(payload.get("data")).unwrap_or_default();
    let json = match encoding.as_slice() {
        b"json/plain" => serde_json::from_slice(&data).ok(),
        b"binary/null" => Some(Value::Null),
        _ => None,
    };
    json.unwrap_or_else(|| json!({ "encoding": String::from_utf8_lossy(&encoding), "data": payload.get("data") }))
}

#[test]
fn nothing_may_differ_that_no_recorded_history_has() {
    let histories: Vec<_> = files(None).into_iter().chain(files(Some("examples"))).map(Recording::read).collect();
    let events: Vec<_> = histories
        .iter()
        .flat_map(Recording::events)
        .filter(HistoryEvent::is_command_event)
        .map(|event| readable(&event.attributes.expect("an event has attributes")))
        .collect();
    for (of, attribute, _why) in MAY_DIFFER {
        let mut of_kind = events.iter().filter(|(kind, _)| *of == "*" || *of == kind);
        assert!(of_kind.any(|(_, fields)| fields.get(attribute).is_some()), "{of} {attribute}");
    }
}
