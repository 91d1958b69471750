//! What a workflow leaves behind when the cache lets it go while it waits: nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use temporalio_client::WorkflowHistory;
use temporalio_common::data_converters::{
    DataConverter, DefaultFailureConverter, DefaultPayloadCodec, PayloadConverter,
};
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use ticket_workflows::{TicketWaiters, TicketWorkflow};

use crate::history::files;

/// `None`: it replays. Otherwise what the replayer says.
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
    for file in files(None) {
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
    let file = files(None).into_iter().find(|file| file.ends_with("completed.json")).expect("recorded");
    let whole: Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
    let reporting = begun(&whole, 0, 2).expect("a workflow task");
    assert_eq!(kept(&reporting).await, 0);
}
