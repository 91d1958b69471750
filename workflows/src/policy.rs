//! The settings that a ticket is held to. They travel in the workflow's input, so that a change of settings never
//! changes how a running ticket replays.

use serde::{Deserialize, Serialize};

use crate::ticket_service::ReportingPolicy;

/// What `sla.deadline` means for a ticket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlinePolicy {
    /// The deadline is checked before anything starts and bounds all work (INC-43).
    #[default]
    Enforce,
    /// As enforce, and time spent waiting for dependencies counts.
    Strict,
    /// Never ends work; a late result is only marked.
    Mark,
}

/// Limits and back-off of one ticket, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TicketPolicy {
    /// `TASK_TIMEOUT_MULTIPLIER`: factor on `sla.timeout_ms` for each attempt.
    pub timeout_multiplier: f64,
    /// `sla.timeout_ms` of a ticket without one. Source: 60 000, `contracts/engine.md §4`.
    pub default_timeout_ms: u64,
    /// `MAX_RETRIES_PER_TICKET`: extra attempts of a ticket without `sla.max_retries`.
    pub default_max_retries: u32,
    /// `RETRY_BACKOFF_BASE_SECONDS`, in milliseconds.
    pub backoff_base_ms: u64,
    /// `RETRY_BACKOFF_MAX_SECONDS`, in milliseconds.
    pub backoff_max_ms: u64,
    /// `DEADLINE_POLICY`.
    pub deadline: DeadlinePolicy,
    /// How the ticket waits for others. `None`: it was started by a version that did not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<DependencyPolicy>,
    /// How its reports are owed. `None`: it was started by a version that told Kafka alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporting: Option<ReportingPolicy>,
    /// How a failed ticket is undone. `None`: it is not, by setting, or because a version that did not do so started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<CompensationPolicy>,
}

/// How a failed ticket is undone, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompensationPolicy {
    /// `DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS`: after this time without a workflow for the compensation ticket it is published
    /// once more.
    pub appear_timeout_ms: u64,
}

/// How a ticket waits for those it depends on, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyPolicy {
    /// `DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS`: how long a predecessor may be unheard of.
    pub unknown_timeout_ms: u64,
    /// `DEPENDENCY_CHECK_INTERVAL_SECONDS × DEPENDENCY_CHECK_MAX_ATTEMPTS`, when either is set: longest wait in all.
    pub wait_limit_ms: Option<u64>,
}

impl DependencyPolicy {
    /// Most dependencies of one ticket: each costs a signal, and the server takes 10,000 for one workflow.
    pub const MOST: usize = 5_000;
}

impl Default for DependencyPolicy {
    /// 300 s, the platform's figure (`contracts/engine.md §3`), and no other limit.
    fn default() -> Self {
        Self { unknown_timeout_ms: 300_000, wait_limit_ms: None }
    }
}

impl Default for TicketPolicy {
    /// The defaults of `contracts/settings.md`.
    fn default() -> Self {
        Self {
            timeout_multiplier: 1.5,
            default_timeout_ms: 60_000,
            default_max_retries: 3,
            backoff_base_ms: 2_000,
            backoff_max_ms: 60_000,
            deadline: DeadlinePolicy::Enforce,
            dependencies: Some(DependencyPolicy::default()),
            reporting: None,
            compensation: None,
        }
    }
}

impl TicketPolicy {
    /// How long the ticket service may not know the ticket, in milliseconds. `None`: it is told nothing.
    #[must_use]
    pub fn status_unknown_after_ms(&self) -> Option<u64> {
        self.reporting.as_ref()?.unknown_after_ms
    }

    /// Time one attempt may run, in milliseconds: `timeout_ms × multiplier`, at least 1 ms, at most ten years.
    #[must_use]
    pub fn attempt_timeout_ms(&self, timeout_ms: Option<i64>) -> u64 {
        const TEN_YEARS_MS: f64 = 315_360_000_000.0;
        let base = timeout_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let scaled = base.unwrap_or(self.default_timeout_ms) as f64 * self.timeout_multiplier;
        scaled.clamp(1.0, TEN_YEARS_MS) as u64
    }

    /// Back-off after failed attempt `attempt` (1-based), in milliseconds:
    /// `min(base · 2^(attempt-1), max)` (`contracts/engine.md §5`), of which `jitter` in `0.0..1.0` takes off up to half.
    /// `after_ms`, what the provider asked for, is never undercut.
    #[must_use]
    pub fn backoff_ms(&self, attempt: u32, jitter: f64, after_ms: Option<u64>) -> u64 {
        let exponent = attempt.saturating_sub(1).min(32);
        let full = self.backoff_base_ms.saturating_mul(1u64 << exponent).min(self.backoff_max_ms);
        let jittered = full - (full as f64 * 0.5 * jitter.clamp(0.0, 1.0)) as u64;
        jittered.max(after_ms.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_timeouts_follow_the_contract() {
        let policy = TicketPolicy::default();
        for (given, expected) in [(Some(600_000), 900_000), (None, 90_000), (Some(1), 1), (Some(-5), 90_000)] {
            assert_eq!(policy.attempt_timeout_ms(given), expected, "{given:?}");
        }
        assert_eq!(policy.attempt_timeout_ms(Some(i64::MAX)), 315_360_000_000);
    }

    #[test]
    fn backoff_doubles_is_capped_and_respects_retry_after() {
        let policy = TicketPolicy::default();
        let steps: Vec<u64> = (1..=7).map(|n| policy.backoff_ms(n, 0.0, None)).collect();
        assert_eq!(steps, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(policy.backoff_ms(1, 1.0, None), 1_000);
        assert_eq!(policy.backoff_ms(1, 1.0, Some(90_000)), 90_000);
        assert_eq!(policy.backoff_ms(u32::MAX, 0.0, None), 60_000);
    }
}
