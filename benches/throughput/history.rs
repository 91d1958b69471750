//! What a workflow left in the server: how many events, and how large its payloads are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, SearchAttributes, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::HistoryEventFilterType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryRequest;
use tonic::Request;

/// Sizes of a workflow's payloads, in bytes. The bare loop sends as much.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PayloadSizes {
    pub(crate) input: usize,
    pub(crate) activity_input: usize,
    pub(crate) activity_result: usize,
    pub(crate) result: usize,
}

impl PayloadSizes {
    /// The sizes in a history.
    pub(crate) fn of(history: &[HistoryEvent]) -> Self {
        let mut sizes = Self::default();
        for attributes in history.iter().filter_map(|event| event.attributes.as_ref()) {
            match attributes {
                Attributes::WorkflowExecutionStartedEventAttributes(started) => {
                    sizes.input = bytes(started.input.as_ref());
                }
                Attributes::ActivityTaskScheduledEventAttributes(scheduled) => {
                    sizes.activity_input = bytes(scheduled.input.as_ref());
                }
                Attributes::ActivityTaskCompletedEventAttributes(completed) => {
                    sizes.activity_result = bytes(completed.result.as_ref());
                }
                Attributes::WorkflowExecutionCompletedEventAttributes(completed) => {
                    sizes.result = bytes(completed.result.as_ref());
                }
                _ => {}
            }
        }
        sizes
    }
}

/// The search attributes of a workflow's start.
pub(crate) fn search_attributes(history: &[HistoryEvent]) -> Option<SearchAttributes> {
    history.iter().find_map(|event| match event.attributes.as_ref()? {
        Attributes::WorkflowExecutionStartedEventAttributes(started) => started.search_attributes.clone(),
        _ => None,
    })
}

fn bytes(payloads: Option<&Payloads>) -> usize {
    payloads.map_or(0, |payloads| payloads.payloads.iter().map(|payload| payload.data.len()).sum())
}

/// The whole history of a workflow, once it has closed.
pub(crate) async fn of_closed(client: &Client, workflow_id: &str) -> anyhow::Result<Vec<HistoryEvent>> {
    let request = |closing: bool| {
        let filter = if closing { HistoryEventFilterType::CloseEvent } else { HistoryEventFilterType::AllEvent };
        Request::new(GetWorkflowExecutionHistoryRequest {
            namespace: client.namespace(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
            wait_new_event: closing,
            history_event_filter_type: filter.into(),
            ..GetWorkflowExecutionHistoryRequest::default()
        })
    };
    let mut service = client.connection().workflow_service();
    // Waits for the closing event.
    service.get_workflow_execution_history(request(true)).await?;
    let answer = service.get_workflow_execution_history(request(false)).await?.into_inner();
    Ok(answer.history.with_context(|| format!("workflow {workflow_id} has no history"))?.events)
}

/// When a workflow was started, by the server's clock: the time of its first event.
pub(crate) async fn started_at(client: &Client, workflow_id: &str) -> anyhow::Result<SystemTime> {
    let request = Request::new(GetWorkflowExecutionHistoryRequest {
        namespace: client.namespace(),
        execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
        maximum_page_size: 1,
        ..GetWorkflowExecutionHistoryRequest::default()
    });
    let answer = client.connection().workflow_service().get_workflow_execution_history(request).await?.into_inner();
    let first = answer.history.and_then(|history| history.events.into_iter().next());
    let time = first.and_then(|event| event.event_time);
    let time = time.with_context(|| format!("workflow {workflow_id} has no first event"))?;
    Ok(UNIX_EPOCH + Duration::new(u64::try_from(time.seconds)?, u32::try_from(time.nanos)?))
}
