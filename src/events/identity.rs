//! What the SPIFFE Workload API delivers, and refuses.

use spiffe::SpiffeId;
use tracing::{info, warn};

use super::Event;
use crate::metrics::Metrics;

/// An X.509-SVID has come, the first one or the next.
pub struct SvidReceived<'a> {
    /// Whose.
    pub spiffe_id: &'a SpiffeId,
    /// Seconds until it expires.
    pub expires_in: i64,
}

impl Event for SvidReceived<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(spiffe_id = %self.spiffe_id, expires_in_s = self.expires_in, "svid_received");
        metrics.spiffe.svid_fetch.with_label_values(&["x509", "success"]).inc();
    }
}

/// The Workload API has taken the identity back, or delivered one that is of no use.
pub struct SvidWithdrawn<'a> {
    /// What was said and what to do.
    pub error: &'a str,
}

impl Event for SvidWithdrawn<'_> {
    fn emit(&self, _: &Metrics) {
        // The stream's failures are counted as they come.
        warn!(error = self.error, "svid_withdrawn");
    }
}

/// The Workload API refuses the question itself; it is asked again.
pub struct WorkloadApiRefused<'a> {
    /// What was asked for.
    pub what: &'static str,
    /// What was said.
    pub error: &'a str,
}

impl Event for WorkloadApiRefused<'_> {
    fn emit(&self, _: &Metrics) {
        warn!(what = self.what, error = self.error, "workload_api_refused");
    }
}
