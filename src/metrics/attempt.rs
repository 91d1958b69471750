//! Which attempts a task type's metrics count.

use ticket_activities::AttemptEnd;
use ticket_schemas::TaskType;

/// The provider of an attempt of this type that has ended here. `None`: it is of another one, no provider of this worker took
/// it, or it was handed back and goes on elsewhere.
pub(super) fn ended_here<'a>(end: &AttemptEnd<'a>, task_type: TaskType) -> Option<&'a str> {
    end.provider.filter(|_| end.task_type == task_type.as_str() && end.end != "handed_back")
}

/// An attempt of three seconds.
#[cfg(test)]
pub(super) fn of_three_seconds<'a>(task_type: &'static str, provider: Option<&'a str>, end: &'a str) -> AttemptEnd<'a> {
    let duration = std::time::Duration::from_secs(3);
    AttemptEnd { ticket_id: "t", task_type, provider, attempt: 1, end, compensation_reason: None, duration }
}
