//! Shows that the gate sees: each attribute that it compares, altered in a recorded history, comes back red and is named.

use serde_json::json;

use crate::TICKETS;
use crate::altered::{Alter, History, payload};
use crate::everything::Everything;
use crate::gate::{Code, code};

const ONE_OF_EACH: Code = code!(Everything);

pub(crate) const RETRIED: &str = "0.1.0/retried.json";
pub(crate) const COMPLETED: &str = "0.1.0/completed.json";
pub(crate) const WAITED: &str = "0.1.0/waited.json";
pub(crate) const ORDERED: &str = "0.1.0/ordered.json";
pub(crate) const CANCELLED: &str = "0.1.0/cancelled.json";
pub(crate) const WAITERS: &str = "0.1.0/waiters.json";
pub(crate) const EVERYTHING: &str = "examples/everything.json";

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
        let code = if file == EVERYTHING { ONE_OF_EACH } else { TICKETS };
        let red = history.verdict(code).await;
        let red = red.unwrap_or_else(|| panic!("{file}: the gate does not see another {words} of {kind} {nth}"));
        let words = words.trim_start_matches('/').replace('/', ".");
        let event = red.contains(&format!("event {event_id} ")) || red.contains(&format!("event {event_id}: "));
        assert!(event && red.contains(&words), "{file}, {kind} {words}: {red}");
    }
}

#[tokio::test]
async fn nothing_is_red_before_it_is_altered() {
    let red = History::read(EVERYTHING).verdict(ONE_OF_EACH).await;
    assert_eq!(red, None);
}

#[tokio::test]
async fn a_history_of_other_code_comes_back_red() {
    let mut history = History::read(COMPLETED);
    history.event("ActivityTaskScheduled", 0).1["activity_type"]["name"] = json!("something_else");
    assert!(history.verdict(TICKETS).await.is_some(), "the gate does not see another activity");
}

#[tokio::test]
async fn a_decision_that_would_go_the_other_way_comes_back_red() {
    let mut history = History::read(RETRIED);
    let (_, started) = history.event("WorkflowExecutionStarted", 0);
    Alter::Within("/input/payloads/0", "/ticket/sla/max_retries", json!(0)).apply(started);
    let red = history.verdict(TICKETS).await.expect("the gate does not see a retry that is not there");
    assert!(red.contains("event 11: timer 1 (TimerStarted "), "{red}");
}

#[tokio::test]
async fn what_the_code_asks_for_and_no_event_records_comes_back_red() {
    let mut history = History::read(COMPLETED);
    let (end, _) = history.event("WorkflowExecutionCompleted", 0);
    history.cut_after(end - 1);
    let red = history.verdict(TICKETS).await.expect("red");
    assert!(red.contains("end (WorkflowExecutionCompleted "), "{red}");
}
