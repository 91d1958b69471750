//! The gate: replays a history on code, and compares what the code asks for with what it asked for then.
//!
//! The SDK's replayer compares which commands come, in which order, and ids and types of activities. It does not compare
//! other attributes, and says nothing of code that breaks in the last workflow task of a history. The gate does both.

use std::time::Duration;

use serde_json::Value;
use temporalio_common::protos::temporal::api::history::v1::{History, HistoryEvent};
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};

use crate::asked::{Asked, Heard, Listener};
use crate::comparison::{differences, shown};
use crate::history::{Recorded, Recording};

/// Registers the workflow code to replay on.
pub(crate) type Code = fn(&mut WorkflowReplayerOptions);

/// The code of these workflows.
macro_rules! code {
    ($($workflow:ty),+) => {
        |options: &mut temporalio_sdk::workflow_replayer::WorkflowReplayerOptions| {
            $(options.register_workflow::<$workflow>().expect("registered");)+
        }
    };
}
pub(crate) use code;

/// A replay takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// `None`: the code does what it did then. Otherwise what differs, a line each.
pub(crate) async fn verdict(code: Code, recording: &Recording) -> Option<String> {
    let recorded = match recording.commands() {
        Ok(recorded) => recorded,
        Err(unknown) => return Some(unknown),
    };
    let (heard, failure) = replay(code, recording.task_queue(), recording.with_last_task_completed()).await;
    let mut lines = Vec::new();
    if let Some(stuck) = recording.stuck() {
        let today = if failure.is_some() || heard.broken.is_some() { "breaks too" } else { "gets on" };
        lines
            .push(format!("event {}: the last workflow task {}; the code of today {today}", stuck.event_id, stuck.how));
    }
    if let Some((task, why)) = &heard.broken {
        lines.push(format!("event {task}: the code breaks in this workflow task: {why}"));
    }
    lines.extend(compare(recording, &recorded, &heard, failure.is_none()));
    lines.extend(failure);
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What the SDK's replayer says by itself.
pub(crate) async fn replayer_alone(code: Code, recording: &Recording) -> Option<String> {
    replay(code, recording.task_queue(), recording.events()).await.1
}

/// A replayer for each history: one that is used again hides faults.
async fn replay(code: Code, task_queue: String, events: Vec<HistoryEvent>) -> (Heard, Option<String>) {
    let listener = Listener::default();
    let mut options =
        WorkflowReplayerOptions::new().task_queue(task_queue).worker_interceptor(listener.clone()).build();
    code(&mut options);
    let replayer = WorkflowReplayer::new(options).expect("a replayer");
    let replayed = tokio::time::timeout(PATIENCE, replayer.replay_workflow(History { events }.into())).await;
    let failure = match replayed {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the SDK's replayer: {}", essence(&error.to_string()))),
        Err(_) => Some("the replay did not end".to_owned()),
    };
    (listener.take(), failure)
}

/// What the SDK's error says, of the whole structure that it shows.
fn essence(error: &str) -> &str {
    let message = error.split_once("message: \"").and_then(|(_, rest)| rest.split_once("\", source: "));
    message.map_or(error, |(message, _)| message)
}

/// `whole`: the replay came to the history's end.
fn compare(recording: &Recording, recorded: &[Recorded], heard: &Heard, whole: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left: Vec<&Asked> = heard.asked.iter().collect();
    let mut recorded_only = Vec::new();
    for Recorded { event_id, task, key, event } in recorded {
        // A local activity that takes longer than a workflow task is recorded by a later one.
        let same = |asked: &&Asked| asked.key == *key && (asked.task == *task || is_local(asked));
        let Some(at) = left.iter().position(same) else {
            // A marker that nobody asks about any more is in order when it is a deprecated one; the SDK judges that.
            if !(whole && key.starts_with("patch ")) {
                let named = named(key, event);
                recorded_only.push(format!("event {event_id}: {named} is recorded and not asked for"));
            }
            continue;
        };
        let asked = left.remove(at).event.as_ref();
        lines.extend(asked.map(|asked| differences(event, asked)).unwrap_or_default().into_iter().map(|found| {
            let attribute = if found.attribute.is_empty() { String::new() } else { format!(", {}", found.attribute) };
            let (recorded, asked) = (found.recorded, found.asked);
            format!("event {event_id} {} ({key}){attribute}: recorded {recorded}, the code asks for {asked}", event.0)
        }));
    }
    let last = recording.last_completed_task();
    let open = recording.is_open();
    let asked_only = left
        .into_iter()
        .filter(|asked| !asked.optional && asked.task <= last && !(open && is_local(asked)))
        .map(|asked| {
            let named = asked.event.as_ref().map_or_else(|| asked.key.clone(), |event| named(&asked.key, event));
            format!("event {}: {named} is asked for in this workflow task and not recorded", asked.task)
        });
    // Behind the place where a replay breaks off everything is missing.
    let some = if whole { usize::MAX } else { 1 };
    lines.extend(recorded_only.into_iter().take(some));
    lines.extend(asked_only.take(some));
    lines
}

fn is_local(asked: &Asked) -> bool {
    asked.key.starts_with("local activity ")
}

fn named(key: &str, (kind, attributes): &(String, Value)) -> String {
    format!("{key} ({kind} {})", shown(attributes))
}
