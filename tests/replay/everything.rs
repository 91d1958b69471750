//! A workflow that asks for one of each thing that the gate compares and tickets do not all ask for.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the macros expand to undocumented public marker types"
)]

use std::time::Duration;

use temporalio_common::{ActivityCloseTimeouts, MemoValue, Priority, RetryPolicy};
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{
    ActivityOptions, CancellableFuture as _, ContinueAsNewOptions, LocalActivityOptions, SignalWorkflowOptions,
    SyncWorkflowContext, WorkflowContext, WorkflowResult,
};

use crate::parcel::Activities;

/// One of each.
#[workflow]
#[derive(Default)]
pub struct Everything {
    told: bool,
}

#[workflow_methods]
impl Everything {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, input: String) -> WorkflowResult<String> {
        if input == "the next run" {
            return Ok(input);
        }
        ctx.patched("one-of-each");
        ctx.upsert_memo([("note", Some(MemoValue::new("a note".to_owned())))])?;
        let local = LocalActivityOptions::builder()
            .start_to_close_timeout(Duration::from_secs(5))
            .include_arguments_in_marker(true)
            .build();
        let picked = ctx.execute_local_activity(Activities::pick, input, local).await?;
        let bare = ActivityOptions::start_to_close_timeout(Duration::from_secs(20));
        ctx.execute_activity(Activities::weigh, picked.clone(), bare).await?;
        let close_timeouts = ActivityCloseTimeouts::ScheduleAndStartToClose {
            schedule_to_close: Duration::from_secs(90),
            start_to_close: Duration::from_secs(30),
        };
        let full = ActivityOptions::with_close_timeouts(close_timeouts)
            .schedule_to_start_timeout(Duration::from_secs(60))
            .heartbeat_timeout(Duration::from_secs(15))
            .retry_policy(
                RetryPolicy::builder()
                    .initial_interval(Duration::from_secs(2))
                    .backoff_coefficient(1.5)
                    .maximum_interval(Duration::from_secs(8))
                    .maximum_attempts(4)
                    .non_retryable_error_types(["hopeless"])
                    .build(),
            )
            .priority(Priority::builder().priority_key(2).build())
            .build();
        ctx.execute_activity(Activities::ship, picked.clone(), full).await?;
        let nobody = ctx.external_workflow("nobody", None);
        let heard = nobody.signal(Everything::hear, "a word".to_owned(), SignalWorkflowOptions::default()).await;
        let long = ctx.timer(Duration::from_secs(600));
        ctx.wait_condition(|s: &Self| s.told).await?;
        long.cancel();
        ctx.timer(Duration::from_millis(50)).await;
        let options = ContinueAsNewOptions::builder().run_timeout(Duration::from_secs(300)).build();
        let next = if heard.is_err() { "the next run" } else { "a run that never ends" };
        ctx.continue_as_new(next.to_owned(), options)?;
        Ok(picked)
    }

    #[signal]
    pub fn hear(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _word: String) {}

    #[update]
    pub fn tell(&mut self, _ctx: &mut SyncWorkflowContext<Self>, word: String) -> String {
        self.told = true;
        format!("{word}, understood")
    }
}
