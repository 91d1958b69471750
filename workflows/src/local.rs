//! What is done within the workflow task.

use std::time::Duration;

use temporalio_common::data_converters::TemporalDeserializable;
use temporalio_common::error::ActivityExecutionError;
use temporalio_common::{ActivityDefinition, RetryPolicy};
use temporalio_workflow::{LocalActivityOptions, WorkflowCancellationToken, WorkflowContext};

/// How long a local activity may take before it becomes an activity of its own.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Does something within the workflow task, in one try that a cancel of the workflow does not reach.
pub(crate) async fn locally<W, A>(
    ctx: &WorkflowContext<W>,
    activity: A,
    input: A::Input,
) -> Result<A::Output, ActivityExecutionError>
where
    A: ActivityDefinition,
    A::Output: TemporalDeserializable,
{
    let stop = CancelledWhenDropped(WorkflowCancellationToken::new());
    let options = LocalActivityOptions::builder()
        .start_to_close_timeout(TIMEOUT)
        .schedule_to_close_timeout(TIMEOUT)
        .retry_policy(RetryPolicy::builder().maximum_attempts(1).build())
        .cancellation_token(stop.0.clone())
        .build();
    ctx.execute_local_activity(activity, input, options).await
}

/// While a local activity is pending, the SDK has its token hold the activity and the activity its token, both with the
/// workflow's context. A full cache lets go of workflows whose local activities are pending, and only a cancelled token lets
/// go of the rest. Nobody hears of that: what such a workflow commands is dropped with it.
struct CancelledWhenDropped(WorkflowCancellationToken);

impl Drop for CancelledWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
