//! Why an activity was cancelled. The SDK drops the reason: a shutdown of the worker, a pause, a reset and a real
//! cancel look alike. The server knows.

use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::{PendingActivityState, WorkflowExecutionStatus};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeWorkflowExecutionRequest;
use temporalio_sdk::activities::ActivityContext;

use crate::border::border;

/// Whether the workflow wants this activity stopped: a cancel was requested, or the workflow is gone. When the server
/// cannot be asked the answer is no: handing the attempt back loses nothing.
pub(crate) async fn stop_is_wanted(ctx: &ActivityContext) -> bool {
    let info = ctx.info();
    let request = DescribeWorkflowExecutionRequest {
        namespace: info.namespace.clone(),
        execution: Some(WorkflowExecution {
            workflow_id: info.workflow_id.clone().unwrap_or_default(),
            run_id: info.workflow_run_id.clone().unwrap_or_default(),
        }),
    };
    let client = ctx.client();
    let mut service = client.connection().workflow_service();
    let request = tonic::Request::new(request);
    let description = match border("temporal.why_cancelled", service.describe_workflow_execution(request)).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == tonic::Code::NotFound => return true,
        Err(status) => {
            tracing::warn!(%status, "the server could not say why the activity was cancelled; the attempt is handed back");
            return false;
        }
    };
    let open = description
        .workflow_execution_info
        .is_some_and(|execution| execution.status() == WorkflowExecutionStatus::Running);
    let pending = description.pending_activities.iter().find(|pending| pending.activity_id == info.activity_id);
    match pending {
        Some(pending) => pending.state() == PendingActivityState::CancelRequested,
        None => !open || description.pending_activities.is_empty(),
    }
}
