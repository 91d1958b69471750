//! What the server adds to a command when it makes an event of it.

use std::time::Duration;

use temporalio_common::protos::temporal::api::history::v1::ActivityTaskScheduledEventAttributes;

/// Completes an activity's time-outs and retry policy. (Runs of tickets have no time-out, which would bound all of these.)
pub(crate) fn complete(activity: &mut ActivityTaskScheduledEventAttributes) {
    let whole = time(activity.schedule_to_close_timeout);
    let bounded = |part: Option<Duration>| match (part, whole) {
        (Some(part), Some(whole)) => Some(part.min(whole)),
        (part, whole) => part.or(whole),
    };
    let run = bounded(time(activity.start_to_close_timeout));
    let silence = time(activity.heartbeat_timeout).map(|silence| run.map_or(silence, |run| silence.min(run)));
    let wait = bounded(time(activity.schedule_to_start_timeout));
    activity.schedule_to_start_timeout = wait.and_then(|time| time.try_into().ok());
    activity.start_to_close_timeout = run.and_then(|time| time.try_into().ok());
    activity.heartbeat_timeout = silence.and_then(|time| time.try_into().ok());

    let policy = activity.retry_policy.get_or_insert_default();
    let first = time(policy.initial_interval).unwrap_or(Duration::from_secs(1));
    let longest = time(policy.maximum_interval).unwrap_or(first * 100);
    policy.initial_interval = first.try_into().ok();
    policy.maximum_interval = longest.try_into().ok();
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = 2.0;
    }
}

/// A time; unset and zero are the same.
fn time(time: Option<impl TryInto<Duration>>) -> Option<Duration> {
    time.and_then(|time| time.try_into().ok()).filter(|time| !time.is_zero())
}
