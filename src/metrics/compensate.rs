//! Metrics of COMPENSATE (`contracts/observability.md §2`), which the platform's worker refers to and does not have (INC-78).

use prometheus::{HistogramVec, IntCounterVec, Registry};
use ticket_activities::AttemptEnd;
use ticket_schemas::TaskType;

use super::attempt::ended_here;
use super::{TASK_BUCKETS, counters, histograms};

/// Reasons that the platform's services give.
const REASONS: [&str; 3] = ["task_failed", "workflow_inconsistent", UNKNOWN];
/// No reason.
const UNKNOWN: &str = "unknown";

/// Metrics of COMPENSATE.
#[derive(Debug, Clone)]
pub struct CompensateMetrics {
    /// Attempts at COMPENSATE tickets, by action and success: success, failed.
    pub tasks: IntCounterVec,
    /// Their duration, by the ticket's reason and success.
    pub duration: HistogramVec,
}

impl CompensateMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            tasks: counters(
                registry,
                "worker_agent_compensation_tasks_executed_total",
                "attempts at COMPENSATE tickets",
                &["action", "status"],
            )?,
            duration: histograms(
                registry,
                "worker_agent_compensation_duration_seconds",
                "duration of attempts at COMPENSATE tickets",
                TASK_BUCKETS,
                &["reason", "status"],
            )?,
        })
    }

    /// An attempt has ended here. One whose action this worker does not have has undone nothing.
    pub(crate) fn note(&self, end: &AttemptEnd<'_>) {
        let Some(action) = ended_here(end, TaskType::Compensate) else { return };
        let status = if end.end == "completed" { "success" } else { "failed" };
        self.tasks.with_label_values(&[action, status]).inc();
        self.duration.with_label_values(&[label(end.compensation_reason), status]).observe(end.duration.as_secs_f64());
    }
}

/// The reason as a label: `other` for what a ticket has made up (INC-92).
fn label(reason: Option<&str>) -> &'static str {
    let reason = reason.unwrap_or(UNKNOWN);
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::super::attempt::of_three_seconds;
    use super::*;

    #[test]
    fn inc_78_undos_are_counted_by_action_and_timed_by_reason() {
        let metrics = CompensateMetrics::new(&Registry::new()).expect("metrics");
        let note = |task_type, provider, end, compensation_reason| {
            metrics.note(&AttemptEnd { compensation_reason, ..of_three_seconds(task_type, provider, end) });
        };
        let action = Some("rollback_execution");
        note("COMPENSATE", action, "completed", Some("task_failed"));
        note("COMPENSATE", action, "execution_failed", Some("made up by a ticket"));
        note("COMPENSATE", action, "timeout", None);
        note("COMPENSATE", action, "handed_back", None);
        note("COMPENSATE", None, "provider_not_available", None);
        note("EXECUTE", Some("local"), "completed", None);
        let tasks = |status| metrics.tasks.with_label_values(&["rollback_execution", status]).get();
        assert_eq!((tasks("success"), tasks("failed")), (1, 2));
        for (reason, status) in [("task_failed", "success"), ("other", "failed"), ("unknown", "failed")] {
            let timed = metrics.duration.with_label_values(&[reason, status]).get_sample_count();
            assert_eq!(timed, 1, "{reason} {status}");
        }
    }
}
