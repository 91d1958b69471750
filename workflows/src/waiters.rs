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
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, SyncWorkflowContext, TimerOptions, WorkflowContext, WorkflowContextView, WorkflowResult,
    WorkflowTermination, select,
};

use crate::declarations::TicketActivities;
use crate::dependencies::{DependencyOutcome, DependencyState, Subscription, Tell, understood};
use crate::repeated::until_done;

/// Workflow type as it stands in histories. Changing it orphans every open list.
pub const WAITERS_TYPE: &str = "TicketWaiters";
/// How long one try of telling, or of looking, may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A workflow takes 10,000 signals; after so many the list goes on as a new run.
const SIGNALS_OF_A_RUN: usize = 4_000;
/// Looks of a run; each is a few events.
const LOOKS_OF_A_RUN: usize = 200;
/// Longest time between two looks, in milliseconds. It doubles while the ticket is open.
const MAX_LOOK_AFTER_MS: u64 = 3_600_000;
/// Waiters told by one activity.
const TOLD_AT_ONCE: usize = 500;

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
        let mut looks = 0;
        // Not the workflow's own token: what is pending on that is kept for good when the cache lets the workflow go.
        let stop = ctx.cancellation_token().child_token();
        loop {
            let look_after = ctx.state(|s| s.input.look_after_ms.clamp(1_000, MAX_LOOK_AFTER_MS));
            let before = ctx.state(|s| s.signals);
            let patience = TimerOptions::builder(Duration::from_millis(look_after)).cancellation_token(stop.clone());
            let heard = select! {
                heard = ctx.wait_condition(|s: &Self| s.outcome.is_some() || s.signals >= SIGNALS_OF_A_RUN) => {
                    // A cancelled list tells nobody; those that wait look for themselves.
                    if heard.is_err() {
                        return Err(WorkflowTermination::cancelled_with_details("the waiting list was cancelled"));
                    }
                    true
                }
                _ = ctx.timer(patience.build()) => false,
            };
            if !heard {
                looks += 1;
                let ticket_id = ctx.state(|s| s.input.ticket_id.clone());
                let until_seen = until_done("look", TIMEOUT, stop.clone());
                match ctx.execute_activity(TicketActivities::look, ticket_id, until_seen).await? {
                    DependencyState::Open => ctx.state_mut(|s| s.input.look_after_ms = look_after.saturating_mul(2)),
                    // Those that wait have given up, or look for themselves.
                    DependencyState::Unknown if ctx.state(|s| s.signals == before) => return Ok(()),
                    DependencyState::Unknown => {}
                    ended => ctx.state_mut(|s| s.outcome = Some(ended)),
                }
            }
            if ctx.state(|s| s.outcome.is_some()) {
                break;
            }
            if looks >= LOOKS_OF_A_RUN || ctx.state(|s| s.signals >= SIGNALS_OF_A_RUN) {
                let input = ctx.state(|s| s.input.clone());
                ctx.continue_as_new(input, ContinueAsNewOptions::default())?;
            }
        }
        while let Some(tell) = ctx.state_mut(Self::take_untold) {
            ctx.execute_activity(TicketActivities::tell, tell, until_done("tell", TIMEOUT, stop.clone())).await?;
        }
        Ok(())
    }

    /// Somebody waits.
    #[signal(name = "subscribe")]
    pub fn subscribe(&mut self, _ctx: &mut SyncWorkflowContext<Self>, signal: RawValue) {
        self.signals += 1;
        self.input.waiters.extend(understood::<Subscription>(&signal).map(|subscription| subscription.workflow_id));
    }

    /// The ticket ended.
    #[signal(name = "dependency_outcome")]
    pub fn dependency_outcome(&mut self, _ctx: &mut SyncWorkflowContext<Self>, signal: RawValue) {
        self.signals += 1;
        let told = understood::<DependencyOutcome>(&signal).filter(|told| told.ticket_id == self.input.ticket_id);
        if let Some(told) = told {
            self.outcome = Some(told.outcome);
        }
    }
}

impl TicketWaiters {
    fn take_untold(&mut self) -> Option<Tell> {
        let outcome = self.outcome.clone()?;
        let later = self.input.waiters.iter().nth(TOLD_AT_ONCE).cloned();
        let later = later.map(|first| self.input.waiters.split_off(&first)).unwrap_or_default();
        let subscribers = std::mem::replace(&mut self.input.waiters, later);
        let ticket_id = self.input.ticket_id.clone();
        (!subscribers.is_empty()).then_some(Tell { outcome: DependencyOutcome { ticket_id, outcome }, subscribers })
    }
}
