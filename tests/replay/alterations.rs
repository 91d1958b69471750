//! Shows that the gate sees: each attribute that it compares, altered in a recorded history, comes back red and is named.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use temporalio_sdk::workflow_replayer::WorkflowReplayerOptions;

use crate::everything::Everything;
use crate::gate::{Code, replayer_alone, verdict};
use crate::history::{Recording, root};
use crate::parcel::broken;
use crate::tickets;

fn everything(options: &mut WorkflowReplayerOptions) {
    options.register_workflow::<Everything>().expect("registered");
}

fn broken_parcels(options: &mut WorkflowReplayerOptions) {
    options.register_workflow::<broken::Parcel>().expect("registered");
}

/// A history as JSON.
struct History(Value);

impl History {
    fn read(file: &str) -> Self {
        let path: PathBuf = root().join(file);
        Self(serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON"))
    }

    /// The id and the attributes of the `nth` event of a kind.
    fn event(&mut self, kind: &str, nth: usize) -> (i64, &mut Value) {
        let name = format!("{kind}EventAttributes");
        let events = self.0["events"].as_array_mut().expect("events");
        let event = events.iter_mut().filter(|event| event["attributes"].get(&name).is_some()).nth(nth);
        let event = event.unwrap_or_else(|| panic!("no such event: {kind} {nth}"));
        (event["event_id"].as_i64().expect("an id"), &mut event["attributes"][&name])
    }

    fn cut_after(&mut self, event_id: i64) {
        self.0["events"].as_array_mut().expect("events").retain(|event| event["event_id"].as_i64() <= Some(event_id));
    }

    async fn verdict(&self, code: Code) -> Option<String> {
        verdict(code, &Recording::parse(self.0.to_string().as_bytes())).await
    }
}

fn payload(value: &Value) -> Value {
    json!({ "metadata": { "encoding": STANDARD.encode("json/plain") }, "data": STANDARD.encode(value.to_string()) })
}

fn value_of(payload: &Value) -> Value {
    let data = STANDARD.decode(payload["data"].as_str().expect("base64")).expect("base64");
    serde_json::from_slice(&data).expect("JSON")
}

/// What is done to the attributes of one event.
enum Alter {
    /// Another value at this JSON pointer.
    Set(&'static str, Value),
    /// Another value in the JSON of the payload at the first pointer: at the second pointer.
    Within(&'static str, &'static str, Value),
}

impl Alter {
    fn apply(&self, attributes: &mut Value) {
        match self {
            Self::Set(pointer, value) => put(attributes, pointer, value.clone()),
            Self::Within(pointer, inner, value) => {
                let place = attributes.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
                let mut content = value_of(place);
                put(&mut content, inner, value.clone());
                *place = payload(&content);
            }
        }
    }
}

/// Sets a value, also one that is not there; it must be another one.
fn put(value: &mut Value, pointer: &str, new: Value) {
    if pointer.is_empty() {
        assert_ne!(*value, new, "nothing would change");
        *value = new;
        return;
    }
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent} in {pointer}"));
    if parent.is_null() {
        *parent = json!({});
    }
    let place = match parent {
        Value::Array(array) => &mut array[name.parse::<usize>().expect("an index")],
        parent => &mut parent[name],
    };
    assert_ne!(*place, new, "{pointer}: nothing would change");
    *place = new;
}

const RETRIED: &str = "0.1.0/retried.json";
const COMPLETED: &str = "0.1.0/completed.json";
const WAITED: &str = "0.1.0/waited.json";
const ORDERED: &str = "0.1.0/ordered.json";
const CANCELLED: &str = "0.1.0/cancelled.json";
const WAITERS: &str = "0.1.0/waiters.json";
const EVERYTHING: &str = "examples/everything.json";

/// History, kind of event, which of them, what is altered, and words of the verdict.
fn table() -> Vec<(&'static str, &'static str, usize, Alter, &'static str)> {
    use Alter::{Set, Within};
    let input = "/input/payloads/0";
    let mut table = vec![
        (RETRIED, "TimerStarted", 0, Set("/start_to_fire_timeout", json!("3600.000000000s")), "start_to_fire_timeout"),
        (RETRIED, "TimerStarted", 0, Set("/timer_id", json!("7")), "timer 7"),
        (COMPLETED, "ActivityTaskScheduled", 0, Set("/activity_type/name", json!("look")), "activity_type.name"),
        (COMPLETED, "ActivityTaskScheduled", 0, Set("/activity_id", json!("9")), "activity 9"),
        (COMPLETED, "ActivityTaskScheduled", 0, Within(input, "/attempt", json!(2)), "input.payloads[0].attempt"),
        (
            COMPLETED,
            "ActivityTaskScheduled",
            0,
            Within(input, "/ticket/parameters/command", json!("rm")),
            "input.payloads[0].ticket.parameters.command",
        ),
        (COMPLETED, "ActivityTaskScheduled", 0, Within(input, "/added", json!(1)), "input.payloads[0].added"),
        (WAITERS, "ActivityTaskScheduled", 0, Within(input, "/subscribers", json!([])), "subscribers"),
        (
            COMPLETED,
            "ActivityTaskScheduled",
            0,
            Set("/header", json!({ "fields": { "a": payload(&json!(1)) } })),
            "header",
        ),
        (
            WAITED,
            "UpsertWorkflowSearchAttributes",
            0,
            Within("/search_attributes/indexedFields/TicketPhase", "", json!("other")),
            "search_attributes.indexedFields.TicketPhase",
        ),
        (
            RETRIED,
            "UpsertWorkflowSearchAttributes",
            0,
            Set("/search_attributes/indexedFields/TicketId", payload(&json!("other"))),
            "search_attributes.indexedFields.TicketId",
        ),
        (
            ORDERED,
            "WorkflowExecutionUpdateCompleted",
            1,
            Within("/outcome/value/Success/payloads/0", "/note", json!("other")),
            "outcome.value.Success.payloads[0].note",
        ),
        (
            COMPLETED,
            "WorkflowExecutionCompleted",
            0,
            Within("/result/payloads/0", "", json!("x")),
            "result.payloads[0]",
        ),
        (RETRIED, "WorkflowExecutionFailed", 0, Set("/failure/message", json!("other")), "failure.message"),
        (
            RETRIED,
            "WorkflowExecutionFailed",
            0,
            Set("/failure/applicationFailureInfo/type", json!("other")),
            "failure.applicationFailureInfo.type",
        ),
        (
            RETRIED,
            "WorkflowExecutionFailed",
            0,
            Set("/failure/applicationFailureInfo/nonRetryable", json!(false)),
            "failure.applicationFailureInfo.nonRetryable",
        ),
        (
            CANCELLED,
            "WorkflowExecutionCanceled",
            0,
            Within("/details/payloads/0", "", json!("x")),
            "details.payloads[0]",
        ),
        (COMPLETED, "MarkerRecorded", 0, Within("/details/data/payloads/0", "/activity_type", json!("tell")), "tell"),
        (COMPLETED, "MarkerRecorded", 0, Within("/details/data/payloads/0", "/seq", json!(9)), "local activity 9"),
        (
            EVERYTHING,
            "MarkerRecorded",
            1,
            Within("/details/input/payloads/0", "", json!("another parcel")),
            "input.payloads[0]",
        ),
        (EVERYTHING, "MarkerRecorded", 0, Within("/details/patch-data/payloads/0", "/id", json!("x")), "patch x"),
        (EVERYTHING, "WorkflowPropertiesModified", 0, Within("/upserted_memo/fields/note", "", json!("x")), "note"),
        (EVERYTHING, "TimerCanceled", 0, Set("/timer_id", json!("2")), "cancel of timer 2"),
        (
            EVERYTHING,
            "WorkflowExecutionContinuedAsNew",
            0,
            Within("/input/payloads/0", "", json!("x")),
            "input.payloads[0]",
        ),
        (
            EVERYTHING,
            "WorkflowExecutionContinuedAsNew",
            0,
            Set("/workflow_run_timeout", json!("301.000000000s")),
            "workflow_run_timeout",
        ),
        (
            EVERYTHING,
            "WorkflowExecutionContinuedAsNew",
            0,
            Set("/workflow_type/name", json!("x")),
            "workflow_type.name",
        ),
    ];
    for (attribute, value) in [
        ("/schedule_to_close_timeout", json!("91.000000000s")),
        ("/schedule_to_start_timeout", json!("61.000000000s")),
        ("/start_to_close_timeout", json!("31.000000000s")),
        ("/heartbeat_timeout", json!("16.000000000s")),
        ("/task_queue/name", json!("other")),
        ("/retry_policy/initialInterval", json!("3.000000000s")),
        ("/retry_policy/backoffCoefficient", json!(3.0)),
        ("/retry_policy/maximumInterval", json!("9.000000000s")),
        ("/retry_policy/maximumAttempts", json!(5)),
        ("/retry_policy/nonRetryableErrorTypes", json!([])),
        ("/priority/priorityKey", json!(4)),
    ] {
        table.push((EVERYTHING, "ActivityTaskScheduled", 1, Set(attribute, value), attribute));
    }
    for (attribute, value) in [
        ("/signal_name", json!("other")),
        ("/workflow_execution/workflowId", json!("somebody")),
        ("/workflow_execution/runId", json!("one")),
        ("/child_workflow_only", json!(true)),
    ] {
        table.push((EVERYTHING, "SignalExternalWorkflowExecutionInitiated", 0, Set(attribute, value), attribute));
    }
    table.push((
        EVERYTHING,
        "SignalExternalWorkflowExecutionInitiated",
        0,
        Within(input, "", json!("another word")),
        "input.payloads[0]",
    ));
    table
}

#[tokio::test]
async fn every_altered_attribute_comes_back_red_and_named() {
    for (file, kind, nth, alter, words) in table() {
        let mut history = History::read(file);
        let (event_id, attributes) = history.event(kind, nth);
        alter.apply(attributes);
        let code = if file == EVERYTHING { everything } else { tickets };
        let red = history.verdict(code).await;
        let red = red.unwrap_or_else(|| panic!("{file}: the gate does not see another {words} of {kind} {nth}"));
        let words = words.trim_start_matches('/').replace('/', ".");
        let event = red.contains(&format!("event {event_id} ")) || red.contains(&format!("event {event_id}: "));
        assert!(event && red.contains(&words), "{file}, {kind} {words}: {red}");
    }
}

#[tokio::test]
async fn nothing_is_red_before_it_is_altered() {
    let red = History::read(EVERYTHING).verdict(everything).await;
    assert_eq!(red, None);
}

#[tokio::test]
async fn a_history_of_other_code_comes_back_red() {
    let mut history = History::read(COMPLETED);
    history.event("ActivityTaskScheduled", 0).1["activity_type"]["name"] = json!("something_else");
    assert!(history.verdict(tickets).await.is_some(), "the gate does not see another activity");
}

#[tokio::test]
async fn a_decision_that_would_go_the_other_way_comes_back_red() {
    let mut history = History::read(RETRIED);
    let (_, started) = history.event("WorkflowExecutionStarted", 0);
    Alter::Within("/input/payloads/0", "/ticket/sla/max_retries", json!(0)).apply(started);
    let red = history.verdict(tickets).await.expect("the gate does not see a retry that is not there");
    assert!(red.contains("event 11: timer 1 (TimerStarted "), "{red}");
}

#[tokio::test]
async fn what_the_code_asks_for_and_no_event_records_comes_back_red() {
    let mut history = History::read(COMPLETED);
    let (end, _) = history.event("WorkflowExecutionCompleted", 0);
    history.cut_after(end - 1);
    let red = history.verdict(tickets).await.expect("red");
    assert!(red.contains("end (WorkflowExecutionCompleted "), "{red}");
}

/// A history may be of an open ticket, recorded at any time. (The server writes the end of a workflow task and what it asked
/// for at once: no history ends in between.)
#[tokio::test]
async fn a_history_of_an_open_ticket_replays_wherever_it_ends() {
    for file in [RETRIED, WAITED, CANCELLED, ORDERED] {
        let events = Recording::read(file).events();
        for at in 2..events.len() {
            if events[at].is_command_event() {
                continue;
            }
            let mut history = History::read(file);
            let end = events[at - 1].event_id;
            history.cut_after(end);
            assert_eq!(history.verdict(tickets).await, None, "{file} cut after event {end}");
        }
    }
}

#[tokio::test]
async fn code_that_breaks_in_the_last_workflow_task_is_red_whether_that_has_begun_or_not() {
    for end in [13, 14] {
        let mut history = History::read("examples/parcel-old.json");
        history.cut_after(end);
        let recording = Recording::parse(history.0.to_string().as_bytes());
        assert_eq!(replayer_alone(broken_parcels, &recording).await, None, "the SDK's replayer does not see it");
        let red = history.verdict(broken_parcels).await.expect("red");
        assert!(red.starts_with("event 14: the code breaks in this workflow task: "), "{red}");
        assert!(red.contains("the label fell off"), "{red}");
    }
}
