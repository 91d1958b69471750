//! The activities that `ticket-workflows` declares.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the macro expands to undocumented marker types"
)]

use std::sync::Arc;

use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use ticket_workflows::{
    DependencyState, ExecuteRequest, ExecuteResponse, Finish, Finished, Found, Registered, Registration, Report,
    Settlement, Tell, Undoing, Wanted,
};
use tracing::Instrument as _;

use crate::compensation;
use crate::dependencies;
use crate::drain::Drain;
use crate::outputs;
use crate::ports::{CompensationService, Observer, PublishError, ResultSink, TicketSink};
use crate::registry::ExecutorRegistry;

/// What the activities are made of.
pub struct ActivityParts {
    /// The executors.
    pub registry: ExecutorRegistry,
    /// Where results go.
    pub results: Arc<dyn ResultSink>,
    /// Where tickets go that undo failed ones.
    pub tickets: Arc<dyn TicketSink>,
    /// The ticket service, as far as compensations go; `None`: it is told nothing of them.
    pub compensations: Option<Arc<dyn CompensationService>>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// The process-wide drain flag.
    pub drain: Drain,
    /// `AGENT_ID`.
    pub agent_id: String,
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
        let span = tracing::info_span!(
            "task_execution",
            ticket_id = %request.ticket.ticket_id,
            task_type = request.ticket.task_type.as_str(),
            attempt = request.attempt,
        );
        self.attempt(ctx, request).instrument(span).await
    }

    /// Publishes a result.
    #[activity(name = "report", definition = ticket_workflows::PublishReport)]
    pub async fn report(self: Arc<Self>, _ctx: ActivityContext, report: Report) -> Result<(), ActivityError> {
        self.published(&report).await?;
        Ok(())
    }

    /// Publishes a result and tells those that depend on its ticket; neither waits for the other.
    #[activity(name = "finish", definition = ticket_workflows::FinishTicket)]
    pub async fn finish(self: Arc<Self>, ctx: ActivityContext, finish: Finish) -> Result<Finished, ActivityError> {
        let ticket_id = finish.tell.outcome.ticket_id.as_str();
        let (published, told) = futures::join!(self.published(&finish.report), dependencies::tell(&ctx, &finish.tell));
        if let Err(error) = &published {
            tracing::warn!(ticket_id, %error, "the result is published by an activity of its own");
        }
        if let Err(error) = &told {
            tracing::warn!(ticket_id, %error, "dependents are told by an activity of its own");
        }
        Ok(Finished { published: published.is_ok(), told: told.is_ok() })
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
        Ok(dependencies::register(&ctx, &registration).await?)
    }

    /// How one ticket stands.
    #[activity(name = "look", definition = ticket_workflows::LookAtTicket)]
    pub async fn look(
        self: Arc<Self>,
        ctx: ActivityContext,
        ticket_id: String,
    ) -> Result<DependencyState, ActivityError> {
        Ok(dependencies::look(&ctx, &ticket_id).await?)
    }

    /// Outputs of completed tickets.
    #[activity(name = "collect", definition = ticket_workflows::CollectOutputs)]
    pub async fn collect(self: Arc<Self>, ctx: ActivityContext, wanted: Wanted) -> Result<Found, ActivityError> {
        Ok(outputs::collect(&ctx, &wanted).await?)
    }

    /// Creates the ticket that undoes a failed one.
    #[activity(name = "compensate", definition = ticket_workflows::CreateCompensation)]
    pub async fn compensate(self: Arc<Self>, _ctx: ActivityContext, undoing: Undoing) -> Result<(), ActivityError> {
        Ok(compensation::create(self.0.tickets.as_ref(), self.0.compensations.as_deref(), &undoing).await?)
    }

    /// Tells what became of a compensation.
    #[activity(name = "settle", definition = ticket_workflows::SettleCompensation)]
    pub async fn settle(self: Arc<Self>, _ctx: ActivityContext, settlement: Settlement) -> Result<(), ActivityError> {
        Ok(compensation::settle(self.0.compensations.as_deref(), &settlement).await?)
    }
}

impl Activities {
    async fn published(&self, report: &Report) -> Result<(), PublishError> {
        self.0.results.publish(report).await?;
        self.0.observer.ticket_reported(report);
        Ok(())
    }
}
