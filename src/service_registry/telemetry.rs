//! What this worker has done, as its heartbeats tell it (INC-28).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use platform_proto::service_registry::AgentTelemetry;
use ticket_activities::{AttemptEnd, code, now_ms};
use tokio::time::Instant;

/// How long an execution counts in the rate of success. The registry hides an agent whose rate is below 0.3, and one that
/// is hidden from the scheduler may get nothing that would improve it.
const RECENT: Duration = Duration::from_secs(900);
/// Most executions of which the rate is made.
const MOST_RECENT: usize = 1000;
/// Fewest executions that may hide this worker: a ticket fails by its own fault as well, and a few of those say nothing
/// about who ran them.
const TELLING: usize = 10;
/// The lowest rate that does not hide it: what is below is UNHEALTHY, this is not (`contracts/service-registry.md §2`).
const FOUND: f64 = 0.3;

/// The attempts that ended on this worker. One that was handed back or cancelled says nothing about it and does not count.
#[derive(Debug, Default)]
pub struct Executions(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    failed: u32,
    time: Duration,
    last_ended_ms: i64,
    /// When each of the last ones ended, and whether well.
    recent: VecDeque<(Instant, bool)>,
}

impl Executions {
    /// An attempt has ended.
    pub fn note(&self, end: &AttemptEnd<'_>) {
        if matches!(end.end, "handed_back" | code::CANCELLED) {
            return;
        }
        let good = end.end == "completed";
        let mut counts = self.counts();
        counts.total = counts.total.saturating_add(1);
        counts.failed = counts.failed.saturating_add(u32::from(!good));
        counts.time = counts.time.saturating_add(end.duration);
        counts.last_ended_ms = now_ms();
        if counts.recent.len() == MOST_RECENT {
            counts.recent.pop_front();
        }
        counts.recent.push_back((Instant::now(), good));
    }

    /// Counts and mean duration since the start of the process; the rate of success of the last 15 minutes, 1 where nothing
    /// ended and no lower than 0.3 where fewer than 10 did; when the last one ended, in epoch milliseconds (INC-23).
    #[must_use]
    pub fn telemetry(&self) -> AgentTelemetry {
        let mut counts = self.counts();
        while counts.recent.front().is_some_and(|(ended, _)| ended.elapsed() > RECENT) {
            counts.recent.pop_front();
        }
        let mean = counts.time.checked_div(counts.total).unwrap_or_default();
        AgentTelemetry {
            success_rate: counts.success_rate(),
            avg_duration_ms: i64::try_from(mean.as_millis()).unwrap_or(i64::MAX),
            total_executions: counts.total.into(),
            failed_executions: counts.failed.into(),
            last_execution_at: counts.last_ended_ms,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn success_rate(&self) -> f64 {
        let good = self.recent.iter().filter(|(_, good)| *good).count();
        match self.recent.len() {
            0 => 1.0,
            ended @ 1..TELLING => (good as f64 / ended as f64).max(FOUND),
            ended => good as f64 / ended as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(executions: &Executions, end: &str, ms: u64) {
        let duration = Duration::from_millis(ms);
        executions.note(&AttemptEnd {
            ticket_id: "t",
            task_type: "EXECUTE",
            provider: Some("local"),
            attempt: 1,
            end,
            compensation_reason: None,
            duration,
        });
    }

    #[tokio::test(start_paused = true)]
    async fn inc_28_telemetry_is_what_was_done_here() {
        let executions = Executions::default();
        let nothing = executions.telemetry();
        assert_eq!(nothing, AgentTelemetry { success_rate: 1.0, ..AgentTelemetry::default() });
        let before = now_ms();
        for (end, ms) in [("completed", 100), ("completed", 300), ("execution_failed", 800), ("timeout", 0)] {
            note(&executions, end, ms);
        }
        let told = executions.telemetry();
        assert_eq!((told.success_rate, told.avg_duration_ms), (0.5, 300));
        assert_eq!((told.total_executions, told.failed_executions), (4, 2));
        // INC-23: epoch milliseconds.
        assert!((before..=now_ms()).contains(&told.last_execution_at), "{told:?}");
        // Neither says anything about this worker.
        note(&executions, "handed_back", 5000);
        note(&executions, code::CANCELLED, 5000);
        assert_eq!(executions.telemetry(), told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_first_executions_fail_is_still_found() {
        let executions = Executions::default();
        for ended in 1..TELLING {
            note(&executions, "execution_failed", 1);
            assert_eq!(executions.telemetry().success_rate, 0.3, "after {ended}");
        }
        note(&executions, "execution_failed", 1);
        assert_eq!(executions.telemetry().success_rate, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_failed_for_a_while_is_not_hidden_for_ever() {
        let executions = Executions::default();
        (0..10).for_each(|_| note(&executions, "execution_failed", 1));
        assert_eq!(executions.telemetry().success_rate, 0.0);
        tokio::time::advance(RECENT + Duration::from_secs(1)).await;
        let told = executions.telemetry();
        assert_eq!((told.success_rate, told.failed_executions), (1.0, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_made_of_a_bounded_number_of_executions() {
        let executions = Executions::default();
        (0..MOST_RECENT).for_each(|_| note(&executions, "execution_failed", 1));
        (0..MOST_RECENT).for_each(|_| note(&executions, "completed", 1));
        let told = executions.telemetry();
        assert_eq!((told.success_rate, told.total_executions), (1.0, 2000));
        assert!(executions.counts().recent.len() == MOST_RECENT);
    }
}
