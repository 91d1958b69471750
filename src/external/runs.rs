//! Which runs of tickets have ended, as Temporal knows it.

use std::time::Duration;

use futures::future::BoxFuture;
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeWorkflowExecutionRequest;
use ticket_activities::border;
use ticket_activities::external::Runs;
use ticket_workflows::workflow_id;
use tonic::{Code, Request};

/// How long one question may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks Temporal.
#[derive(Clone)]
pub struct TemporalRuns(Client);

impl TemporalRuns {
    /// Asks with `client`, in its namespace.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Runs for TemporalRuns {
    fn has_ended<'a>(&'a self, ticket_id: &'a str, run_id: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        let execution = WorkflowExecution { workflow_id: workflow_id(ticket_id), run_id: run_id.to_owned() };
        Box::pin(async move {
            let mut request = Request::new(DescribeWorkflowExecutionRequest {
                namespace: self.0.namespace(),
                execution: Some(execution),
            });
            request.set_timeout(CALL_TIMEOUT);
            let mut service = self.0.connection().workflow_service();
            match border("temporal.run_ended", service.describe_workflow_execution(request)).await {
                Ok(answer) => {
                    let info = answer.into_inner().workflow_execution_info;
                    Ok(info.is_some_and(|info| is_closed(info.status)))
                }
                // Another cluster's, another namespace's, or of a time that Temporal has forgotten.
                Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => Ok(false),
                Err(status) => Err(format!("Temporal does not say: {status}")),
            }
        })
    }
}

/// Whether a status is one that no run ever leaves. Not so a pause, nor a status of a later server that is not known here.
fn is_closed(status: i32) -> bool {
    use WorkflowExecutionStatus::{Canceled, Completed, ContinuedAsNew, Failed, Terminated, TimedOut};
    matches!(
        WorkflowExecutionStatus::try_from(status),
        Ok(Completed | Failed | Canceled | Terminated | ContinuedAsNew | TimedOut)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_never_goes_on_has_ended() {
        let closed: Vec<i32> = (-1..=20).filter(|status| is_closed(*status)).collect();
        let names: Vec<_> = closed
            .iter()
            .map(|status| WorkflowExecutionStatus::try_from(*status).expect("a known status").as_str_name())
            .collect();
        assert_eq!(
            names,
            ["COMPLETED", "FAILED", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW", "TIMED_OUT"]
                .map(|name| format!("WORKFLOW_EXECUTION_STATUS_{name}"))
        );
        for open in [WorkflowExecutionStatus::Running, WorkflowExecutionStatus::Unspecified] {
            assert!(!is_closed(open as i32), "{open:?}");
        }
    }
}
