//! Backpressure: how many tickets may be ready and not finished (INC-16).
//!
//! In flight is the server's count of open `ready` tickets, refreshed every [`REFRESH`] (while consumption pauses, every
//! [`PAUSED_REFRESH`]), plus what this process started and minus what it saw finish since. Between two refreshes no more
//! is started than the headroom; the estimate never falls below the tickets that this process started in the last
//! [`VISIBILITY_LAG`] and did not see finish, because visibility may lag that much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::workflowservice::v1::CountWorkflowExecutionsRequest;
use ticket_activities::border;
use ticket_workflows::{PHASE, TicketPhase, WORKFLOW_TYPE};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::config::BridgeConfig;
use crate::events::{ConsumptionPaused, ConsumptionResumed};
use crate::metrics::Metrics;

/// Between two counts.
const REFRESH: Duration = Duration::from_secs(2);
/// Between two counts while consumption pauses: what other workers finish is seen only here. A server that finds this too
/// often (it allows ten counts a second for each namespace by default) is asked at [`REFRESH`] again.
const PAUSED_REFRESH: Duration = Duration::from_millis(500);
/// How late a start may show up in a count: one second at worst was measured.
const VISIBILITY_LAG: Duration = Duration::from_secs(1);
/// How long a count may take.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gate every start passes.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    capacity: u64,
    pause_at: u64,
    resume_at: u64,
    state: Mutex<Estimate>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// The estimate of tickets in flight: a value without I/O.
#[derive(Debug, Default)]
struct Estimate {
    counted: u64,
    started: u64,
    finished: u64,
    /// Tickets of this process that may not be visible yet: id to start time.
    recent: BTreeMap<String, Instant>,
    paused_since: Option<Instant>,
}

impl Estimate {
    fn in_flight(&self) -> u64 {
        (self.counted + self.started).saturating_sub(self.finished).max(self.recent.len() as u64)
    }

    fn refreshed(&mut self, counted: u64, started_before: u64, finished_before: u64, now: Instant) {
        self.counted = counted;
        // What happened while the server counted may or may not be in the count: starts stay on the safe side.
        self.started -= started_before.min(self.started);
        self.finished -= finished_before.min(self.finished);
        self.recent.retain(|_, started| now.duration_since(*started) < VISIBILITY_LAG);
    }
}

impl Gate {
    /// A gate with the limits of `config`.
    #[must_use]
    pub fn new(config: &BridgeConfig, metrics: Arc<Metrics>) -> Self {
        let capacity = config.max_concurrent_tickets;
        metrics.max_concurrent_tickets.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self(Arc::new(Inner {
            capacity,
            pause_at: threshold(capacity, config.pause_threshold).max(1),
            resume_at: threshold(capacity, config.resume_threshold)
                .min(threshold(capacity, config.pause_threshold).max(1) - 1),
            state: Mutex::default(),
            changed: Notify::new(),
            metrics,
        }))
    }

    /// Waits until a ticket may be started, and counts it as started.
    pub async fn admit(&self, ticket_id: &str) {
        loop {
            // Registered before the look, so that no change is missed.
            let changed = self.0.changed.notified();
            if self.try_admit(ticket_id) {
                return;
            }
            changed.await;
        }
    }

    fn try_admit(&self, ticket_id: &str) -> bool {
        self.with(|state| {
            let open = state.paused_since.is_none() && state.in_flight() < self.0.capacity;
            if open {
                state.started += 1;
                state.recent.insert(ticket_id.to_owned(), Instant::now());
            }
            open
        })
    }

    /// A start that was admitted turned out to be no new ticket.
    pub fn give_back(&self, ticket_id: &str) {
        self.with(|state| {
            state.started = state.started.saturating_sub(1);
            state.recent.remove(ticket_id);
        });
    }

    /// This process saw a ticket finish.
    pub fn finished(&self, ticket_id: &str) {
        self.with(|state| {
            state.finished += 1;
            state.recent.remove(ticket_id);
        });
    }

    /// Changes the estimate, applies the thresholds, tells those who wait.
    fn with<T>(&self, change: impl FnOnce(&mut Estimate) -> T) -> T {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let in_flight = state.in_flight();
        match state.paused_since {
            None if in_flight >= self.0.pause_at => {
                state.paused_since = Some(Instant::now());
                self.0.metrics.emit(ConsumptionPaused { in_flight });
            }
            Some(since) if in_flight <= self.0.resume_at => {
                state.paused_since = None;
                self.0.metrics.emit(ConsumptionResumed { in_flight, paused_for: since.elapsed() });
            }
            _ => {}
        }
        let open = state.paused_since.is_none();
        drop(state);
        self.0.metrics.tickets_in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        if open {
            self.0.changed.notify_waiters();
        }
        result
    }

    /// Refreshes the count until told to stop. A count that fails changes nothing: the last one stays in force.
    pub async fn refresh_until(self, client: Client, task_queue: String, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PAUSED_REFRESH);
        let mut not_before = Instant::now();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (started, finished, paused) =
                self.with(|state| (state.started, state.finished, state.paused_since.is_some()));
            if Instant::now() < not_before && !paused {
                continue;
            }
            not_before = Instant::now() + REFRESH;
            match count(&client, &task_queue).await {
                Ok(counted) => self.with(|state| state.refreshed(counted, started, finished, Instant::now())),
                Err(status) => {
                    tracing::warn!(%status, "open tickets could not be counted; the last count stays in force");
                    if stop.run_until_cancelled(tokio::time::sleep(REFRESH)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

fn threshold(capacity: u64, fraction: f64) -> u64 {
    (capacity as f64 * fraction).floor() as u64
}

/// Open tickets that are ready, as the server counts them.
async fn count(client: &Client, task_queue: &str) -> Result<u64, tonic::Status> {
    let mut request = Request::new(CountWorkflowExecutionsRequest {
        namespace: client.namespace(),
        query: format!(
            "WorkflowType = '{WORKFLOW_TYPE}' AND TaskQueue = '{}' AND ExecutionStatus = 'Running' AND {} = '{}'",
            task_queue.replace('\'', "''"),
            PHASE.name(),
            TicketPhase::Ready.as_str()
        ),
    });
    request.set_timeout(COUNT_TIMEOUT);
    let mut service = client.connection().workflow_service();
    let response = border("temporal.count", service.count_workflow_executions(request)).await?;
    Ok(u64::try_from(response.into_inner().count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MapSource};

    fn gate(capacity: &str) -> Gate {
        let source = MapSource::from([("MAX_CONCURRENT_TICKETS", capacity)]);
        let config = Config::read(&source).expect("valid");
        Gate::new(&config.bridge, Arc::new(Metrics::new().expect("metrics")))
    }

    fn admitted(gate: &Gate, ids: std::ops::Range<usize>) -> usize {
        ids.filter(|n| gate.try_admit(&n.to_string())).count()
    }

    #[test]
    fn inc_16_consumption_pauses_at_the_threshold_and_resumes_at_the_lower_one() {
        let gate = gate("10");
        assert_eq!(admitted(&gate, 0..20), 8, "pauses at floor(10 × 0.8)");
        (0..2).for_each(|n| gate.finished(&n.to_string()));
        assert_eq!(admitted(&gate, 20..30), 0, "six in flight is still above floor(10 × 0.5)");
        gate.finished("2");
        assert_eq!(admitted(&gate, 30..40), 3, "five in flight: resumes");
        assert_eq!(gate.0.metrics.consumer_paused.get(), 2);
        assert_eq!(gate.0.metrics.consumer_resumed.get(), 1);
    }

    #[test]
    fn a_capacity_of_one_runs_one_ticket_at_a_time() {
        let gate = gate("1");
        for n in 0..3 {
            assert_eq!(admitted(&gate, n..n + 1), 1);
            assert_eq!(admitted(&gate, 100..101), 0);
            gate.finished(&n.to_string());
        }
    }

    #[test]
    fn a_duplicate_gives_its_place_back() {
        let gate = gate("1");
        assert_eq!(admitted(&gate, 0..1), 1);
        gate.give_back("0");
        assert_eq!(admitted(&gate, 1..2), 1);
    }

    #[test]
    fn the_servers_count_counts_tickets_of_other_workers() {
        let gate = gate("10");
        gate.with(|state| state.refreshed(9, 0, 0, Instant::now()));
        assert_eq!(admitted(&gate, 0..1), 0);
        gate.with(|state| state.refreshed(2, 0, 0, Instant::now()));
        assert_eq!(admitted(&gate, 0..20), 6);
    }

    #[test]
    fn a_count_that_lags_does_not_open_the_gate() {
        let gate = gate("10");
        assert_eq!(admitted(&gate, 0..20), 8);
        let started = gate.with(|state| state.started);
        gate.with(|state| state.refreshed(0, started, 0, Instant::now()));
        assert_eq!(admitted(&gate, 20..40), 0, "the eight are not visible yet, but they were started");
    }
}
