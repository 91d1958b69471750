//! `TicketWaiters`: who waits for a ticket that nobody has heard of, or that too many wait for. It starts with the first of
//! them and closes when it has told all.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "the macro expands to undocumented public marker types"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use temporalio_common::RetryPolicy;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ActivityOptions, ContinueAsNewOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
    select,
};

use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyOutcome, DependencyState, Subscription, Tell};

/// Workflow type as it stands in histories. Changing it orphans every open list.
pub const WAITERS_TYPE: &str = "TicketWaiters";
/// How long one try of telling, or of looking, may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest pause between two tries.
const MAX_INTERVAL: Duration = Duration::from_secs(10);
/// A workflow takes 10,000 signals; after so many the list goes on as a new run.
const SIGNALS_OF_A_RUN: usize = 4_000;

/// Input of `TicketWaiters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitersInput {
    /// The ticket waited for.
    pub ticket_id: String,
    /// How long to hear nothing, in milliseconds, before looking for the ticket.
    pub look_after_ms: u64,
    /// Who waits already.
    #[serde(default)]
    pub waiters: BTreeSet<String>,
}

/// Who waits for one ticket.
#[workflow]
pub struct TicketWaiters {
    input: WaitersInput,
    outcome: Option<DependencyState>,
    signals: usize,
}

#[workflow_methods]
impl TicketWaiters {
    #[init]
    pub fn new(_ctx: &WorkflowContextView, input: WaitersInput) -> Self {
        Self { input, outcome: None, signals: 0 }
    }

    /// Waits for the outcome, tells it, and closes.
    #[run(name = "TicketWaiters")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        loop {
            let look_after = Duration::from_millis(ctx.state(|s| s.input.look_after_ms.max(1_000)));
            let before = ctx.state(|s| s.signals);
            let mut heard = false;
            select! {
                _ = ctx.wait_condition(|s: &Self| s.outcome.is_some() || s.signals >= SIGNALS_OF_A_RUN) => heard = true,
                _ = ctx.timer(look_after) => {}
            }
            if !heard {
                let ticket_id = ctx.state(|s| s.input.ticket_id.clone());
                match ctx.execute_activity(TicketActivities::look, ticket_id, options("look")).await? {
                    DependencyState::Open => {}
                    // Those that wait have given up, or look for themselves.
                    DependencyState::Unknown if ctx.state(|s| s.signals == before) => return Ok(()),
                    DependencyState::Unknown => {}
                    ended => ctx.state_mut(|s| s.outcome = Some(ended)),
                }
            }
            if ctx.state(|s| s.outcome.is_some()) {
                break;
            }
            if ctx.state(|s| s.signals >= SIGNALS_OF_A_RUN) {
                let input = ctx.state(|s| s.input.clone());
                ctx.continue_as_new(input, ContinueAsNewOptions::default())?;
            }
        }
        while let Some(tell) = ctx.state_mut(Self::take_untold) {
            ctx.execute_activity(TicketActivities::tell, tell, options("tell")).await?;
        }
        Ok(())
    }

    /// Somebody waits.
    #[signal(name = "subscribe")]
    pub fn subscribe(&mut self, _ctx: &mut SyncWorkflowContext<Self>, subscription: Subscription) {
        self.signals += 1;
        self.input.waiters.insert(subscription.workflow_id);
    }

    /// The ticket ended.
    #[signal(name = "dependency_outcome")]
    pub fn dependency_outcome(&mut self, _ctx: &mut SyncWorkflowContext<Self>, told: DependencyOutcome) {
        self.signals += 1;
        if told.ticket_id == self.input.ticket_id {
            self.outcome = Some(told.outcome);
        }
    }
}

impl TicketWaiters {
    fn take_untold(&mut self) -> Option<Tell> {
        let subscribers = std::mem::take(&mut self.input.waiters);
        let outcome = self.outcome.clone()?;
        let ticket_id = self.input.ticket_id.clone();
        (!subscribers.is_empty()).then_some(Tell { outcome: DependencyOutcome { ticket_id, outcome }, subscribers })
    }
}

fn options(summary: &str) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(TIMEOUT)
        .retry_policy(RetryPolicy::builder().maximum_interval(MAX_INTERVAL).build())
        .summary(summary.to_owned())
        .build()
}
