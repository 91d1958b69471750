//! What becomes of spans at the trace collector.

use tracing::{info, warn};

use super::Event;
use crate::metrics::Metrics;

/// The collector does not take spans, which it did until now or has not been asked before. They are lost and counted.
pub struct CollectorAway<'a> {
    /// What was said.
    pub error: &'a str,
}

impl Event for CollectorAway<'_> {
    fn emit(&self, _: &Metrics) {
        warn!(error = self.error, "trace_collector_away");
    }
}

/// The collector takes spans again.
pub struct CollectorAnswers;

impl Event for CollectorAnswers {
    fn emit(&self, _: &Metrics) {
        info!("trace_collector_answers");
    }
}
