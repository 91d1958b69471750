//! What is asked of the server in a scenario, besides starts.

use std::time::Duration;

use temporalio_client::{Client, NamespacedClient as _, WorkflowQueryOptions};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::{EventType, WorkflowExecutionStatus};
use temporalio_common::protos::temporal::api::failure::v1::failure::FailureInfo;
use temporalio_common::protos::temporal::api::failure::v1::{ApplicationFailureInfo, Failure};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse, GetWorkflowExecutionHistoryRequest,
    RequestCancelWorkflowExecutionRequest, RespondActivityTaskFailedByIdRequest, SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};
use ticket_workflows::payload::encoded;
use ticket_workflows::{
    DependencyOutcome, DependencyState, OUTCOME_SIGNAL, Order, TicketWorkflow, Verb, waiters_id, workflow_id,
};
use tonic::{Code, Request};
use worker_agents::orders;

use crate::world::PATIENCE;

/// The default of `TEMPORAL_TASK_QUEUE`.
const TASK_QUEUE: &str = "worker-agents";
/// Between two looks at what is to happen.
const POLL: Duration = Duration::from_millis(20);

/// Waits until a worker says that the ticket is in this state.
pub(crate) async fn is_in(client: &Client, name: &str, state: &str) {
    let ticket = client.get_workflow_handle::<TicketWorkflow>(workflow_id(name));
    loop {
        let status = ticket.query(TicketWorkflow::status, (), WorkflowQueryOptions::default()).await;
        if status.is_ok_and(|status| status.state.name() == state) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the ticket's workflow is closed.
pub(crate) async fn closed(client: &Client, name: &str) {
    loop {
        let run = described(client, name).await.workflow_execution_info.expect("a run");
        match run.status() {
            WorkflowExecutionStatus::Running => {}
            // Where nothing else is to come, the server skips the ten years that it gives a workflow.
            WorkflowExecutionStatus::TimedOut => panic!("{name} would have stayed open for ever"),
            _ => return,
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Cancels the workflow of a ticket.
pub(crate) async fn cancel(client: &Client, name: &str) {
    let request = RequestCancelWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(execution(workflow_id(name))),
        reason: "the scenario says so".to_owned(),
        ..RequestCancelWorkflowExecutionRequest::default()
    };
    client
        .connection()
        .workflow_service()
        .request_cancel_workflow_execution(Request::new(request))
        .await
        .expect("taken");
}

/// Gives an order, which is taken.
pub(crate) async fn order(client: &Client, name: &str, verb: Verb) {
    let order = Order { verb, by: "operator".to_owned(), why: "the scenario says so".to_owned() };
    let answer = orders::send(client, TASK_QUEUE, name, &order, PATIENCE).await.expect("an answer");
    assert!(matches!(answer, orders::Answer::Done(_)), "the order to {name} was not taken: {answer:?}");
}

/// Says to a ticket how one that it depends on ended, as the worker that ran that one does.
pub(crate) async fn tell(client: &Client, name: &str, of: &str, outcome: DependencyState) {
    let told = DependencyOutcome { ticket_id: of.to_owned(), outcome };
    let request = SignalWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(execution(workflow_id(name))),
        signal_name: OUTCOME_SIGNAL.to_owned(),
        input: Some(Payloads { payloads: vec![encoded(&told).expect("encoded")] }),
        ..SignalWorkflowExecutionRequest::default()
    };
    client.connection().workflow_service().signal_workflow_execution(Request::new(request)).await.expect("taken");
}

/// Somebody terminates a ticket's waiting list, once it is there and waits: the server that skips time never skips any again once a
/// workflow was terminated in the midst of a task.
pub(crate) async fn terminate_list(client: &Client, ticket_id: &str) {
    while !waits(client, waiters_id(ticket_id)).await {
        tokio::time::sleep(POLL).await;
    }
    let request = TerminateWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(execution(waiters_id(ticket_id))),
        reason: "the scenario says so".to_owned(),
        ..TerminateWorkflowExecutionRequest::default()
    };
    client
        .connection()
        .workflow_service()
        .terminate_workflow_execution(Request::new(request))
        .await
        .expect("terminated");
}

/// Whether a workflow is there and all its tasks are done.
async fn waits(client: &Client, workflow_id: String) -> bool {
    let request = GetWorkflowExecutionHistoryRequest {
        namespace: client.namespace(),
        execution: Some(execution(workflow_id)),
        ..GetWorkflowExecutionHistoryRequest::default()
    };
    let answer = client.connection().workflow_service().get_workflow_execution_history(Request::new(request)).await;
    let events = match answer {
        Ok(answer) => answer.into_inner().history.expect("a history").events,
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            return false;
        }
    };
    let of_task = |kind: &EventType| {
        use EventType::{WorkflowTaskCompleted, WorkflowTaskFailed, WorkflowTaskScheduled, WorkflowTaskStarted};
        matches!(kind, WorkflowTaskScheduled | WorkflowTaskStarted | WorkflowTaskFailed | WorkflowTaskCompleted)
    };
    events.iter().rev().map(HistoryEvent::event_type).find(of_task) == Some(EventType::WorkflowTaskCompleted)
}

/// Somebody fails the attempt that runs, as `temporal activity fail` does.
pub(crate) async fn fail_attempt(client: &Client, name: &str) {
    let pending = loop {
        if let Some(pending) = described(client, name).await.pending_activities.pop() {
            break pending;
        }
        tokio::time::sleep(POLL).await;
    };
    let info = ApplicationFailureInfo { non_retryable: true, ..ApplicationFailureInfo::default() };
    let request = RespondActivityTaskFailedByIdRequest {
        namespace: client.namespace(),
        workflow_id: workflow_id(name),
        activity_id: pending.activity_id,
        failure: Some(Failure {
            message: "failed by hand".to_owned(),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
            ..Failure::default()
        }),
        ..RespondActivityTaskFailedByIdRequest::default()
    };
    client
        .connection()
        .workflow_service()
        .respond_activity_task_failed_by_id(Request::new(request))
        .await
        .expect("taken");
}

async fn described(client: &Client, name: &str) -> DescribeWorkflowExecutionResponse {
    let request = DescribeWorkflowExecutionRequest {
        namespace: client.namespace(),
        execution: Some(execution(workflow_id(name))),
    };
    let described = client.connection().workflow_service().describe_workflow_execution(Request::new(request)).await;
    described.expect("a description").into_inner()
}

fn execution(workflow_id: String) -> WorkflowExecution {
    WorkflowExecution { workflow_id, run_id: String::new() }
}
