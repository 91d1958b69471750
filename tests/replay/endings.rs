//! Histories that end in the middle: of open tickets, of code that breaks, of workflow tasks that failed.

use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::TICKETS;
use crate::alterations::{CANCELLED, ORDERED, RETRIED, WAITED};
use crate::altered::History;
use crate::gate::{code, replayer_alone};
use crate::history::Recording;
use crate::parcel::{broken, old};

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
            assert_eq!(history.verdict(TICKETS).await, None, "{file} cut after event {end}");
        }
    }
}

#[tokio::test]
async fn code_that_breaks_in_the_last_workflow_task_is_red_whether_that_has_begun_or_not() {
    for end in [13, 14] {
        let mut history = History::read("examples/parcel-old.json");
        history.cut_after(end);
        let alone = replayer_alone(code!(broken::Parcel), &history.recording()).await;
        assert_eq!(alone, None, "the SDK's replayer does not see it");
        let red = history.verdict(code!(broken::Parcel)).await.expect("red");
        assert!(red.starts_with("event 14: the code breaks in this workflow task: "), "{red}");
        assert!(red.contains("the label fell off"), "{red}");
    }
}

#[tokio::test]
async fn a_history_whose_last_workflow_task_timed_out_is_refused() {
    let mut history = History::read("examples/parcel-old.json");
    history.cut_after(15);
    let event = &mut history.0["events"][14];
    event["event_type"] = json!(i32::from(EventType::WorkflowTaskTimedOut));
    let attributes = json!({ "scheduled_event_id": 13, "started_event_id": 14, "timeout_type": 1 });
    event["attributes"] = json!({ "WorkflowTaskTimedOutEventAttributes": attributes });
    let red = history.verdict(code!(old::Parcel)).await.expect("red");
    assert_eq!(red, "event 15: the last workflow task timed out; the code of today gets on");
}
