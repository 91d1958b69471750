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
use ticket_workflows::{ExecuteRequest, ExecuteResponse, Report};
use tracing::Instrument as _;

use crate::drain::Drain;
use crate::ports::{Observer, ResultSink};
use crate::registry::ExecutorRegistry;

/// What the activities are made of.
pub struct ActivityParts {
    /// The executors.
    pub registry: ExecutorRegistry,
    /// Where results go.
    pub results: Arc<dyn ResultSink>,
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
        self.0.results.publish(&report).await?;
        self.0.observer.ticket_reported(&report);
        Ok(())
    }
}
