//! What the server knows of a ticket's run: its description, the newest events of its history, and a worker's answer to
//! the query `status`. All calls are bounded. What heartbeats tell is read for logs too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payload, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::{PendingActivityState, WorkflowExecutionStatus};
use temporalio_common::protos::temporal::api::failure::v1::Failure;
use temporalio_common::protos::temporal::api::failure::v1::failure::FailureInfo;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::query::v1::WorkflowQuery;
use temporalio_common::protos::temporal::api::workflow::v1::{PendingActivityInfo, WorkflowExecutionInfo};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse, GetWorkflowExecutionHistoryReverseRequest,
    QueryWorkflowRequest,
};
use temporalio_common::worker::WorkerDeploymentVersion;
use ticket_workflows::payload::decoded;
use ticket_workflows::{
    DEADLINE, ERROR_CODE, PHASE, PROVIDER, START_MEMO, StartMemo, TASK_TYPE, TicketStatus, workflow_id,
};
use tonic::{Code, Request, Status};

use crate::dead_letters::parse_instant;
use crate::temporal;

/// How long one call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Newest events that are read.
const EVENTS: i32 = 50;

/// A ticket's newest run, as the server describes it. Times are epoch milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) run_id: String,
    pub(crate) task_queue: String,
    pub(crate) status: WorkflowExecutionStatus,
    pub(crate) started_ms: Option<i64>,
    pub(crate) closed_ms: Option<i64>,
    pub(crate) phase: Option<String>,
    pub(crate) task_type: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) deadline_ms: Option<i64>,
    pub(crate) dependencies: Vec<String>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) workflow_task: Option<WorkflowTask>,
    /// The only version whose workers run it.
    pub(crate) pinned: Option<WorkerDeploymentVersion>,
}

impl Run {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.status, WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused)
    }
}

/// An activity that has not ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(crate) activity: String,
    pub(crate) state: PendingActivityState,
    pub(crate) attempt: i32,
    pub(crate) worker: Option<String>,
    pub(crate) scheduled_ms: Option<i64>,
    /// When the server gives it up.
    pub(crate) until_ms: Option<i64>,
    pub(crate) last_failure: Option<String>,
    /// What it told last.
    pub(crate) heartbeat: Option<Payload>,
}

/// A workflow task that has not ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkflowTask {
    pub(crate) attempt: i32,
    pub(crate) scheduled_ms: Option<i64>,
}

/// What the newest events say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    /// Since when and until when a timer runs.
    pub(crate) timer: Option<(Option<i64>, Option<i64>)>,
    /// Why the last workflow task failed, when none has succeeded since.
    pub(crate) task_failure: Option<String>,
    /// How the run closed: error code and message.
    pub(crate) close: Option<(Option<String>, String)>,
}

/// A worker's answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Status(Box<TicketStatus>),
    /// None, and why.
    Nobody(String),
}

/// The ticket's newest run; `None` when the server knows none.
pub(crate) async fn describe(client: &Client, ticket_id: &str) -> Result<Option<Run>, Status> {
    describe_run(client, ticket_id, "").await
}

/// One run of a ticket, the newest one without a run id; `None` when the server knows none.
pub(crate) async fn describe_run(client: &Client, ticket_id: &str, run_id: &str) -> Result<Option<Run>, Status> {
    let request = DescribeWorkflowExecutionRequest {
        namespace: client.namespace(),
        execution: Some(execution(ticket_id, run_id.to_owned())),
    };
    let mut service = client.connection().workflow_service();
    match service.describe_workflow_execution(bounded(request, CALL_TIMEOUT)).await {
        Ok(answer) => described(answer.into_inner()).map(Some).ok_or_else(|| Status::internal("an empty description")),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Asks a worker what the ticket is doing.
pub(crate) async fn status(client: &Client, ticket_id: &str, run_id: &str, patience: Duration) -> Answer {
    let request = QueryWorkflowRequest {
        namespace: client.namespace(),
        execution: Some(execution(ticket_id, run_id.to_owned())),
        query: Some(WorkflowQuery { query_type: "status".to_owned(), ..WorkflowQuery::default() }),
        ..QueryWorkflowRequest::default()
    };
    let mut service = client.connection().workflow_service();
    let asked = tokio::time::timeout(patience, service.query_workflow(bounded(request, patience))).await;
    let answer = match asked {
        Err(_) => return Answer::Nobody(format!("no worker answered within {} s", patience.as_secs())),
        Ok(Err(status)) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {
            return Answer::Nobody(format!("no worker answered within {} s", patience.as_secs()));
        }
        Ok(Err(status)) => return Answer::Nobody(format!("no worker could answer ({})", status.message())),
        Ok(Ok(answer)) => answer.into_inner(),
    };
    let payload = answer.query_result.and_then(|payloads| payloads.payloads.into_iter().next());
    match payload.as_ref().and_then(decoded) {
        Some(status) => Answer::Status(Box::new(status)),
        None => Answer::Nobody("the answer of a worker of another version cannot be read".to_owned()),
    }
}

/// What the newest events of the run say.
pub(crate) async fn recent(client: &Client, ticket_id: &str, run_id: &str) -> Result<Recent, Status> {
    let request = GetWorkflowExecutionHistoryReverseRequest {
        namespace: client.namespace(),
        execution: Some(execution(ticket_id, run_id.to_owned())),
        maximum_page_size: EVENTS,
        ..GetWorkflowExecutionHistoryReverseRequest::default()
    };
    let mut service = client.connection().workflow_service();
    let answer = service.get_workflow_execution_history_reverse(bounded(request, CALL_TIMEOUT)).await?.into_inner();
    Ok(newest(&answer.history.map(|history| history.events).unwrap_or_default()))
}

/// When a worker that may run it polled the task queue last; the inner `None`: the server remembers no poll.
pub(crate) async fn newest_poll(client: &Client, run: &Run) -> Result<Option<i64>, Status> {
    let poll = temporal::newest_poll(client, &run.task_queue, run.pinned.as_ref()).await?;
    Ok(poll.and_then(|poll| epoch_ms(Some(poll))))
}

pub(crate) fn execution(ticket_id: &str, run_id: String) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id(ticket_id), run_id }
}

pub(crate) fn bounded<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

fn described(answer: DescribeWorkflowExecutionResponse) -> Option<Run> {
    let info = answer.workflow_execution_info?;
    let memo = info.memo.as_ref().and_then(|memo| memo.fields.get(START_MEMO)).and_then(decoded::<StartMemo>);
    let deadline = attribute(&info, DEADLINE.name());
    Some(Run {
        phase: attribute(&info, PHASE.name()),
        task_type: attribute(&info, TASK_TYPE.name()),
        provider: attribute(&info, PROVIDER.name()),
        error_code: attribute(&info, ERROR_CODE.name()),
        deadline_ms: deadline.and_then(|deadline| parse_instant(&deadline, 0).ok()),
        dependencies: memo.unwrap_or_default().dependencies,
        status: info.status(),
        started_ms: epoch_ms(info.start_time),
        closed_ms: epoch_ms(info.close_time),
        pinned: info.versioning_info.and_then(temporal::pinned_to),
        run_id: info.execution.map(|execution| execution.run_id).unwrap_or_default(),
        task_queue: info.task_queue,
        pending: answer.pending_activities.into_iter().map(pending).collect(),
        workflow_task: answer.pending_workflow_task.map(|task| WorkflowTask {
            attempt: task.attempt,
            scheduled_ms: epoch_ms(task.original_scheduled_time).or_else(|| epoch_ms(task.scheduled_time)),
        }),
    })
}

fn pending(info: PendingActivityInfo) -> Pending {
    let state = info.state();
    let started_ms = epoch_ms(info.last_started_time).filter(|_| state != PendingActivityState::Scheduled);
    let time_out = info.activity_options.and_then(|options| options.start_to_close_timeout);
    let ends_ms = started_ms.zip(duration_ms(time_out)).map(|(started, ms)| started.saturating_add(ms));
    Pending {
        activity: info.activity_type.map(|kind| kind.name).unwrap_or_default(),
        state,
        attempt: info.attempt,
        worker: Some(info.last_worker_identity).filter(|worker| !worker.is_empty() && started_ms.is_some()),
        scheduled_ms: epoch_ms(info.scheduled_time),
        until_ms: [ends_ms, epoch_ms(info.expiration_time)].into_iter().flatten().min(),
        last_failure: info.last_failure.map(|failure| failure.message),
        heartbeat: info.heartbeat_details.and_then(|details| details.payloads.into_iter().next()),
    }
}

/// Reads events, newest first.
fn newest(events: &[HistoryEvent]) -> Recent {
    let mut recent = Recent { close: events.first().and_then(close), ..Recent::default() };
    let (mut timer_seen, mut task_seen) = (false, false);
    for event in events {
        match &event.attributes {
            Some(Attributes::TimerFiredEventAttributes(_) | Attributes::TimerCanceledEventAttributes(_)) => {
                timer_seen = true;
            }
            Some(Attributes::TimerStartedEventAttributes(timer)) if !timer_seen => {
                timer_seen = true;
                let since_ms = epoch_ms(event.event_time);
                let until_ms = since_ms.zip(duration_ms(timer.start_to_fire_timeout));
                recent.timer = Some((since_ms, until_ms.map(|(since, ms)| since.saturating_add(ms))));
            }
            Some(
                Attributes::WorkflowTaskCompletedEventAttributes(_)
                | Attributes::WorkflowTaskTimedOutEventAttributes(_),
            ) => task_seen = true,
            Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) if !task_seen => {
                task_seen = true;
                let failure = failed.failure.as_ref().map(|failure| failure.message.clone());
                recent.task_failure = Some(failure.unwrap_or_else(|| failed.cause().as_str_name().to_owned()));
            }
            _ => {}
        }
    }
    recent
}

/// Error code and message of a closing event.
fn close(event: &HistoryEvent) -> Option<(Option<String>, String)> {
    match event.attributes.as_ref()? {
        Attributes::WorkflowExecutionCompletedEventAttributes(completed) => {
            let payload = completed.result.as_ref().and_then(|payloads| payloads.payloads.first());
            Some((None, payload.and_then(decoded).unwrap_or_default()))
        }
        Attributes::WorkflowExecutionFailedEventAttributes(failed) => {
            let failure = failed.failure.as_ref()?;
            Some((failure_type(failure), failure.message.clone()))
        }
        Attributes::WorkflowExecutionCanceledEventAttributes(cancelled) => {
            let payload = cancelled.details.as_ref().and_then(|payloads| payloads.payloads.first());
            Some((None, payload.and_then(decoded).unwrap_or_default()))
        }
        Attributes::WorkflowExecutionTerminatedEventAttributes(terminated) => {
            Some((None, format!("by {}: {}", terminated.identity, terminated.reason)))
        }
        Attributes::WorkflowExecutionTimedOutEventAttributes(_) => Some((None, String::new())),
        _ => None,
    }
}

fn failure_type(failure: &Failure) -> Option<String> {
    match failure.failure_info.as_ref()? {
        FailureInfo::ApplicationFailureInfo(info) => Some(info.r#type.clone()).filter(|kind| !kind.is_empty()),
        _ => None,
    }
}

fn attribute(info: &WorkflowExecutionInfo, name: &str) -> Option<String> {
    decoded(info.search_attributes.as_ref()?.indexed_fields.get(name)?)
}

fn epoch_ms<T: TryInto<SystemTime>>(time: Option<T>) -> Option<i64> {
    let since = time?.try_into().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn duration_ms<T: TryInto<Duration>>(duration: Option<T>) -> Option<i64> {
    // No limit is written as zero.
    duration?.try_into().ok().and_then(|it| i64::try_from(it.as_millis()).ok()).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::history::v1::{
        TimerFiredEventAttributes, TimerStartedEventAttributes, WorkflowExecutionTerminatedEventAttributes,
        WorkflowTaskCompletedEventAttributes, WorkflowTaskFailedEventAttributes,
    };

    use super::*;

    /// The events, given in their order, at one second each.
    fn history(events: &[Attributes]) -> Recent {
        let event = |(second, attributes): (usize, &Attributes)| HistoryEvent {
            event_time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(second as u64)).map(Into::into),
            attributes: Some(attributes.clone()),
            ..HistoryEvent::default()
        };
        let mut events: Vec<_> = events.iter().enumerate().map(event).collect();
        events.reverse();
        newest(&events)
    }

    #[test]
    fn the_newest_events_tell_timers_and_failures_that_still_count() {
        let started = || {
            let start_to_fire_timeout = Duration::from_secs(60).try_into().ok();
            let attributes = TimerStartedEventAttributes { start_to_fire_timeout, ..Default::default() };
            Attributes::TimerStartedEventAttributes(attributes)
        };
        let fired = || Attributes::TimerFiredEventAttributes(TimerFiredEventAttributes::default());
        let done = || Attributes::WorkflowTaskCompletedEventAttributes(WorkflowTaskCompletedEventAttributes::default());
        let failed = || {
            let failure = Some(Failure { message: "why".to_owned(), ..Failure::default() });
            let attributes = WorkflowTaskFailedEventAttributes { failure, ..Default::default() };
            Attributes::WorkflowTaskFailedEventAttributes(attributes)
        };
        for (events, timer, failure) in [
            (vec![done(), started()], Some((Some(1_000), Some(61_000))), None),
            (vec![started(), fired(), done()], None, None),
            (vec![started(), fired(), started(), failed()], Some((Some(2_000), Some(62_000))), Some("why")),
            (vec![failed(), done()], None, None),
            (vec![], None, None),
        ] {
            let recent = history(&events);
            assert_eq!((recent.timer, recent.task_failure.as_deref()), (timer, failure), "{events:?}");
            assert_eq!(recent.close, None);
        }
        let terminated = WorkflowExecutionTerminatedEventAttributes {
            identity: "me".to_owned(),
            reason: "so".to_owned(),
            ..Default::default()
        };
        let recent = history(&[done(), Attributes::WorkflowExecutionTerminatedEventAttributes(terminated)]);
        assert_eq!(recent.close, Some((None, "by me: so".to_owned())));
    }
}
