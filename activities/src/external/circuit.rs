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
    /// It does again, and what is heard first decides.
    HalfOpen,
    /// It does not.
    Open,
}

/// Leave to make one call by which a ticket's work begins. The circuit learns from that call, and from no other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leave {
    ticket: String,
    /// How often the circuit had opened when it was given: a call that began before the last time says nothing of now.
    opened: u64,
}

/// The circuit of one endpoint.
#[derive(Debug)]
pub(super) struct Circuit {
    /// Tickets that fail in a row and open it; `None`: it stays closed.
    faults_to_open: Option<NonZeroU32>,
    pause: Duration,
    state: State,
    /// Whose faults were in a row; after it has opened, whose fault did that. A ticket that fails wherever it goes is in it once.
    row: Vec<String>,
    /// How often it has opened.
    opened: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// When the row's last fault was.
    Closed(Option<Instant>),
    HalfOpen,
    /// Until then nothing begins.
    Open(Instant),
}

impl Circuit {
    pub(super) fn new(faults_to_open: Option<NonZeroU32>, pause: Duration) -> Self {
        Self { faults_to_open, pause, state: State::Closed(None), row: Vec::new(), opened: 0 }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.state {
            State::Closed(_) => CircuitState::Closed,
            State::HalfOpen => CircuitState::HalfOpen,
            State::Open(_) => CircuitState::Open,
        }
    }

    /// An open circuit whose pause is over is half-open; an error: nothing begins for so long.
    pub(super) fn pass(&mut self, now: Instant) -> Result<(), Duration> {
        if let State::Open(until) = self.state {
            if now < until {
                return Err(until - now);
            }
            self.state = State::HalfOpen;
        }
        Ok(())
    }

    /// Leave to begin this ticket's work; an error: nothing begins for so long.
    pub(super) fn admit(&mut self, ticket: &str, now: Instant) -> Result<Leave, Duration> {
        self.pass(now)?;
        Ok(Leave { ticket: ticket.to_owned(), opened: self.opened })
    }

    /// The endpoint has answered a call, whatever it said.
    pub(super) fn answered(&mut self, leave: Leave) {
        if leave.opened == self.opened {
            self.state = State::Closed(None);
            self.row.clear();
        }
    }

    /// A call was the endpoint's fault. A ticket that is in the row already adds nothing to it, and neither does the one that
    /// opened it last: its next fault may be its own doing.
    pub(super) fn failed(&mut self, leave: Leave, now: Instant) {
        let Some(most) = self.faults_to_open.filter(|_| leave.opened == self.opened) else { return };
        if let State::Closed(Some(last)) = self.state
            && now.saturating_duration_since(last) > IN_A_ROW
        {
            self.row.clear();
        }
        if self.row.contains(&leave.ticket) {
            return;
        }
        let is_closed = matches!(self.state, State::Closed(_));
        self.row.push(leave.ticket);
        if is_closed && self.row.len() < most.get() as usize {
            self.state = State::Closed(Some(now));
            return;
        }
        self.row.drain(..self.row.len() - 1);
        self.state = State::Open(now + self.pause);
        self.opened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn circuit(faults_to_open: u32) -> (Circuit, Instant) {
        (Circuit::new(NonZeroU32::new(faults_to_open), PAUSE), Instant::now())
    }

    fn leave(circuit: &mut Circuit, ticket: &str, now: Instant) -> Leave {
        circuit.admit(ticket, now).expect("it is not open")
    }

    fn fail(circuit: &mut Circuit, ticket: &str, now: Instant) {
        let leave = leave(circuit, ticket, now);
        circuit.failed(leave, now);
    }

    /// So many tickets fail, one after the other.
    fn fail_all(circuit: &mut Circuit, tickets: u32, now: Instant) {
        (0..tickets).for_each(|number| fail(circuit, &format!("t-{number}"), now));
    }

    fn answer(circuit: &mut Circuit, now: Instant) {
        let leave = leave(circuit, "answered", now);
        circuit.answered(leave);
    }

    #[test]
    fn faults_in_a_row_open_it_and_an_answer_between_them_keeps_it_closed() {
        let (mut circuit, now) = circuit(3);
        for _ in 0..10 {
            fail_all(&mut circuit, 2, now);
            answer(&mut circuit, now);
        }
        assert_eq!(circuit.state(), CircuitState::Closed);
        fail_all(&mut circuit, 3, now);
        assert_eq!((circuit.state(), circuit.pass(now)), (CircuitState::Open, Err(PAUSE)));
        assert_eq!(circuit.admit("t", now + Duration::from_secs(20)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn one_ticket_opens_nothing_however_often_it_fails() {
        let (mut circuit, mut now) = circuit(3);
        fail(&mut circuit, "other", now);
        for _ in 0..100 {
            fail(&mut circuit, "poison", now);
            now += Duration::from_secs(1);
        }
        assert_eq!(circuit.state(), CircuitState::Closed);
        // Nor does it hold together what others fail by long after each other.
        fail(&mut circuit, "third", now);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn one_ticket_does_not_open_it_after_every_pause() {
        let (mut circuit, now) = circuit(3);
        fail_all(&mut circuit, 3, now);
        let mut over = now + PAUSE;
        fail(&mut circuit, "poison", over);
        assert_eq!(circuit.state(), CircuitState::Open);
        for _ in 0..10 {
            over += PAUSE;
            fail(&mut circuit, "poison", over);
            assert_eq!(circuit.state(), CircuitState::HalfOpen, "others may begin");
        }
        fail(&mut circuit, "t-0", over);
        assert_eq!(circuit.state(), CircuitState::Open, "another one fails, too");
    }

    #[test]
    fn faults_with_a_long_time_between_them_are_not_in_a_row() {
        let (mut circuit, mut now) = circuit(3);
        for _ in 0..10 {
            now += IN_A_ROW + Duration::from_secs(1);
            fail_all(&mut circuit, 2, now);
            assert_eq!(circuit.state(), CircuitState::Closed);
        }
        // Calls that are given up one after the other are.
        now += IN_A_ROW;
        fail(&mut circuit, "third", now);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn after_the_pause_whoever_comes_begins_and_what_is_heard_first_decides() {
        let (mut circuit, now) = circuit(3);
        fail_all(&mut circuit, 3, now);
        let over = now + PAUSE;
        assert_eq!((circuit.pass(over), circuit.state()), (Ok(()), CircuitState::HalfOpen));
        let (first, second) = (leave(&mut circuit, "first", over), leave(&mut circuit, "second", over));
        circuit.failed(first, over);
        assert_eq!((circuit.pass(over), circuit.state()), (Err(PAUSE), CircuitState::Open), "one is enough");
        circuit.failed(second, over + PAUSE / 2);
        assert_eq!(circuit.pass(over + PAUSE / 2), Err(PAUSE / 2), "it does not last longer for that");

        let over = over + PAUSE;
        let (first, second) = (leave(&mut circuit, "first", over), leave(&mut circuit, "second", over));
        circuit.answered(first);
        assert_eq!(circuit.state(), CircuitState::Closed);
        circuit.failed(second, over);
        assert_eq!(circuit.state(), CircuitState::Closed, "a fault of many");
    }

    #[test]
    fn a_call_from_before_it_opened_decides_nothing() {
        let (mut circuit, now) = circuit(1);
        let (answered, failed) = (leave(&mut circuit, "first", now), leave(&mut circuit, "second", now));
        fail(&mut circuit, "third", now);
        circuit.answered(answered);
        assert_eq!(circuit.state(), CircuitState::Open);
        let over = now + PAUSE;
        let trying = leave(&mut circuit, "fourth", over);
        circuit.failed(failed, over);
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.answered(trying);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn attempts_that_nothing_is_heard_of_keep_nobody_away() {
        let (mut circuit, now) = circuit(1);
        fail(&mut circuit, "t", now);
        for _ in 0..100 {
            leave(&mut circuit, "t", now + PAUSE);
        }
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
    }

    #[test]
    fn without_a_number_of_faults_it_stays_closed_and_remembers_nobody() {
        let (mut circuit, now) = circuit(0);
        fail_all(&mut circuit, 1000, now);
        assert_eq!((circuit.state(), circuit.row.len()), (CircuitState::Closed, 0));
    }
}
