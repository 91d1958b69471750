//! Metrics of the SPIFFE identity, with the names of the platform's security library (`contracts/observability.md §2`).

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::{counters, gauges, histograms};

/// Metrics of the SPIFFE identity.
#[derive(Debug, Clone)]
pub struct SpiffeMetrics {
    /// SVIDs delivered by the Workload API, by type (x509, jwt) and whether that went well: success, error.
    pub svid_fetch: IntCounterVec,
    /// Time that the Workload API takes to issue a JWT-SVID.
    pub svid_fetch_duration: HistogramVec,
    /// Seconds until the SVID in use expires, by type.
    pub svid_ttl: IntGaugeVec,
    /// Trust bundles delivered by the Workload API: success, error.
    pub trust_bundle_updates: IntCounterVec,
}

impl SpiffeMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            svid_fetch: counters(
                registry,
                "spiffe_svid_fetch_total",
                "SVIDs asked of the SPIFFE Workload API",
                &["svid_type", "status"],
            )?,
            svid_fetch_duration: histograms(
                registry,
                "spiffe_svid_fetch_duration_seconds",
                "time to fetch a JWT-SVID",
                prometheus::DEFAULT_BUCKETS,
                &["svid_type"],
            )?,
            svid_ttl: gauges(
                registry,
                "spiffe_svid_ttl_seconds",
                "seconds until the SVID in use expires",
                &["svid_type"],
            )?,
            trust_bundle_updates: counters(
                registry,
                "spiffe_trust_bundle_updates_total",
                "trust bundles that the SPIFFE Workload API has delivered",
                &["status"],
            )?,
        })
    }
}
