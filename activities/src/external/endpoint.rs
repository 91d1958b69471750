//! Where a provider is called: what its calls come to together, whichever attempt makes them. An endpoint that fails in a row is
//! sent no new work for a while, and none is called more often than settings allow (`docs/adr/0030-circuit-breakers.md`).

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Fault;
use super::circuit::{Circuit, CircuitState, Leave};
use super::turns::Turns;

/// How an endpoint is spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLimits {
    /// `CIRCUIT_BREAKER_FAULTS`: tickets in a row that fail to begin by the endpoint's fault and open its circuit; `None`: it
    /// stays closed.
    pub faults_to_open: Option<NonZeroU32>,
    /// `CIRCUIT_BREAKER_OPEN_SECONDS`: how long an open circuit lets no attempt begin.
    pub pause: Duration,
    /// Calls a second, and as many at once after a pause; `None`: no bound.
    pub rate: Option<NonZeroU32>,
}

impl Default for EndpointLimits {
    /// Five faults and 30 s are what Envoy's outlier detection has (`consecutive_5xx`, `base_ejection_time`), 50 calls a second
    /// what a kubelet allows itself towards the API server of its cluster (`kubeAPIQPS`).
    fn default() -> Self {
        Self { faults_to_open: NonZeroU32::new(5), pause: Duration::from_secs(30), rate: NonZeroU32::new(50) }
    }
}

/// What is seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointEvent {
    /// Its circuit has this state now.
    Circuit(CircuitState),
    /// An attempt was not let begin.
    Refused,
    /// A call waited so long for its turn, whether it had it in the end or not.
    Waited(Duration),
}

/// Told of every event, in their order. Must not block.
pub type OnEndpointEvent = Arc<dyn Fn(EndpointEvent) + Send + Sync>;

/// The endpoint of one provider, shared by all that call it.
pub struct Endpoint {
    provider: &'static str,
    pause: Duration,
    circuit: Mutex<Circuit>,
    turns: Turns,
    on_event: OnEndpointEvent,
}

impl Endpoint {
    /// The endpoint of `provider`, with its circuit closed.
    #[must_use]
    pub fn new(provider: &'static str, limits: EndpointLimits, on_event: OnEndpointEvent) -> Self {
        on_event(EndpointEvent::Circuit(CircuitState::Closed));
        let circuit = Mutex::new(Circuit::new(limits.faults_to_open, limits.pause));
        Self { provider, pause: limits.pause, circuit, turns: Turns::new(limits.rate), on_event }
    }

    /// Leave to begin this ticket's work here, and a turn for the call that does: at most after `longest`.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] while the circuit is open. It is asked once more after the wait, in which others may have found out.
    pub(super) async fn enter(&self, ticket: &str, longest: Duration) -> Result<Leave, Fault> {
        self.admit(ticket)?;
        self.turn(longest).await;
        self.admit(ticket)
    }

    /// Waits until a call may be made, at most so long: then it is made all the same.
    pub(super) async fn turn(&self, longest: Duration) {
        let _wait = Wait { begun: Instant::now(), on_event: &self.on_event };
        let _ = tokio::time::timeout(longest, self.turns.next()).await;
    }

    /// Makes a call, which comes in a box where it is a client's: those are large, and every layer around them would hold them on the
    /// stack. When its answer asks for time, all that wait for a turn wait longer.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let answer = call.await;
        if let Some(after) = answer.as_ref().err().and_then(Fault::after) {
            self.turns.pause(after);
        }
        answer
    }

    /// As [`Endpoint::call`], for one call that has no answer after `longest`.
    pub(super) async fn call_within<T>(
        &self,
        longest: Duration,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let call = tokio::time::timeout(longest, call);
        self.call(async { call.await.unwrap_or_else(|_| Err(Fault::no_answer(longest))) }).await
    }

    fn admit(&self, ticket: &str) -> Result<Leave, Fault> {
        self.step(|circuit| circuit.admit(ticket, Instant::now())).0.map_err(|left| {
            (self.on_event)(EndpointEvent::Refused);
            let cause = format!(
                "its last calls have failed in a row, so it was not called; it is tried again in {:.1} s",
                left.as_secs_f64()
            );
            Fault::Unavailable { cause, after: Some(left) }
        })
    }

    /// What became of the call that leave was given for. An endpoint that refuses has answered.
    pub(super) fn heard<T>(self: &Arc<Self>, leave: Leave, answer: &Result<T, Fault>) {
        match answer {
            Err(fault) if fault.blames_endpoint() => {
                if self.step(|circuit| circuit.failed(leave, Instant::now())).1 == Some(CircuitState::Open) {
                    tracing::warn!(provider = self.provider, %fault, "circuit_opened: no attempt begins here for a while");
                    tokio::spawn(Self::half_open(Arc::downgrade(self), self.pause));
                }
            }
            _ => {
                if self.step(|circuit| circuit.answered(leave)).1.is_some() {
                    tracing::info!(provider = self.provider, "circuit_closed: attempts begin here again");
                }
            }
        }
    }

    /// Tells of the end of the pause when it comes, and not only when somebody calls.
    async fn half_open(endpoint: Weak<Self>, pause: Duration) {
        tokio::time::sleep(pause).await;
        if let Some(endpoint) = endpoint.upgrade() {
            // One that has opened anew meanwhile stays open.
            let _ = endpoint.step(|circuit| circuit.pass(Instant::now()));
        }
    }

    /// Makes a step of the circuit; the state that this has led to, if it is another one.
    fn step<T>(&self, step: impl FnOnce(&mut Circuit) -> T) -> (T, Option<CircuitState>) {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = circuit.state();
        let answer = step(&mut circuit);
        let changed = Some(circuit.state()).filter(|state| *state != before);
        if let Some(state) = changed {
            // Under the lock, or two changes could be told in the other order.
            (self.on_event)(EndpointEvent::Circuit(state));
        }
        (answer, changed)
    }
}

/// A wait for a turn, told of when it ends, also by being given up: the worst waits are.
struct Wait<'a> {
    begun: Instant,
    on_event: &'a OnEndpointEvent,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.begun.elapsed();
        // What the clock of timers cannot tell from nothing is none.
        if waited >= Duration::from_millis(1) {
            (self.on_event)(EndpointEvent::Waited(waited));
        }
    }
}
