//! Carries an order to a ticket's workflow and waits for the answer, for a bounded time. Whoever orders, on the command
//! line or over HTTP, does it here; what the order comes to is the ticket's own decision.

use std::time::Duration;

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::{
    UpdateWorkflowExecutionLifecycleStage, WorkflowExecutionStatus,
};
use temporalio_common::protos::temporal::api::failure::v1::Failure;
use temporalio_common::protos::temporal::api::update::v1::outcome::Value as Outcome;
use temporalio_common::protos::temporal::api::update::v1::{Input, Meta, Request as UpdateRequest, WaitPolicy};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};
use ticket_workflows::payload::encoded;
use ticket_workflows::{ORDER_UPDATE, Order, OrderAnswer, workflow_id};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::temporal::newest_poll;

/// How long a question beside the order may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of an order. The texts say why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The ticket took it, or was so already: what follows.
    Done(String),
    /// It makes no sense now.
    Refused(String),
    /// The ticket has ended already.
    Ended(String),
    /// There is no such ticket.
    Unknown(String),
}

/// Why nobody can say what became of an order. To repeat it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The server did not take it.
    #[error("{0}")]
    Unavailable(String),
    /// No worker answered in time; the order may still reach the ticket.
    #[error("{0}")]
    Unanswered(String),
    /// The order cannot be written, or the answer not read.
    #[error("{0}")]
    Unreadable(String),
}

/// Sends the order, and waits for the ticket's answer as long as `patience`; whatever has to be asked after that takes some
/// seconds more.
///
/// # Errors
/// When the server, or a worker, does not answer in time.
pub async fn send(
    client: &Client,
    task_queue: &str,
    ticket_id: &str,
    order: &Order,
    patience: Duration,
) -> Result<Answer, SendError> {
    let deadline = Instant::now() + patience;
    let request = request(client, ticket_id, order)?;
    loop {
        let mut call = Request::new(request.clone());
        call.set_timeout(patience);
        let mut service = client.connection().workflow_service();
        let answered = match timeout_at(deadline, service.update_workflow_execution(call)).await {
            Ok(Ok(answer)) => answer.into_inner().outcome.and_then(|outcome| outcome.value),
            Ok(Err(status)) if status.code() == Code::NotFound => return absent(client, ticket_id, &status).await,
            // The server gives up before we do when no worker takes the update.
            Ok(Err(status)) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => None,
            Ok(Err(status)) => {
                return Err(SendError::Unavailable(format!(
                    "the order could not be given to ticket {ticket_id}: Temporal answers {:?} ({}); repeat it when the \
                     server is well, which is harmless",
                    status.code(),
                    status.message()
                )));
            }
            Err(_) => None,
        };
        match answered {
            Some(Outcome::Success(payloads)) => return read(payloads),
            Some(Outcome::Failure(failure)) => return Ok(Answer::Refused(cause(&failure))),
            None if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
            None => return Err(unanswered(client, task_queue, ticket_id, patience).await),
        }
    }
}

fn request(client: &Client, ticket_id: &str, order: &Order) -> Result<UpdateWorkflowExecutionRequest, SendError> {
    let meta = Meta {
        // One for all tries of this command: the ticket hears it once.
        update_id: Uuid::new_v4().to_string(),
        identity: client.identity(),
    };
    let payload =
        encoded(order).map_err(|error| SendError::Unreadable(format!("the order cannot be written ({error})")))?;
    let input =
        Input { name: ORDER_UPDATE.to_owned(), args: Some(Payloads { payloads: vec![payload] }), ..Input::default() };
    Ok(UpdateWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(execution(ticket_id)),
        wait_policy: Some(WaitPolicy { lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into() }),
        request: Some(UpdateRequest { meta: Some(meta), input: Some(input), ..UpdateRequest::default() }),
        ..UpdateWorkflowExecutionRequest::default()
    })
}

fn execution(ticket_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id(ticket_id), run_id: String::new() }
}

fn read(payloads: Payloads) -> Result<Answer, SendError> {
    let payload = payloads.payloads.into_iter().next().unwrap_or_default();
    let answer: OrderAnswer = serde_json::from_slice(&payload.data).map_err(|error| {
        SendError::Unreadable(format!("the ticket's answer cannot be read ({error}): is the worker of this version?"))
    })?;
    Ok(if answer.done { Answer::Done(answer.note) } else { Answer::Refused(answer.note) })
}

/// The innermost message.
fn cause(failure: &Failure) -> String {
    match &failure.cause {
        Some(inner) => cause(inner),
        None => failure.message.clone(),
    }
}

/// The server has no open run of the ticket: whether it has ended or never was.
async fn absent(client: &Client, ticket_id: &str, status: &Status) -> Result<Answer, SendError> {
    let mut request = Request::new(DescribeWorkflowExecutionRequest {
        namespace: client.namespace(),
        execution: Some(execution(ticket_id)),
    });
    request.set_timeout(CALL_TIMEOUT);
    let described = client.connection().workflow_service().describe_workflow_execution(request).await;
    let info = match described {
        Ok(answer) => answer.into_inner().workflow_execution_info,
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => {
            return Err(SendError::Unavailable(format!(
                "whether ticket {ticket_id} is open could not be found out: Temporal answers {:?} ({}); repeat the order",
                status.code(),
                status.message()
            )));
        }
    };
    Ok(match info.map(|info| info.status()) {
        None => Answer::Unknown(format!(
            "Temporal knows no such ticket in namespace {:?}: check the id and TEMPORAL_NAMESPACE; a ticket is forgotten \
             after the namespace's retention, and one that has not started yet has a record in the tickets topic only",
            client.namespace()
        )),
        Some(WorkflowExecutionStatus::Running) => {
            Answer::Refused(format!("Temporal does not take it ({}); repeat it", status.message()))
        }
        Some(WorkflowExecutionStatus::Completed) => Answer::Ended("it has ended as COMPLETED".to_owned()),
        Some(status) => {
            Answer::Ended(format!("it has ended already, {}; to run it again, re-drive it", ending(status)))
        }
    })
}

fn ending(status: WorkflowExecutionStatus) -> &'static str {
    match status {
        WorkflowExecutionStatus::Canceled => "cancelled",
        WorkflowExecutionStatus::Terminated => "terminated by somebody, without a result",
        WorkflowExecutionStatus::TimedOut => "timed out",
        _ => "as FAILED",
    }
}

async fn unanswered(client: &Client, task_queue: &str, ticket_id: &str, patience: Duration) -> SendError {
    let why = match newest_poll(client, task_queue, None).await {
        Ok(None) => format!("no worker polls the task queue {task_queue}: start one (worker-agents run)"),
        Ok(Some(_)) => format!(
            "look at the logs of the workers that poll the task queue {task_queue}, and whether it waits for one of another \
             version (worker-agents explain {ticket_id})"
        ),
        Err(status) => format!("Temporal does not say whether a worker polls ({})", status.message()),
    };
    SendError::Unanswered(format!(
        "ticket {ticket_id} did not answer within {} s; {why}. the order may still reach it; to repeat it is harmless",
        patience.as_secs()
    ))
}
