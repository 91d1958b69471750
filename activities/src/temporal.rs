//! What activities ask of the Temporal server beyond the SDK: how other tickets stand, and signals to them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{WorkflowExecutionStatus, WorkflowIdReusePolicy};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryReverseRequest,
    SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
};
use ticket_workflows::payload::{decoded, encoded};
use ticket_workflows::{
    DependencyState, ERROR_CODE, PHASE, START_MEMO, SUBSCRIBE_SIGNAL, StartMemo, Subscription, TicketPhase,
    WAITERS_TYPE, WaitersInput, code, waiters_id, workflow_id,
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::border::border;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// One ticket, as the server describes its current run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) state: DependencyState,
    /// Events of its history so far.
    pub(crate) events: i64,
    /// What it waits for; empty when it does not wait.
    pub(crate) waits_for: Vec<String>,
}

/// The server, for one activity.
pub(crate) struct Server {
    client: Client,
    task_queue: String,
}

impl Server {
    pub(crate) fn new(client: Client, task_queue: String) -> Self {
        Self { client, task_queue }
    }

    /// How a ticket stands.
    pub(crate) async fn describe(&self, ticket_id: &str) -> Result<Described, Status> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            execution: Some(execution(workflow_id(ticket_id))),
        };
        let mut service = self.client.connection().workflow_service();
        match border("temporal.predecessor", service.describe_workflow_execution(bounded(request))).await {
            Ok(answer) => {
                let info = answer.into_inner().workflow_execution_info;
                Ok(described(&info.ok_or_else(|| Status::unavailable("a description without its execution"))?))
            }
            Err(status) if status.code() == Code::NotFound => {
                Ok(Described { state: DependencyState::Unknown, events: 0, waits_for: Vec::new() })
            }
            Err(status) => Err(status),
        }
    }

    /// Signals the current run of a workflow. False: there is none that is open. The same `request_id` again is nothing to
    /// a run that has it already.
    pub(crate) async fn signal(
        &self,
        workflow_id: &str,
        name: &str,
        input: &(impl Serialize + Sync),
        request_id: String,
    ) -> Result<bool, Status> {
        let request = SignalWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            workflow_execution: Some(execution(workflow_id.to_owned())),
            signal_name: name.to_owned(),
            input: Some(payloads(input)?),
            identity: self.client.identity(),
            request_id,
            ..SignalWorkflowExecutionRequest::default()
        };
        let mut service = self.client.connection().workflow_service();
        match border("temporal.signal", service.signal_workflow_execution(bounded(request))).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Puts a workflow on the waiting list of a ticket, and starts the list if there is none. Answers with the list's run.
    /// Each call is a new one to the server: with the request id of an earlier one it could answer with a list that has
    /// closed since. To join twice is to join once.
    pub(crate) async fn join_list(&self, ticket_id: &str, waiter: &str, look_after_ms: u64) -> Result<String, Status> {
        let input = WaitersInput { ticket_id: ticket_id.to_owned(), look_after_ms, waiters: BTreeSet::new() };
        let request = SignalWithStartWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            workflow_id: waiters_id(ticket_id),
            workflow_type: Some(WorkflowType { name: WAITERS_TYPE.to_owned() }),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            input: Some(payloads(&input)?),
            identity: self.client.identity(),
            request_id: Uuid::new_v4().to_string(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate.into(),
            signal_name: SUBSCRIBE_SIGNAL.to_owned(),
            signal_input: Some(payloads(&Subscription { workflow_id: waiter.to_owned() })?),
            ..SignalWithStartWorkflowExecutionRequest::default()
        };
        let mut service = self.client.connection().workflow_service();
        let answer =
            border("temporal.join_list", service.signal_with_start_workflow_execution(bounded(request))).await?;
        Ok(answer.into_inner().run_id)
    }

    /// A page of the events of the ticket's current run, newest first, and the token of the next one, empty after the last.
    pub(crate) async fn newest_events(
        &self,
        ticket_id: &str,
        count: i32,
        next_page_token: Vec<u8>,
    ) -> Result<(Vec<HistoryEvent>, Vec<u8>), Status> {
        let request = GetWorkflowExecutionHistoryReverseRequest {
            namespace: self.client.namespace(),
            execution: Some(execution(workflow_id(ticket_id))),
            maximum_page_size: count,
            next_page_token,
        };
        let mut service = self.client.connection().workflow_service();
        let answer =
            border("temporal.outputs", service.get_workflow_execution_history_reverse(bounded(request))).await?;
        let page = answer.into_inner();
        Ok((page.history.map(|history| history.events).unwrap_or_default(), page.next_page_token))
    }
}

fn execution(workflow_id: String) -> WorkflowExecution {
    WorkflowExecution { workflow_id, run_id: String::new() }
}

fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn payloads(value: &impl Serialize) -> Result<Payloads, Status> {
    let payload = encoded(value).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Payloads { payloads: vec![payload] })
}

fn described(info: &WorkflowExecutionInfo) -> Described {
    let attribute = |name: &str| {
        let fields = &info.search_attributes.as_ref()?.indexed_fields;
        decoded::<String>(fields.get(name)?)
    };
    let ended = |fallback: &str| DependencyState::Failed {
        code: attribute(ERROR_CODE.name()).unwrap_or_else(|| fallback.to_owned()),
    };
    let state = match info.status() {
        WorkflowExecutionStatus::Completed => DependencyState::Completed,
        WorkflowExecutionStatus::Failed => ended(code::INTERNAL),
        WorkflowExecutionStatus::TimedOut => ended(code::TIMEOUT),
        WorkflowExecutionStatus::Canceled => ended(code::CANCELLED),
        // By an operator, without a result.
        WorkflowExecutionStatus::Terminated => ended("terminated"),
        _ => DependencyState::Open,
    };
    let waits =
        state == DependencyState::Open && attribute(PHASE.name()).as_deref() == Some(TicketPhase::Parked.as_str());
    let memo = || decoded::<StartMemo>(info.memo.as_ref()?.fields.get(START_MEMO)?);
    Described {
        state,
        events: info.history_length,
        waits_for: if waits { memo().unwrap_or_default().dependencies } else { Vec::new() },
    }
}
