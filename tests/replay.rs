//! Invariant: every change to workflow code replays the histories of all released versions.
//!
//! `tests/histories/<version>/` holds one history for each way a ticket can go, recorded from a server with
//! `cargo run --example record_history`. Files are added with each release and never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use temporalio_client::WorkflowHistory;
use temporalio_common::data_converters::{
    DataConverter, DefaultFailureConverter, DefaultPayloadCodec, PayloadConverter,
};
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use ticket_workflows::{TicketWaiters, TicketWorkflow};

fn recorded() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("histories")
        .flat_map(|version| std::fs::read_dir(version.expect("version").path()).expect("version folder"))
        .map(|file| file.expect("file").path())
        .collect();
    files.sort();
    files
}

fn history(name: &str) -> Value {
    let file = recorded().into_iter().find(|file| file.ends_with(name)).expect("recorded");
    serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON")
}

/// `None`: it replays. Otherwise what the replayer says.
async fn replay(history: &[u8]) -> Option<String> {
    replay_with(DataConverter::default(), history).await
}

async fn replay_with(data_converter: DataConverter, history: &[u8]) -> Option<String> {
    let options = WorkflowReplayerOptions::new()
        .register_workflow::<TicketWorkflow>()
        .expect("registered")
        .register_workflow::<TicketWaiters>()
        .expect("registered")
        .data_converter(data_converter)
        .build();
    let replayer = WorkflowReplayer::new(options).expect("replayer");
    let history = WorkflowHistory::from_json(history).expect("a history");
    replayer.replay_workflow(history).await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn every_recorded_history_replays() {
    let files = recorded();
    assert!(files.len() >= 20, "histories are missing: {files:?}");
    for file in files {
        let failure = replay(&std::fs::read(&file).expect("readable")).await;
        assert_eq!(failure, None, "{}", file.display());
    }
}

#[tokio::test]
async fn a_history_of_other_code_comes_back_red() {
    let mut other = history("completed.json");
    for event in other["events"].as_array_mut().expect("events") {
        if let Some(attributes) = event["attributes"].get_mut("ActivityTaskScheduledEventAttributes") {
            attributes["activity_type"]["name"] = json!("something_else");
        }
    }
    assert!(replay(other.to_string().as_bytes()).await.is_some(), "the gate does not see another activity");
}

#[tokio::test]
async fn a_decision_that_would_go_the_other_way_comes_back_red() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut other = history("retried.json");
    let payload = &mut other["events"][0]["attributes"]["WorkflowExecutionStartedEventAttributes"]["input"]["payloads"]
        [0]["data"];
    let mut input: Value =
        serde_json::from_slice(&engine.decode(payload.as_str().expect("base64")).expect("base64")).expect("JSON");
    assert_eq!(input["ticket"]["sla"]["max_retries"], 1, "the recorded ticket has one retry");
    input["ticket"]["sla"]["max_retries"] = json!(0);
    *payload = json!(engine.encode(input.to_string()));
    assert!(replay(other.to_string().as_bytes()).await.is_some(), "the gate does not see a retry that is not there");
}

/// The events up to and with what the `nth` completed workflow task commanded, and then `further` ones.
fn begun(history: &Value, nth: usize, further: usize) -> Option<Value> {
    let events = history["events"].as_array().expect("events");
    let attributes = |at: usize| events.get(at)?["attributes"].as_object()?.iter().next();
    let completed = (0..events.len())
        .filter(|at| attributes(*at).is_some_and(|(kind, _)| kind == "WorkflowTaskCompletedEventAttributes"))
        .nth(nth)?;
    let commanded = |at: &usize| {
        attributes(*at).is_some_and(|(_, of)| of["workflow_task_completed_event_id"] == events[completed]["event_id"])
    };
    let until = completed + 1 + (completed + 1..events.len()).take_while(commanded).count() + further;
    let mut begun = history.clone();
    begun["events"] = json!(events[..until]);
    Some(begun)
}

/// Replays a history and lets the workflow go. Each context of a workflow holds the converter: how many still have it.
async fn kept(history: &Value) -> usize {
    let codec = Arc::new(DefaultPayloadCodec);
    let failures = DefaultFailureConverter::default();
    let converter = DataConverter::new(PayloadConverter::default(), failures, Arc::clone(&codec));
    assert_eq!(replay_with(converter, history.to_string().as_bytes()).await, None);
    Arc::strong_count(&codec) - 1
}

/// Left to itself, the SDK keeps a workflow's context, with all of its input, for ever when the cache lets the workflow go
/// while a timer or an activity is pending on the workflow's own cancellation token.
#[tokio::test]
async fn a_workflow_that_leaves_the_cache_while_it_waits_leaves_nothing_behind() {
    let mut looked_at = 0;
    for file in recorded() {
        let whole: Value = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
        for begun in (0..).map_while(|nth| begun(&whole, nth, 0)) {
            let events = begun["events"].as_array().map_or(0, Vec::len);
            assert_eq!(kept(&begun).await, 0, "{}: after {events} events something is kept", file.display());
            looked_at += 1;
        }
    }
    assert!(looked_at >= 40, "only {looked_at} moments were looked at");
}

/// The same, while a local activity is pending: here the one that reports, after the attempt's start and answer.
#[tokio::test]
async fn a_workflow_that_leaves_the_cache_while_it_reports_leaves_nothing_behind() {
    let reporting = begun(&history("completed.json"), 0, 2).expect("a workflow task");
    assert_eq!(kept(&reporting).await, 0);
}
