//! What attempts and tickets came to, in numbers.

use ticket_activities::{AttemptEnd, Observer, ProviderChange, code, now_ms};
use ticket_schemas::TaskType;
use ticket_workflows::{Owed, Report, StatusEnd, StatusUpdate};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// Counts what activities do.
impl Observer for Metrics {
    fn attempt_started(&self, ticket_id: &str, task_type: &'static str, attempt: u32) {
        info!(ticket_id, task_type, attempt, "attempt_started");
        self.active_tasks.inc();
    }

    fn attempt_ended(&self, end: &AttemptEnd<'_>) {
        info!(
            ticket_id = end.ticket_id,
            task_type = end.task_type,
            attempt = end.attempt,
            end = end.end,
            duration_ms = end.duration.as_millis() as u64,
            "attempt_ended"
        );
        self.active_tasks.dec();
        self.executions.note(end);
        if !matches!(end.end, "completed" | "handed_back") {
            let attempt = if end.attempt > MOST_ATTEMPTS { "more".to_owned() } else { end.attempt.to_string() };
            self.task_retries.with_label_values(&[end.task_type, &attempt]).inc();
        }
        self.execute.note(end);
        self.compensate.note(end);
    }

    fn ticket_reported(&self, report: &Report) {
        let task_type = report.task_type.as_str();
        match &report.error_code {
            None => self.tickets_completed.with_label_values(&[task_type]).inc(),
            Some(code) => self.tickets_failed.with_label_values(&[task_type, code]).inc(),
        }
        self.task_duration.with_label_values(&[task_type]).observe(report.duration_ms as f64 / 1000.0);
        let simulated = report.result.result.metadata.get("simulated").is_some_and(|said| *said == true);
        if simulated && report.error_code.is_none() {
            self.tickets_simulated.with_label_values(&[task_type]).inc();
        }
        self.waited_for_dependencies(report);
        self.used_its_time(report);
        if report.error_code.as_deref() == Some(code::CANCELLED) {
            let preempted =
                report.result.result.metadata.get("cancel_reason").is_some_and(|reason| reason == PREEMPTION);
            self.tasks_cancelled.with_label_values(&[if preempted { PREEMPTION } else { "other" }]).inc();
            self.tasks_preempted.inc_by(preempted.into());
        }
    }

    fn status_settled(&self, update: &StatusUpdate, end: &StatusEnd) {
        let reason = match end {
            StatusEnd::Noted => return,
            StatusEnd::UnknownTicket => "unknown_ticket",
            StatusEnd::Refused { .. } => "refused",
            StatusEnd::NoService => "no_service",
        };
        let status = update.status.as_str();
        warn!(ticket_id = update.ticket_id, status, ?end, "ticket_status_lost");
        self.ticket_status_lost.with_label_values(&[reason]).inc();
    }

    fn provider_changed(&self, change: &ProviderChange<'_>) {
        let ProviderChange { ticket_id, task_type, from, to, reason } = *change;
        warn!(ticket_id, task_type = task_type.as_str(), from, to, reason, "provider_changed");
        if task_type == TaskType::Execute {
            self.execute.fell_back(from, to);
        }
    }

    fn report_stuck(&self, ticket_id: &str, owed: Owed, error: &str) {
        warn!(ticket_id, peer = owed.as_str(), error, "report_stuck");
        self.report_stuck.with_label_values(&[owed.as_str()]).inc();
    }
}

/// The reason that the platform's scheduler gives for a preemption (`contracts/engine.md §6`).
const PREEMPTION: &str = "preemption";
/// Attempts with a label of their own.
const MOST_ATTEMPTS: u32 = 20;

impl Metrics {
    fn waited_for_dependencies(&self, report: &Report) {
        let Some(wait) = &report.dependencies else { return };
        let result = match report.error_code.as_deref() {
            _ if wait.satisfied => "success",
            Some(code::DEPENDENCY_UNKNOWN | code::DEPENDENCY_TIMEOUT) => "timeout",
            _ => "failed",
        };
        self.dependency_checks.with_label_values(&[result]).inc();
        if wait.satisfied {
            self.dependency_wait_duration.observe(wait.waited_ms as f64 / 1000.0);
        }
    }

    fn used_its_time(&self, report: &Report) {
        let (sla, times) = (&report.sla, report.sla.times);
        let dependency_ms = report.dependencies.as_ref().map(|_| sla.dependency_ms);
        let reported_ms = u64::try_from(now_ms() - report.result.timestamp).unwrap_or(0);
        for (stage, ms) in [
            ("queue", sla.queue_ms),
            ("dependency", dependency_ms),
            ("start", Some(times.start_ms)),
            ("run", Some(times.run_ms)),
            ("retry_wait", Some(times.retry_wait_ms).filter(|ms| *ms > 0)),
            ("report", Some(reported_ms)),
        ] {
            if let Some(ms) = ms {
                self.ticket_stage_duration.with_label_values(&[stage]).observe(ms as f64 / 1000.0);
            }
        }
        if let Some(used) = sla.deadline_used {
            self.deadline_used.observe(used);
        }
        let late = report.result.result.metadata.contains_key("late");
        if late || report.error_code.as_deref() == Some(code::DEADLINE_EXCEEDED) {
            self.sla_violations.with_label_values(&[&report.task_type]).inc();
        }
    }
}
