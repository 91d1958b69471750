//! `/api/v1/tickets/…`: how a ticket stands, and what operators order of it. What an order comes to is the ticket's own
//! decision (`workflows/src/machine/orders.rs`); here it is given, in the caller's name.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use ticket_schemas::TicketId;
use ticket_workflows::Verb;
use utoipa::ToSchema;

use super::api::Api;
use super::caller::Caller;
use super::given::{OfTicket, Reason, Seconds, TicketPath, whole};
use super::problem::{Kind, OrderProblems, Problem, TicketProblems};
use crate::explain::Account;
use crate::orders::Answer;

/// An order that needs nothing but a reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRequest {
    why: Reason,
}

/// An order to stop the work.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelOrder {
    why: Reason,
    /// The ticket that needs the place.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9._:-]+$")]
    preempted_by: Option<TicketId>,
    /// Report after at most so many seconds, even if the work is not known to have stopped.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 3600)]
    grace_seconds: Option<Seconds<3600>>,
}

/// An order to move the deadline.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadlineOrder {
    why: Reason,
    /// The new deadline, epoch milliseconds: later than the present one.
    #[serde(deserialize_with = "whole")]
    #[schema(example = 253_402_300_799_999_i64)]
    deadline_ms: i64,
}

/// An order to wait no longer for a ticket.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DependencyOrder {
    why: Reason,
    /// The ticket that is not to be waited for.
    #[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9._:-]+$", example = "predecessor")]
    dependency: TicketId,
}

/// What an order came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderReply {
    ticket_id: String,
    /// What was ordered.
    verb: &'static str,
    /// What follows.
    note: String,
}

/// How a ticket stands: its state, what it waits for, its attempts, and where it is in the Temporal UI.
#[utoipa::path(
    get,
    path = "/api/v1/tickets/{ticket_id}",
    tag = "tickets",
    params(TicketPath),
    responses((status = 200, description = "How it stands", body = Account), TicketProblems),
    security(("bearer" = []))
)]
pub(super) async fn ticket(State(api): State<Api>, path: TicketPath) -> Result<Json<Account>, Problem> {
    api.account(&path.ticket_id).await.map(Json)
}

/// Declares the operation of a verb: its path, its body, and the order that it makes of that.
macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $path:literal, |$body:ident: $request:ident| $verb:expr) => {
        $(#[$doc])*
        #[utoipa::path(
            post,
            path = $path,
            tag = "tickets",
            params(TicketPath),
            request_body = $request,
            responses((status = 200, description = "The ticket is so, or on its way there", body = OrderReply), OrderProblems),
            security(("bearer" = []))
        )]
        pub(super) async fn $name(
            State(api): State<Api>,
            Extension(caller): Extension<Caller>,
            OfTicket { ticket_id, body: $body }: OfTicket<$request>,
        ) -> Result<Json<OrderReply>, Problem> {
            let why = $body.why.clone();
            order(&api, ticket_id, &caller, $verb, &why).await
        }
    };
}

operation!(
    /// Stops the work, and reports the ticket as FAILED with the code `cancelled`.
    cancel, "/api/v1/tickets/{ticket_id}/cancel", |body: CancelOrder| Verb::Cancel {
        preempted_by: body.preempted_by.map(|id| id.as_str().to_owned()),
        grace_ms: body.grace_seconds.map(Seconds::as_millis),
    }
);
operation!(
    /// Begins no further attempt; one that runs goes on.
    pause, "/api/v1/tickets/{ticket_id}/pause", |body: OrderRequest| Verb::Pause
);
operation!(
    /// Undoes a pause.
    resume, "/api/v1/tickets/{ticket_id}/resume", |body: OrderRequest| Verb::Resume
);
operation!(
    /// Ends the wait for a retry.
    retry, "/api/v1/tickets/{ticket_id}/retry", |body: OrderRequest| Verb::RetryNow
);
operation!(
    /// Moves the deadline to a later time.
    extend_deadline, "/api/v1/tickets/{ticket_id}/extend-deadline", |body: DeadlineOrder| Verb::ExtendDeadline {
        deadline_ms: body.deadline_ms
    }
);
operation!(
    /// Waits no longer for a ticket that this one depends on.
    skip_dependency, "/api/v1/tickets/{ticket_id}/skip-dependency", |body: DependencyOrder| Verb::SkipDependency {
        ticket_id: body.dependency.as_str().to_owned()
    }
);
operation!(
    /// Tries an undo that failed once more, with a COMPENSATE ticket of its own.
    resume_compensation, "/api/v1/tickets/{ticket_id}/compensation/resume", |body: OrderRequest| Verb::ResumeCompensation
);
operation!(
    /// Leaves what the ticket did as it is, and closes it as failed.
    skip_compensation, "/api/v1/tickets/{ticket_id}/compensation/skip", |body: OrderRequest| Verb::SkipCompensation
);

async fn order(
    api: &Api,
    ticket_id: String,
    caller: &Caller,
    verb: Verb,
    why: &Reason,
) -> Result<Json<OrderReply>, Problem> {
    let name = verb.as_str();
    match api.order(&ticket_id, caller, verb, why).await? {
        Answer::Done(note) => Ok(Json(OrderReply { ticket_id, verb: name, note })),
        Answer::Refused(note) | Answer::Ended(note) => Err(Problem::new(Kind::Refused, note).of(&ticket_id)),
        Answer::Unknown(note) => Err(Problem::new(Kind::UnknownTicket, note).of(&ticket_id)),
    }
}
