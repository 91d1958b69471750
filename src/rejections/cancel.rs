//! Whether a rejection still says something about the ticket's run, and the cancel request.

use std::time::Duration;

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest,
};
use ticket_workflows::{RecordPosition, workflow_id};
use tonic::{Code, Request, Status};

use super::record::Rejection;
use crate::bridge::is_redrive;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How far apart a ticket's record and its rejection may reach Temporal, and how long a rejection waits for its ticket.
pub(super) const PATIENCE_MS: i64 = 60_000;

/// The ticket's newest run, as far as it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    open: bool,
    /// Whether an operator published the ticket again to have it.
    redriven: bool,
    started_at_ms: i64,
}

/// What a rejection means for the ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its run is to be cancelled.
    Cancel,
    /// It has ended already.
    Closed,
    /// The ticket was published again after it was rejected: the operator's word is the newer one.
    Superseded,
    /// It has no run yet; one may come.
    Wait,
    /// It has no run, and none is expected any more.
    NotStarted,
}

/// Decides. `give_up_at_ms`: from then on a ticket without a run is not waited for.
pub(super) fn judge(run: Option<Run>, rejected_at_ms: i64, now_ms: i64, give_up_at_ms: i64) -> Verdict {
    match run {
        None if now_ms < give_up_at_ms => Verdict::Wait,
        None => Verdict::NotStarted,
        Some(run) if !run.open => Verdict::Closed,
        // A first run that starts late was only late: the bridge was held up.
        Some(run) if run.redriven && run.started_at_ms > rejected_at_ms.saturating_add(PATIENCE_MS) => {
            Verdict::Superseded
        }
        Some(_) => Verdict::Cancel,
    }
}

/// The ticket's newest run; `None` when it has none.
pub(super) async fn find(client: &Client, ticket_id: &str) -> Result<Option<Run>, Status> {
    let request = DescribeWorkflowExecutionRequest {
        namespace: client.namespace(),
        execution: Some(WorkflowExecution { workflow_id: workflow_id(ticket_id), run_id: String::new() }),
    };
    let described = client.connection().workflow_service().describe_workflow_execution(bounded(request)).await;
    let info = match described {
        Ok(answer) => answer.into_inner().workflow_execution_info,
        // The namespace was there when the worker started.
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(status),
    };
    Ok(info.map(|info| Run {
        open: matches!(info.status(), WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused),
        redriven: is_redrive(&info),
        started_at_ms: info.start_time.map_or(0, |at| at.seconds.saturating_mul(1000)),
    }))
}

/// Asks for the cancellation of the ticket's open run. `false`: it has ended meanwhile.
pub(super) async fn cancel(client: &Client, rejection: &Rejection, position: &RecordPosition) -> Result<bool, Status> {
    let request = RequestCancelWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: workflow_id(rejection.ticket_id.as_str()),
            run_id: String::new(),
        }),
        identity: client.identity(),
        // The same for a record that is read again: one request in the history.
        request_id: format!("rejected:{position}"),
        reason: rejection.cancel_reason(),
        ..RequestCancelWorkflowExecutionRequest::default()
    };
    let mut service = client.connection().workflow_service();
    match service.request_cancel_workflow_execution(bounded(request)).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status),
    }
}

fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_02_a_run_is_cancelled_unless_it_has_ended_or_is_a_later_re_drive() {
        const REJECTED: i64 = 1_000_000;
        let run = |open, redriven, after_ms| Some(Run { open, redriven, started_at_ms: REJECTED + after_ms });
        for (run, expected) in [
            (run(true, false, -10_000), Verdict::Cancel),
            (run(true, false, 5_000), Verdict::Cancel),
            // The bridge was away for an hour; the ticket is rejected all the same.
            (run(true, false, 3_600_000), Verdict::Cancel),
            (run(true, true, PATIENCE_MS), Verdict::Cancel),
            (run(true, true, PATIENCE_MS + 1), Verdict::Superseded),
            (run(false, false, 0), Verdict::Closed),
            (run(false, true, 3_600_000), Verdict::Closed),
        ] {
            assert_eq!(judge(run, REJECTED, REJECTED, REJECTED), expected, "{run:?}");
        }
    }

    #[test]
    fn inc_02_a_ticket_that_is_not_there_yet_is_waited_for_until_the_time_is_up() {
        assert_eq!(judge(None, 0, 59_999, 60_000), Verdict::Wait);
        assert_eq!(judge(None, 0, 60_000, 60_000), Verdict::NotStarted);
    }
}
