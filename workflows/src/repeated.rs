//! Activities that are tried until they succeed.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_workflow::{ActivityOptions, WorkflowCancellationToken};

/// Longest pause between two tries.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// Longest pause between two tries at a peer that thousands of tickets may wait for at once.
const SLOW_INTERVAL: Duration = Duration::from_secs(60);

/// Tried for ever, each try for `timeout` at most. It ends with `stop`, without one with the workflow's cancellation.
pub(crate) fn until_done(
    summary: &str,
    timeout: Duration,
    stop: impl Into<Option<WorkflowCancellationToken>>,
) -> ActivityOptions {
    repeated(summary, timeout, stop, MAX_INTERVAL)
}

/// As [`until_done`], with pauses up to a minute.
pub(crate) fn until_done_slowly(
    summary: &str,
    timeout: Duration,
    stop: impl Into<Option<WorkflowCancellationToken>>,
) -> ActivityOptions {
    repeated(summary, timeout, stop, SLOW_INTERVAL)
}

fn repeated(
    summary: &str,
    timeout: Duration,
    stop: impl Into<Option<WorkflowCancellationToken>>,
    interval: Duration,
) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(timeout)
        .maybe_cancellation_token(stop.into())
        .retry_policy(RetryPolicy::builder().maximum_interval(interval).build())
        .summary(summary.to_owned())
        .build()
}
