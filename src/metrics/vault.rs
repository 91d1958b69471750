//! Metrics of the Vault client, with the names of the platform's security library (`contracts/observability.md §2`).

use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use super::{counters, gauge, histograms};

/// Those of Prometheus' Python client, which the platform's library leaves as they are.
const CALL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Metrics of the Vault client.
#[derive(Debug, Clone)]
pub struct VaultMetrics {
    /// Calls, by operation and success.
    pub requests: IntCounterVec,
    /// Time from a call to its answer, by operation.
    pub request_duration: HistogramVec,
    /// Renewals of the token, by success; one that fails means a new login.
    pub token_renewals: IntCounterVec,
    /// How long the token still lasted when it was last looked at; 0: there is none, or it does not end.
    pub token_ttl: IntGauge,
    /// Secrets asked for, by path and success. Paths are those that settings name.
    pub secrets_read: IntCounterVec,
    /// Looks at everything that settings name, by success.
    pub looks: IntCounterVec,
}

impl VaultMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: counters(registry, "vault_requests_total", "calls to Vault", &["operation", "status"])?,
            request_duration: histograms(
                registry,
                "vault_request_duration_seconds",
                "time from a call to Vault to its answer",
                CALL_BUCKETS,
                &["operation"],
            )?,
            token_renewals: counters(
                registry,
                "vault_token_renewals_total",
                "renewals of the token for Vault",
                &["status"],
            )?,
            token_ttl: gauge(
                registry,
                "vault_token_ttl_seconds",
                "how long the token for Vault still lasts; 0: there is none, or it does not end",
            )?,
            secrets_read: counters(
                registry,
                "worker_vault_credentials_fetched_total",
                "secrets asked for in Vault",
                &["credential_type", "status"],
            )?,
            looks: counters(
                registry,
                "worker_vault_renewal_task_runs_total",
                "looks at everything that comes from Vault",
                &["status"],
            )?,
        })
    }
}
