//! The activities that `ticket-workflows` declares.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the macro expands to undocumented marker types"
)]

use std::sync::Arc;
use std::time::Duration;

use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use ticket_workflows::{
    DependencyState, ExecuteRequest, ExecuteResponse, Finish, Finished, Found, Owed, Registered, Registration, Report,
    StatusEnd, StatusUpdate, Tell, Undoing, Wanted,
};
use tracing::Instrument as _;

use crate::clock::now_ms;
use crate::compensation;
use crate::dependencies;
use crate::drain::Drain;
use crate::logs::Logs;
use crate::outputs;
use crate::ports::{Observer, PublishError, Registrations, ResultSink, TicketSink, Tracer};
use crate::registry::ExecutorRegistry;
use crate::ticket_service::{TicketService, TicketServiceError, settle};
use crate::trace;

/// How long the ticket service gets within the workflow task that ends a ticket. The task is worth more than the update.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long one try of the activity of its own may take; the service's client has a limit of its own below it.
const LATER_TRY: Duration = Duration::from_secs(25);

/// What the activities are made of.
pub struct ActivityParts {
    /// The executors.
    pub registry: ExecutorRegistry,
    /// Where results go.
    pub results: Arc<dyn ResultSink>,
    /// The platform's ticket service, if there is one.
    pub ticket_service: Option<Arc<dyn TicketService>>,
    /// `REPORT_STUCK_AFTER_SECONDS`.
    pub report_stuck_after: Duration,
    /// Where tickets go that undo failed ones.
    pub tickets: Arc<dyn TicketSink>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// What makes spans.
    pub tracer: Arc<dyn Tracer>,
    /// The process-wide drain flag.
    pub drain: Drain,
    /// `AGENT_ID`.
    pub agent_id: String,
    /// What the Service Registry calls this worker.
    pub registrations: Arc<dyn Registrations>,
    /// Where attempts' logs go.
    pub logs: Logs,
}

/// Implements the declared activities. Clones share everything.
#[derive(Clone)]
pub struct Activities(pub(crate) Arc<ActivityParts>);

impl Activities {
    /// Activities made of `parts`.
    #[must_use]
    pub fn new(parts: ActivityParts) -> Self {
        Self(Arc::new(parts))
    }
}

#[activities]
impl Activities {
    /// Runs one attempt. Its error means: run it again elsewhere, no attempt is used up.
    #[activity(name = "execute", definition = ticket_workflows::ExecuteTask)]
    pub async fn execute(
        self: Arc<Self>,
        ctx: ActivityContext,
        request: ExecuteRequest,
    ) -> Result<ExecuteResponse, ActivityError> {
        let context = self.0.tracer.begin(&trace::carried(&request.ticket));
        let span = tracing::info_span!(
            "task_execution",
            ticket_id = %request.ticket.ticket_id,
            task_type = request.ticket.task_type.as_str(),
            attempt = request.attempt,
            trace_id = trace::trace_id(&context),
        );
        trace::within(context, self.attempt(ctx, request)).instrument(span).await
    }

    /// Publishes a result.
    #[activity(name = "report", definition = ticket_workflows::PublishReport)]
    pub async fn report(self: Arc<Self>, _ctx: ActivityContext, report: Report) -> Result<(), ActivityError> {
        self.published(&report).await?;
        Ok(())
    }

    /// Publishes a result, tells the ticket service and those that depend on the ticket; none waits for another.
    #[activity(name = "finish", definition = ticket_workflows::FinishTicket)]
    pub async fn finish(self: Arc<Self>, ctx: ActivityContext, finish: Finish) -> Result<Finished, ActivityError> {
        let ticket_id = finish.tell.outcome.ticket_id.as_str();
        let noting = async {
            match &finish.status {
                Some(update) => self.noted(update, FIRST_TRY).await.map(Some),
                None => Ok(None),
            }
        };
        let (published, told, status) = trace::within(finish.report.trace.clone(), async {
            futures::join!(self.published(&finish.report), dependencies::tell(&ctx, &finish.tell), noting)
        })
        .await;
        if let Err(error) = &published {
            tracing::warn!(ticket_id, %error, "the result is published by an activity of its own");
        }
        if let Err(error) = &told {
            tracing::warn!(ticket_id, %error, "dependents are told by an activity of its own");
        }
        if let Err(error) = &status {
            tracing::info!(ticket_id, %error, "the ticket service is told by an activity of its own");
        }
        Ok(Finished { published: published.is_ok(), told: told.is_ok(), status: status.unwrap_or_default() })
    }

    /// Tells the ticket service a status.
    #[activity(name = "set_status", definition = ticket_workflows::SetStatus)]
    pub async fn set_status(
        self: Arc<Self>,
        _ctx: ActivityContext,
        update: StatusUpdate,
    ) -> Result<StatusEnd, ActivityError> {
        self.noted(&update, LATER_TRY).await.map_err(|error| error.to_be_tried_again())
    }

    /// Tells workflows how a ticket ended.
    #[activity(name = "tell", definition = ticket_workflows::TellDependents)]
    pub async fn tell(self: Arc<Self>, ctx: ActivityContext, tell: Tell) -> Result<(), ActivityError> {
        Ok(dependencies::tell(&ctx, &tell).await?)
    }

    /// Finds out how predecessors stand.
    #[activity(name = "register", definition = ticket_workflows::RegisterDependencies)]
    pub async fn register(
        self: Arc<Self>,
        ctx: ActivityContext,
        registration: Registration,
    ) -> Result<Registered, ActivityError> {
        Ok(dependencies::register(&ctx, &registration, self.0.ticket_service.as_deref()).await?)
    }

    /// How one ticket stands.
    #[activity(name = "look", definition = ticket_workflows::LookAtTicket)]
    pub async fn look(
        self: Arc<Self>,
        ctx: ActivityContext,
        ticket_id: String,
    ) -> Result<DependencyState, ActivityError> {
        Ok(dependencies::look(&ctx, &ticket_id, self.0.ticket_service.as_deref()).await?)
    }

    /// Outputs of completed tickets.
    #[activity(name = "collect", definition = ticket_workflows::CollectOutputs)]
    pub async fn collect(self: Arc<Self>, ctx: ActivityContext, wanted: Wanted) -> Result<Found, ActivityError> {
        Ok(outputs::collect(&ctx, &wanted).await?)
    }

    /// Creates the ticket that undoes a failed one.
    #[activity(name = "compensate", definition = ticket_workflows::CreateCompensation)]
    pub async fn compensate(self: Arc<Self>, _ctx: ActivityContext, undoing: Undoing) -> Result<(), ActivityError> {
        let creating = compensation::create(self.0.tickets.as_ref(), self.0.ticket_service.as_deref(), &undoing);
        Ok(trace::within(undoing.trace.clone(), creating).await?)
    }
}

impl Activities {
    async fn published(&self, report: &Report) -> Result<(), PublishError> {
        if let Err(error) = self.0.results.publish(report).await {
            let ticket_id = report.result.ticket_id.as_str();
            self.still_owed(ticket_id, report.result.timestamp, Owed::Results, &error);
            return Err(error);
        }
        self.0.observer.ticket_reported(report);
        self.0.tracer.ticket_reported(report);
        Ok(())
    }

    async fn noted(&self, update: &StatusUpdate, within: Duration) -> Result<StatusEnd, TicketServiceError> {
        let end = settle(self.0.ticket_service.as_deref(), update, within).await.inspect_err(|error| {
            self.still_owed(&update.ticket_id, update.since_ms, Owed::TicketService, error);
        })?;
        self.0.observer.status_settled(update, &end);
        Ok(end)
    }

    fn still_owed(&self, ticket_id: &str, since_ms: i64, owed: Owed, error: &dyn std::error::Error) {
        let owed_for = Duration::from_millis(u64::try_from(now_ms() - since_ms).unwrap_or(0));
        if owed_for >= self.0.report_stuck_after {
            self.0.observer.report_stuck(ticket_id, owed, &error.to_string());
        }
    }
}
