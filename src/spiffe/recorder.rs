//! What goes wrong with the Workload API, counted, and when it last did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

/// How long a failure counts as news of the agent. The sources try again at the latest after 10 s and some jitter.
const RECENT: Duration = Duration::from_secs(20);

/// When calls to the Workload API last failed.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether they fail now, as far as is known.
    pub(super) fn is_recent(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < RECENT)
    }
}

/// Takes down the failures of one stream.
pub(super) struct Recorder {
    pub(super) errors: IntCounter,
    pub(super) trouble: Arc<Trouble>,
}

impl Recorder {
    /// `summary`: the failure is counted by its cause already.
    fn failed(&self, summary: bool) {
        if !summary {
            self.errors.inc();
        }
        self.trouble.note();
    }
}

impl spiffe::x509_source::MetricsRecorder for Recorder {
    // Deliveries are counted where they are looked at.
    fn record_update(&self) {}

    fn record_reconnect(&self) {
        self.trouble.note();
    }

    fn record_error(&self, kind: spiffe::x509_source::MetricsErrorKind) {
        self.failed(kind == spiffe::x509_source::MetricsErrorKind::InitialSyncFailed);
    }
}

impl spiffe::jwt_source::MetricsRecorder for Recorder {
    fn record_update(&self) {}

    fn record_reconnect(&self) {
        self.trouble.note();
    }

    fn record_error(&self, kind: spiffe::jwt_source::MetricsErrorKind) {
        self.failed(kind == spiffe::jwt_source::MetricsErrorKind::InitialSyncFailed);
    }
}
