//! Activities that are tried until they succeed.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_workflow::{ActivityOptions, WorkflowCancellationToken};

/// Longest pause between two tries.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// Tried for ever, each try for `timeout` at most. It ends with `stop`, without one with the workflow's cancellation.
pub(crate) fn until_done(
    summary: &str,
    timeout: Duration,
    stop: impl Into<Option<WorkflowCancellationToken>>,
) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(timeout)
        .maybe_cancellation_token(stop.into())
        .retry_policy(RetryPolicy::builder().maximum_interval(MAX_INTERVAL).build())
        .summary(summary.to_owned())
        .build()
}
