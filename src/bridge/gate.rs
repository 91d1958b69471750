//! Backpressure: how many tickets may be ready and not finished (INC-16).
//!
//! Ready tickets pass the gate; those with dependencies are parked, wait in Temporal and need no place. The server is
//! asked how many ready tickets are open every [`REFRESH`], and more often while somebody waits; [`estimate`] says what
//! that means between two counts, and how far several bridges together can go beyond the limit.
//!
//! [`estimate`]: super::estimate

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::workflowservice::v1::CountWorkflowExecutionsRequest;
use ticket_activities::border;
use ticket_workflows::{PHASE, TicketPhase, WORKFLOW_TYPE};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::estimate::{Estimate, Limits};
use crate::config::BridgeConfig;
use crate::events::{ConsumptionPaused, ConsumptionResumed};
use crate::health::{Health, Pulse};
use crate::metrics::Metrics;

/// The readiness check, and the liveness entry, of the count.
pub(crate) const COUNT_CHECK: &str = "backpressure";
/// Between two counts.
const REFRESH: Duration = Duration::from_secs(2);
/// Between two counts while a record waits: what other workers finish is seen only here. Times the members of the group,
/// half a second at least and [`REFRESH`] at most: the server allows ten counts a second for each namespace by default.
const WAITING_REFRESH: Duration = Duration::from_millis(200);
/// Between two looks whether it is time to count.
const TICK: Duration = Duration::from_millis(500);
/// How long a count may take.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// The gate every start passes.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Records that wait for a place.
    waiting: AtomicU64,
    changed: Notify,
    /// Whether consumption is to stand still.
    closed: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

struct State {
    limits: Limits,
    estimate: Estimate,
    paused_since: Option<Instant>,
}

impl State {
    fn admits(&self, now: Instant) -> bool {
        self.paused_since.is_none() && self.estimate.look(now).admits(&self.limits)
    }
}

/// Takes a waiting record off the number of them, also when it is given up.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.with(|_| ());
    }
}

impl Gate {
    /// A gate with the limits of `config`, for a group of one member. It lets nothing pass before the first count.
    #[must_use]
    pub fn new(config: &BridgeConfig, metrics: Arc<Metrics>) -> Self {
        let limits = Limits {
            capacity: config.max_concurrent_tickets,
            pause: config.pause_threshold,
            resume: config.resume_threshold,
            members: 1,
        };
        metrics.max_concurrent_tickets.set(gauge(limits.total()));
        Self(Arc::new(Inner {
            state: Mutex::new(State { limits, estimate: Estimate::default(), paused_since: None }),
            waiting: AtomicU64::default(),
            changed: Notify::new(),
            closed: watch::Sender::new(true),
            metrics,
        }))
    }

    /// Waits until a ticket may be started, and counts it as started. A parked one passes at once and uncounted: it waits
    /// in Temporal, holds nothing, and must not wait here for tickets that may wait for it.
    pub async fn admit(&self, ticket_id: &str, phase: TicketPhase) {
        if phase == TicketPhase::Parked || self.try_admit(ticket_id) {
            return;
        }
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
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
            let now = Instant::now();
            let open = state.admits(now);
            if open {
                state.estimate.started(ticket_id, now);
            }
            open
        })
    }

    /// A start that was admitted turned out to be no new ticket.
    pub fn give_back(&self, ticket_id: &str) {
        self.with(|state| state.estimate.given_back(ticket_id));
    }

    /// This process saw a ticket finish, `age` after its start.
    pub fn finished(&self, ticket_id: &str, age: Duration) {
        self.with(|state| state.estimate.finished(ticket_id, age, Instant::now()));
    }

    /// The consumer group has so many members. None means that nobody knows at the moment, as during a rebalance.
    pub(crate) fn members(&self, members: usize) {
        if members > 0 {
            self.with(|state| state.limits.members = members as u64);
            self.0.metrics.consumer_group_members.set(gauge(members as u64));
        }
    }

    /// Whether a record that comes now would have to wait. Not a fault, however long it lasts.
    pub(crate) fn makes_wait(&self) -> bool {
        !self.state().admits(Instant::now())
    }

    /// Tells whether consumption is to stand still.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.0.closed.subscribe()
    }

    /// Changes the estimate, applies the thresholds, tells those who wait.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let metrics = &self.0.metrics;
        let mut state = self.state();
        let result = change(&mut state);
        let now = Instant::now();
        let look = state.estimate.look(now);
        let in_flight = look.in_flight;
        match state.paused_since {
            None if in_flight >= state.limits.pause_at() => {
                state.paused_since = Some(now);
                metrics.emit(ConsumptionPaused { in_flight, at: SystemTime::now() });
            }
            Some(since) if in_flight <= state.limits.resume_at() => {
                state.paused_since = None;
                metrics.emit(ConsumptionResumed { in_flight, paused_for: now.duration_since(since) });
            }
            _ => {}
        }
        let closed = state.paused_since.is_some() || !look.known;
        let admits = !closed && look.admits(&state.limits);
        metrics.max_concurrent_tickets.set(gauge(state.limits.total()));
        // A record that waits here is ready and not finished, too: with it the alerts on this number come true.
        metrics.tickets_in_flight.set(gauge(in_flight + self.0.waiting.load(Ordering::Relaxed)));
        self.0.closed.send_if_modified(|was| std::mem::replace(was, closed) != closed);
        drop(state);
        if admits {
            self.0.changed.notify_waiters();
        }
        result
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refreshes the count until told to stop. A count that fails changes nothing: the last one stays in force, and
    /// readiness says why.
    pub(crate) async fn refresh_until(
        self,
        client: Client,
        task_queue: String,
        health: Health,
        pulse: Pulse,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counted_at: Option<Instant> = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            pulse.beat();
            // Time alone frees places, too.
            let members = self.with(|state| state.limits.members);
            let waits = self.0.waiting.load(Ordering::Relaxed) > 0 || *self.0.closed.borrow();
            let pause = if waits { waiting_refresh(members) } else { REFRESH };
            let asked = Instant::now();
            if counted_at.is_some_and(|at| at + pause > asked + TICK / 2) {
                continue;
            }
            counted_at = Some(asked);
            match count(&client, &task_queue).await {
                Ok(tickets) => {
                    self.with(|state| state.estimate.counted_at(tickets, asked, Instant::now()));
                    health.ready(COUNT_CHECK);
                }
                Err(status) => {
                    tracing::warn!(%status, "open tickets could not be counted; the last count stays in force");
                    health.not_ready(
                        COUNT_CHECK,
                        format!(
                            "the server does not say how many tickets are open ({status}); look at its visibility store"
                        ),
                    );
                    if stop.run_until_cancelled(tokio::time::sleep(REFRESH)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn waiting_refresh(members: u64) -> Duration {
    WAITING_REFRESH.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX)).clamp(TICK, REFRESH)
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

    const YOUNG: Duration = Duration::ZERO;

    /// A gate whose server has just said that nothing is open.
    fn gate(capacity: &str) -> Gate {
        let source = MapSource::from([("MAX_CONCURRENT_TICKETS", capacity)]);
        let config = Config::read(&source).expect("valid");
        let gate = Gate::new(&config.bridge, Arc::new(Metrics::new().expect("metrics")));
        assert!(*gate.closed().borrow() && !gate.try_admit("too early"), "nothing is known yet");
        counted(&gate, 0);
        gate
    }

    fn counted(gate: &Gate, tickets: u64) {
        gate.with(|state| state.estimate.counted_at(tickets, Instant::now(), Instant::now()));
    }

    fn admitted(gate: &Gate, ids: std::ops::Range<usize>) -> usize {
        ids.filter(|n| gate.try_admit(&n.to_string())).count()
    }

    fn finish(gate: &Gate, ids: std::ops::Range<usize>) {
        ids.for_each(|n| gate.finished(&n.to_string(), YOUNG));
    }

    #[test]
    fn inc_16_consumption_pauses_at_the_threshold_and_resumes_at_the_lower_one() {
        let gate = gate("10");
        let closed = gate.closed();
        assert_eq!(admitted(&gate, 0..20), 8, "pauses at floor(10 × 0.8)");
        assert!(*closed.borrow());
        finish(&gate, 0..2);
        assert_eq!(admitted(&gate, 20..30), 0, "six in flight is still above floor(10 × 0.5)");
        finish(&gate, 2..3);
        assert!(!*closed.borrow());
        assert_eq!(admitted(&gate, 30..40), 3, "five in flight: resumes");
        assert_eq!(gate.0.metrics.consumer_paused.get(), 2);
        assert_eq!(gate.0.metrics.consumer_resumed.get(), 1);
    }

    #[test]
    fn inc_93_the_current_pause_can_be_seen_while_it_lasts() {
        let gate = gate("1");
        let since = || gate.0.metrics.consumer_pause_start_time.get();
        assert!(since().abs() < 0.1);
        assert_eq!(admitted(&gate, 0..1), 1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("now").as_secs_f64();
        assert!((now - since()).abs() < 60.0, "{}", since());
        assert_eq!(gate.0.metrics.consumer_pause_duration.get_sample_count(), 0, "observed at the end only");
        finish(&gate, 0..1);
        assert!(since().abs() < 0.1);
        assert_eq!(gate.0.metrics.consumer_pause_duration.get_sample_count(), 1);
    }

    #[test]
    fn a_capacity_of_one_runs_one_ticket_at_a_time() {
        let gate = gate("1");
        for n in 0..3 {
            assert_eq!(admitted(&gate, n..n + 1), 1);
            assert_eq!(admitted(&gate, 100..101), 0);
            finish(&gate, n..n + 1);
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
        counted(&gate, 9);
        assert_eq!(admitted(&gate, 0..1), 0);
        counted(&gate, 2);
        assert_eq!(admitted(&gate, 0..20), 6);
    }

    #[test]
    fn a_count_that_lags_does_not_open_the_gate() {
        let gate = gate("10");
        assert_eq!(admitted(&gate, 0..20), 8);
        counted(&gate, 0);
        assert_eq!(admitted(&gate, 20..40), 0, "the eight are not visible yet, but they were started");
    }

    #[test]
    fn the_limit_is_that_of_all_members_and_each_takes_its_share() {
        let gate = gate("10");
        gate.members(3);
        assert_eq!(gate.0.metrics.max_concurrent_tickets.get(), 30);
        assert_eq!(admitted(&gate, 0..40), 8, "a third of 24");
        gate.members(0);
        assert_eq!(gate.0.metrics.consumer_group_members.get(), 3, "a rebalance is under way: the last number holds");
        assert!(!*gate.closed().borrow(), "eight of 24 are no reason to pause");
        counted(&gate, 24);
        assert!(*gate.closed().borrow());
    }

    #[tokio::test]
    async fn who_waits_counts_as_in_flight_and_stops_counting_when_given_up() {
        let gate = gate("10");
        assert_eq!(admitted(&gate, 0..8), 8);
        let in_flight = || gate.0.metrics.tickets_in_flight.get();
        let waiting: Vec<_> = (8..11)
            .map(|n| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.admit(&n.to_string(), TicketPhase::Ready).await })
            })
            .collect();
        while in_flight() < 11 {
            tokio::task::yield_now().await;
        }
        assert!(gate.makes_wait());
        waiting[0].abort();
        while in_flight() > 10 {
            tokio::task::yield_now().await;
        }
        finish(&gate, 0..3);
        for task in waiting.into_iter().skip(1) {
            task.await.expect("admitted");
        }
        assert_eq!(in_flight(), 7);
    }

    #[tokio::test]
    async fn dependents_ahead_of_a_thousand_ready_tickets_do_not_stop_them() {
        const DEPENDENTS: usize = 25;
        let gate = gate("10");
        let all = async {
            for n in 0..DEPENDENTS {
                gate.admit(&format!("dependent {n}"), TicketPhase::Parked).await;
            }
            for n in 0..1000 {
                gate.admit(&n.to_string(), TicketPhase::Ready).await;
                gate.finished(&n.to_string(), YOUNG);
            }
            // They have not finished, and more of them still pass, also when the gate is closed.
            assert_eq!(admitted(&gate, 1000..1020), 8);
            gate.admit("dependent", TicketPhase::Parked).await;
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("nobody waits");
        let counted = async {
            for n in 0..DEPENDENTS {
                gate.admit(&format!("counted {n}"), TicketPhase::Ready).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_millis(50), counted).await.is_err(), "ready ones do wait");
    }

    #[test]
    fn a_large_group_counts_no_more_often_than_the_server_allows() {
        for (members, millis) in [(1, 500), (3, 600), (8, 1600), (10, 2000), (u64::MAX, 2000)] {
            assert_eq!(waiting_refresh(members).as_millis(), millis, "{members}");
        }
    }
}
