//! `/api/v1/tasks/…`: what the orchestrator calls (`contracts/engine.md §8`). It cancels a ticket to make room for another
//! one, and flow C announces tasks that come as tickets through Kafka anyway.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use ticket_schemas::TicketId;
use ticket_workflows::Verb;
use utoipa::ToSchema;

use super::api::Api;
use super::caller::Caller;
use super::given::{Body, OfTicket, Reason, Seconds, TaskPath, TicketPath};
use super::problem::{BodyProblems, Kind, OrderProblems, Problem, TicketProblems};
use crate::explain::Account;
use crate::orders::Answer;

/// A request to cancel a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct CancelRequest {
    /// Why; `preemption` when another ticket needs the place.
    reason: Reason,
    /// The ticket that needs the place.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9._:-]+$")]
    preempted_by: Option<TicketId>,
    /// How long to wait for the work to stop before the ticket is reported, in seconds.
    #[serde(default = "usual_grace")]
    #[schema(value_type = u64, minimum = 0, maximum = 300)]
    grace_period_seconds: Seconds<300>,
}

fn usual_grace() -> Seconds<300> {
    Seconds(30)
}

/// A ticket is being cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Cancelled {
    /// Always true; what is not so is a problem.
    success: bool,
    /// The ticket.
    ticket_id: String,
    /// Why, as given.
    reason: String,
    /// Always false: the ticket's history is its checkpoint, and nothing reads another.
    checkpoint_saved: bool,
    /// Where the checkpoint is.
    #[schema(required = true)]
    checkpoint_key: Option<String>,
    /// What follows.
    message: String,
}

/// A task that flow C announces. What else it sends is not looked at.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct TaskRequest {
    /// `task_` and the ticket's id.
    task_id: String,
    /// The ticket.
    #[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9._:-]+$")]
    ticket_id: TicketId,
}

/// A task is taken note of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TaskAccepted {
    task_id: String,
    ticket_id: String,
    /// What happens.
    message: &'static str,
}

/// How a task stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Task {
    task_id: String,
    /// A status of execution tickets.
    status: &'static str,
    /// 1 once it has ended, and 0 before: nobody knows how far a task is.
    progress: f64,
    /// How it ended, once it has completed; the whole result is in `execution.results`.
    #[schema(value_type = Option<Object>, required = true)]
    result: Option<serde_json::Value>,
    /// Why it failed.
    #[schema(required = true)]
    error: Option<String>,
}

impl Task {
    fn of(task_id: String, account: Account) -> Self {
        let (status, ended) = match account.state.as_str() {
            "completed" => ("COMPLETED", true),
            "failed" | "cancelled" | "terminated" | "timed_out" => ("FAILED", true),
            "creating_compensation" | "compensating" | "compensation_failed" | "settling_compensation" => {
                ("COMPENSATING", false)
            }
            "executing" | "stopping" | "retry_wait" | "paused" | "reporting" | "report_stuck" => ("RUNNING", false),
            _ => ("PENDING", false),
        };
        let completed = status == "COMPLETED";
        let error = account.error_code.map(|code| match &account.message {
            Some(message) => format!("{code}: {message}"),
            None => code,
        });
        Self {
            task_id,
            status,
            progress: if ended { 1.0 } else { 0.0 },
            result: completed.then(|| serde_json::json!({ "message": account.message })),
            error,
        }
    }
}

/// Cancels a ticket. Answers within 10 s, which is what the orchestrator waits; the grace begins then (INC-47).
#[utoipa::path(
    post,
    path = "/api/v1/tasks/{ticket_id}/cancel",
    tag = "tasks",
    params(TicketPath),
    request_body = CancelRequest,
    responses((status = 200, description = "The ticket is being cancelled", body = Cancelled), OrderProblems),
    security(("bearer" = []))
)]
pub(super) async fn cancel_task(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    OfTicket { ticket_id, body }: OfTicket<CancelRequest>,
) -> Result<Json<Cancelled>, Problem> {
    cancel(&api, &caller, &ticket_id, body).await
}

/// Takes note of a task. Nothing else: its ticket comes through Kafka.
#[utoipa::path(
    post,
    path = "/api/v1/tasks",
    tag = "tasks",
    request_body = TaskRequest,
    responses((status = 202, description = "Taken note of", body = TaskAccepted), BodyProblems),
    security(("bearer" = []))
)]
pub(super) async fn announce_task(Body(task): Body<TaskRequest>) -> (StatusCode, Json<TaskAccepted>) {
    let accepted = TaskAccepted {
        task_id: task.task_id,
        ticket_id: task.ticket_id.as_str().to_owned(),
        message: "the ticket runs once its record has come through Kafka",
    };
    (StatusCode::ACCEPTED, Json(accepted))
}

/// How a task stands.
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{task_id}",
    tag = "tasks",
    params(TaskPath),
    responses((status = 200, description = "How it stands", body = Task), TicketProblems),
    security(("bearer" = []))
)]
pub(super) async fn task(State(api): State<Api>, path: TaskPath) -> Result<Json<Task>, Problem> {
    let account = api.account(path.ticket_id()).await?;
    Ok(Json(Task::of(path.task_id, account)))
}

/// Cancels the ticket of a task.
#[utoipa::path(
    delete,
    path = "/api/v1/tasks/{task_id}",
    tag = "tasks",
    params(TaskPath),
    responses((status = 200, description = "The ticket is being cancelled", body = Cancelled), OrderProblems),
    security(("bearer" = []))
)]
pub(super) async fn delete_task(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: TaskPath,
) -> Result<Json<Cancelled>, Problem> {
    let request = CancelRequest {
        reason: Reason::of("its task was deleted"),
        preempted_by: None,
        grace_period_seconds: usual_grace(),
    };
    cancel(&api, &caller, path.ticket_id(), request).await
}

async fn cancel(
    api: &Api,
    caller: &Caller,
    ticket_id: &str,
    request: CancelRequest,
) -> Result<Json<Cancelled>, Problem> {
    let verb = Verb::Cancel {
        preempted_by: request.preempted_by.map(|id| id.as_str().to_owned()),
        grace_ms: Some(request.grace_period_seconds.as_millis()),
    };
    match api.order(ticket_id, caller, verb, &request.reason).await? {
        Answer::Done(message) => Ok(Json(Cancelled {
            success: true,
            ticket_id: ticket_id.to_owned(),
            reason: request.reason.as_str().to_owned(),
            checkpoint_saved: false,
            checkpoint_key: None,
            message,
        })),
        Answer::Refused(note) => Err(Problem::new(Kind::Refused, note).of(ticket_id)),
        Answer::Ended(note) | Answer::Unknown(note) => Err(not_active(ticket_id).next(note)),
    }
}

/// In the contract's words.
pub(super) fn not_active(ticket_id: &str) -> Problem {
    Problem::new(Kind::NotActive, format!("Task {ticket_id} not found or not active")).of(ticket_id)
}
