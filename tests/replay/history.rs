//! A recorded history: what code asked for then, and how it ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use temporalio_common::protos::constants::{LOCAL_ACTIVITY_MARKER_NAME, PATCH_MARKER_NAME};
use temporalio_common::protos::coresdk::common::{decode_change_marker_details, extract_local_activity_marker_data};
use temporalio_common::protos::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::history::v1::{
    History, HistoryEvent, MarkerRecordedEventAttributes, WorkflowTaskCompletedEventAttributes,
    WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes,
};

use crate::asked::{Key, Numbers};
use crate::comparison::{comparable, local_activity};

/// The search attribute that the SDK's core keeps by itself beside each patch marker.
const PATCHES: &str = "TemporalChangeVersion";

/// The folder of recorded histories.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// The files in one folder, or in one folder of each released version: every folder but `examples` and `red`.
pub(crate) fn files(folder: Option<&str>) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root()).expect("histories").map(|entry| entry.expect("folder").path());
    let mut files: Vec<PathBuf> = folders
        .filter(|path| match folder {
            Some(folder) => path.ends_with(folder),
            None => !path.ends_with("examples") && !path.ends_with("red"),
        })
        .flat_map(|path| std::fs::read_dir(path).expect("histories").map(|file| file.expect("file").path()))
        .collect();
    files.sort();
    files
}

/// One event that came of a command.
pub(crate) struct Recorded {
    pub(crate) event_id: i64,
    /// Id of the event that started the workflow task.
    pub(crate) task: i64,
    pub(crate) key: Key,
    pub(crate) event: (String, Value),
}

/// The last workflow task of a history that did not get on.
pub(crate) struct Stuck {
    pub(crate) event_id: i64,
    pub(crate) how: String,
}

/// A history.
#[derive(Clone)]
pub(crate) struct Recording(Vec<HistoryEvent>);

impl Recording {
    pub(crate) fn parse(json: &[u8]) -> Self {
        let history: History = serde_json::from_slice(json).expect("a history");
        assert!(!history.events.is_empty(), "a history has events");
        Self(history.events)
    }

    pub(crate) fn read(file: impl AsRef<Path>) -> Self {
        Self::parse(&std::fs::read(root().join(file)).expect("a recorded history"))
    }

    pub(crate) fn events(&self) -> Vec<HistoryEvent> {
        self.0.clone()
    }

    pub(crate) fn task_queue(&self) -> String {
        match &self.0[0].attributes {
            Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => {
                started.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }

    /// Whether the workflow was still open.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.iter().any(HistoryEvent::is_final_wf_execution_event)
    }

    fn last(&self, kinds: &[EventType]) -> Option<&HistoryEvent> {
        self.0.iter().rev().find(|event| kinds.contains(&event.event_type()))
    }

    /// The start event of the last workflow task that was completed: what is asked for later has no events yet.
    pub(crate) fn last_completed_task(&self) -> i64 {
        self.last(&[EventType::WorkflowTaskCompleted]).and_then(started_by).unwrap_or_default()
    }

    /// The last workflow task that came to an end, when it failed or its time was over, and the workflow was open. A try to
    /// repeat it may be under way.
    pub(crate) fn stuck(&self) -> Option<Stuck> {
        let ends = [EventType::WorkflowTaskCompleted, EventType::WorkflowTaskFailed, EventType::WorkflowTaskTimedOut];
        let last = self.last(&ends).filter(|_| self.is_open())?;
        let how = match &last.attributes {
            Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) => {
                let cause = WorkflowTaskFailedCause::try_from(failed.cause).unwrap_or_default();
                let why = failed.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
                format!("failed ({}): {why}", cause.as_str_name())
            }
            Some(Attributes::WorkflowTaskTimedOutEventAttributes(_)) => "timed out".to_owned(),
            _ => return None,
        };
        Some(Stuck { event_id: last.event_id, how })
    }

    /// The events, and those that complete the last workflow task, repeat one that failed, or tell the workflow what came
    /// after it: the replayer does not look at what code does in a task that is not completed.
    pub(crate) fn with_last_task_completed(&self) -> Vec<HistoryEvent> {
        use EventType::{
            WorkflowTaskCompleted, WorkflowTaskFailed, WorkflowTaskScheduled, WorkflowTaskStarted, WorkflowTaskTimedOut,
        };
        let another = [WorkflowTaskScheduled, WorkflowTaskStarted, WorkflowTaskCompleted];
        let all = [&another[..], &[WorkflowTaskFailed, WorkflowTaskTimedOut]].concat();
        let mut events = self.events();
        let news = events.last().is_some_and(|last| !last.is_command_event() && !all.contains(&last.event_type()));
        let missing = match self.last(&all).filter(|_| self.is_open()).map(HistoryEvent::event_type) {
            Some(WorkflowTaskScheduled) => &another[1..],
            Some(WorkflowTaskStarted) => &another[2..],
            Some(WorkflowTaskCompleted) if !news => &[],
            Some(_) => &another,
            None => &[],
        };
        for event_type in missing {
            let event = following(&events, *event_type);
            events.push(event);
        }
        events
    }

    /// Every event that came of a command.
    ///
    /// # Errors
    /// Names an event that the gate cannot compare.
    pub(crate) fn commands(&self) -> Result<Vec<Recorded>, String> {
        let mut names = Names::default();
        let mut recorded = Vec::new();
        let mut task = 0;
        for event in &self.0 {
            let event_id = event.event_id;
            task = started_by(event).unwrap_or(task);
            let Some(attributes) = &event.attributes else { continue };
            let key = match names.key(event_id, attributes) {
                Some(key) => key,
                None if event.is_command_event() && !kept_by_core(attributes) => {
                    return Err(format!(
                        "event {event_id}: the gate cannot compare {} yet: teach tests/replay/history.rs",
                        comparable(attributes).0
                    ));
                }
                None => continue,
            };
            let event = match attributes {
                Attributes::MarkerRecordedEventAttributes(marker) => of_marker(marker),
                attributes => comparable(attributes),
            };
            recorded.push(Recorded { event_id, task, key, event });
        }
        Ok(recorded)
    }
}

/// Gives the events of commands the names that commands have.
#[derive(Default)]
struct Names {
    numbers: Numbers,
    activities: HashMap<i64, String>,
    updates: HashMap<i64, String>,
}

impl Names {
    fn key(&mut self, event_id: i64, attributes: &Attributes) -> Option<Key> {
        Some(match attributes {
            Attributes::TimerStartedEventAttributes(timer) => format!("timer {}", timer.timer_id),
            Attributes::TimerCanceledEventAttributes(timer) => format!("cancel of timer {}", timer.timer_id),
            Attributes::ActivityTaskScheduledEventAttributes(activity) => {
                self.activities.insert(event_id, activity.activity_id.clone());
                format!("activity {}", activity.activity_id)
            }
            Attributes::ActivityTaskCancelRequestedEventAttributes(cancel) => {
                let id = self.activities.get(&cancel.scheduled_event_id).map_or("that is not there", String::as_str);
                format!("cancel of activity {id}")
            }
            Attributes::MarkerRecordedEventAttributes(marker) if marker.marker_name == LOCAL_ACTIVITY_MARKER_NAME => {
                format!("local activity {}", extract_local_activity_marker_data(&marker.details)?.seq)
            }
            Attributes::MarkerRecordedEventAttributes(marker) if marker.marker_name == PATCH_MARKER_NAME => {
                format!("patch {}", decode_change_marker_details(&marker.details)?.0)
            }
            Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => self.numbers.next("signal"),
            Attributes::UpsertWorkflowSearchAttributesEventAttributes(_) if !kept_by_core(attributes) => {
                self.numbers.next("search attributes")
            }
            Attributes::WorkflowPropertiesModifiedEventAttributes(_) => self.numbers.next("memo"),
            Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(accepted) => {
                self.updates.insert(event_id, accepted.protocol_instance_id.clone());
                format!("acceptance of update {}", accepted.protocol_instance_id)
            }
            Attributes::WorkflowExecutionUpdateCompletedEventAttributes(completed) => {
                let id = self.updates.get(&completed.accepted_event_id).map_or("that is not there", String::as_str);
                format!("answer to update {id}")
            }
            Attributes::WorkflowExecutionCompletedEventAttributes(_)
            | Attributes::WorkflowExecutionFailedEventAttributes(_)
            | Attributes::WorkflowExecutionCanceledEventAttributes(_)
            | Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_) => "end".to_owned(),
            _ => return None,
        })
    }
}

fn of_marker(marker: &MarkerRecordedEventAttributes) -> (String, Value) {
    match extract_local_activity_marker_data(&marker.details) {
        Some(data) => local_activity(&data.activity_id, &data.activity_type, marker.details.get("input")),
        None => ("patch".to_owned(), Value::Null),
    }
}

/// The start event of the workflow task that this event completes.
fn started_by(event: &HistoryEvent) -> Option<i64> {
    match &event.attributes {
        Some(Attributes::WorkflowTaskCompletedEventAttributes(completed)) => Some(completed.started_event_id),
        _ => None,
    }
}

fn kept_by_core(attributes: &Attributes) -> bool {
    match attributes {
        Attributes::UpsertWorkflowSearchAttributesEventAttributes(upsert) => upsert
            .search_attributes
            .as_ref()
            .is_some_and(|attributes| attributes.indexed_fields.keys().all(|name| name == PATCHES)),
        _ => false,
    }
}

fn newest(events: &[HistoryEvent], event_type: EventType) -> i64 {
    events.iter().rev().find(|event| event.event_type() == event_type).map_or(0, |event| event.event_id)
}

/// The next event of a workflow task.
fn following(events: &[HistoryEvent], event_type: EventType) -> HistoryEvent {
    let last = events.last().expect("a history has events");
    let scheduled_event_id = newest(events, EventType::WorkflowTaskScheduled);
    let attributes = match event_type {
        EventType::WorkflowTaskScheduled => {
            Attributes::WorkflowTaskScheduledEventAttributes(WorkflowTaskScheduledEventAttributes {
                attempt: 1,
                ..Default::default()
            })
        }
        EventType::WorkflowTaskStarted => {
            Attributes::WorkflowTaskStartedEventAttributes(WorkflowTaskStartedEventAttributes {
                scheduled_event_id,
                ..Default::default()
            })
        }
        _ => Attributes::WorkflowTaskCompletedEventAttributes(WorkflowTaskCompletedEventAttributes {
            scheduled_event_id,
            started_event_id: newest(events, EventType::WorkflowTaskStarted),
            ..Default::default()
        }),
    };
    HistoryEvent {
        event_id: last.event_id + 1,
        event_time: last.event_time,
        event_type: event_type.into(),
        attributes: Some(attributes),
        ..Default::default()
    }
}
