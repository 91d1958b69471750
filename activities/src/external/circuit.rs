//! When an endpoint is left alone: a circuit breaker as a value, which has no clock and calls nobody.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A fault that comes later than this after the last one is the first of others: three times what a single call may take.
const IN_A_ROW: Duration = Duration::from_secs(60);

/// Whether new work goes to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// It does.
    Closed,
    /// It does again, and the first answer or fault decides.
    HalfOpen,
    /// It does not; or the time for that is over, and nobody has come since.
    Open,
}

/// Leave to make one call by which work begins. The circuit learns from that call, and from no other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leave {
    /// How often the circuit had opened when it was given: a call that began before the last time says nothing of now.
    opened: u64,
}

/// The circuit of one endpoint.
#[derive(Debug)]
pub(super) struct Circuit {
    /// Faults in a row that open it; `None`: it stays closed.
    faults_to_open: Option<NonZeroU32>,
    pause: Duration,
    state: State,
    /// How often it has opened.
    opened: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// How many faults there were in a row, and when the last one was.
    Closed(Option<(u32, Instant)>),
    HalfOpen,
    /// Until then nothing begins.
    Open(Instant),
}

impl Circuit {
    pub(super) fn new(faults_to_open: Option<NonZeroU32>, pause: Duration) -> Self {
        Self { faults_to_open, pause, state: State::Closed(None), opened: 0 }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.state {
            State::Closed(_) => CircuitState::Closed,
            State::HalfOpen => CircuitState::HalfOpen,
            State::Open(_) => CircuitState::Open,
        }
    }

    /// Leave to begin; an error: nothing begins for so long.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Leave, Duration> {
        if let State::Open(until) = self.state {
            if now < until {
                return Err(until - now);
            }
            self.state = State::HalfOpen;
        }
        Ok(Leave { opened: self.opened })
    }

    /// The endpoint has answered a call, whatever it said.
    pub(super) fn answered(&mut self, leave: Leave) {
        if leave.opened == self.opened {
            self.state = State::Closed(None);
        }
    }

    /// A call was the endpoint's fault.
    pub(super) fn failed(&mut self, leave: Leave, now: Instant) {
        if leave.opened != self.opened {
            return;
        }
        let faults = match self.state {
            State::Closed(last) => {
                let last = last.filter(|(_, at)| now.saturating_duration_since(*at) <= IN_A_ROW);
                last.map_or(1, |(faults, _)| faults.saturating_add(1))
            }
            State::HalfOpen | State::Open(_) => u32::MAX,
        };
        self.state = State::Closed(Some((faults, now)));
        if self.faults_to_open.is_some_and(|most| faults >= most.get()) {
            self.state = State::Open(now + self.pause);
            self.opened += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn circuit(faults_to_open: u32) -> (Circuit, Instant) {
        (Circuit::new(NonZeroU32::new(faults_to_open), PAUSE), Instant::now())
    }

    fn leave(circuit: &mut Circuit, now: Instant) -> Leave {
        circuit.admit(now).expect("it is not open")
    }

    fn fail(circuit: &mut Circuit, now: Instant) {
        let leave = leave(circuit, now);
        circuit.failed(leave, now);
    }

    fn answer(circuit: &mut Circuit, now: Instant) {
        let leave = leave(circuit, now);
        circuit.answered(leave);
    }

    #[test]
    fn faults_in_a_row_open_it_and_an_answer_between_them_keeps_it_closed() {
        let (mut circuit, now) = circuit(3);
        for _ in 0..10 {
            fail(&mut circuit, now);
            fail(&mut circuit, now);
            answer(&mut circuit, now);
        }
        assert_eq!(circuit.state(), CircuitState::Closed);
        (0..3).for_each(|_| fail(&mut circuit, now));
        assert_eq!((circuit.state(), circuit.admit(now)), (CircuitState::Open, Err(PAUSE)));
        assert_eq!(circuit.admit(now + Duration::from_secs(20)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn faults_with_a_long_time_between_them_are_not_in_a_row() {
        let (mut circuit, mut now) = circuit(3);
        for _ in 0..10 {
            now += IN_A_ROW + Duration::from_secs(1);
            fail(&mut circuit, now);
            fail(&mut circuit, now);
            assert_eq!(circuit.state(), CircuitState::Closed);
        }
        // Calls that are given up one after the other are.
        now += IN_A_ROW;
        fail(&mut circuit, now);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn after_the_pause_whoever_comes_begins_and_what_is_heard_first_decides() {
        let (mut circuit, now) = circuit(3);
        (0..3).for_each(|_| fail(&mut circuit, now));
        let over = now + PAUSE;
        let (first, second) = (leave(&mut circuit, over), leave(&mut circuit, over));
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.failed(first, over);
        assert_eq!((circuit.admit(over), circuit.state()), (Err(PAUSE), CircuitState::Open), "one is enough");
        circuit.failed(second, over + PAUSE / 2);
        assert_eq!(circuit.admit(over + PAUSE / 2), Err(PAUSE / 2), "it does not last longer for that");

        let over = over + PAUSE;
        let (first, second) = (leave(&mut circuit, over), leave(&mut circuit, over));
        circuit.answered(first);
        assert_eq!(circuit.state(), CircuitState::Closed);
        circuit.failed(second, over);
        assert_eq!(circuit.state(), CircuitState::Closed, "a fault of many");
    }

    #[test]
    fn a_call_from_before_it_opened_decides_nothing() {
        let (mut circuit, now) = circuit(1);
        let (answered, failed) = (leave(&mut circuit, now), leave(&mut circuit, now));
        fail(&mut circuit, now);
        circuit.answered(answered);
        assert_eq!(circuit.state(), CircuitState::Open);
        let over = now + PAUSE;
        let trying = leave(&mut circuit, over);
        circuit.failed(failed, over);
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.answered(trying);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn attempts_that_nothing_is_heard_of_keep_nobody_away() {
        let (mut circuit, now) = circuit(1);
        fail(&mut circuit, now);
        for _ in 0..100 {
            leave(&mut circuit, now + PAUSE);
        }
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
    }

    #[test]
    fn without_a_number_of_faults_it_stays_closed() {
        let (mut circuit, now) = circuit(0);
        (0..1000).for_each(|_| fail(&mut circuit, now));
        assert_eq!(circuit.state(), CircuitState::Closed);
    }
}
