//! What is known of a log now, to whoever writes it and to whoever keeps it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::Line;
use super::logged::{Logged, Reached};

/// What is known of a log. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Told(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    attempt: u32,
    /// What heartbeats tell; `None`: nothing was written.
    logged: Option<Logged>,
    /// Number of the last line that was read.
    read: u64,
    /// Number of the last line that is kept, or will not be.
    settled: u64,
    /// How many lines a lost worker had left out.
    left_out_before: u64,
    /// Places in the output before which not all is settled: the number of the last line before each.
    ahead: VecDeque<(u64, Value)>,
}

impl Told {
    /// `recorded`: what the lost worker's last heartbeat told of it.
    pub(super) fn new(attempt: u32, recorded: Option<Logged>) -> Self {
        let read = recorded.as_ref().map_or(0, |recorded| recorded.seq);
        let left_out_before = recorded.as_ref().map_or(0, |recorded| recorded.left_out);
        let known = Known { attempt, logged: recorded, read, settled: read, left_out_before, ..Known::default() };
        Self(Arc::new(Mutex::new(known)))
    }

    /// What heartbeats tell.
    pub(super) fn logged(&self) -> Option<Logged> {
        self.known().logged.clone()
    }

    /// Number of the last line that was read.
    pub(super) fn read(&self) -> u64 {
        self.known().read
    }

    /// Lines up to this one were read.
    pub(super) fn set_read(&self, seq: u64) {
        self.known().read = seq;
    }

    /// Where the log is.
    pub(super) fn address(&self) -> Option<String> {
        self.known().logged.as_ref().and_then(|logged| logged.address.clone())
    }

    pub(super) fn set_address(&self, address: String) {
        self.known().logged().address = Some(address);
    }

    /// How many lines a lost worker had left out.
    pub(super) fn left_out_before(&self) -> u64 {
        self.known().left_out_before
    }

    /// How long the work has waited so far.
    pub(super) fn waited(&self, waited: Duration) {
        self.known().logged().waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    }

    /// The sink holds lines up to this one.
    pub(super) fn settled_before(&self, seq: u64) {
        let mut known = self.known();
        known.settled = seq.max(known.settled);
    }

    /// These lines are the last ones, and were read before. Those that are not kept yet are told when they are.
    pub(super) fn again(&self, mut last: Vec<Line>) {
        let mut known = self.known();
        last.retain(|line| line.seq <= known.settled);
        if !last.is_empty() {
            known.logged().add(last);
        }
    }

    /// These lines are the last ones, and all up to them are kept, or will not be: whoever knows a number finds its line.
    pub(super) fn settled(&self, last: Vec<Line>) {
        let Some(seq) = last.last().map(|line| line.seq) else { return };
        let mut known = self.known();
        known.logged().add(last);
        known.settled = seq.max(known.settled);
        let settled = known.settled;
        let passed = known.ahead.partition_point(|(before, _)| *before <= settled);
        let last = known.ahead.drain(..passed).next_back();
        if let Some((seq, at)) = last {
            known.reach(seq, at);
        }
    }

    /// What the sink has answered: how many lines this worker has left out, or why lines are missing.
    pub(super) fn kept(&self, answer: Result<u64, String>) {
        match answer {
            Ok(left_out) => {
                let mut known = self.known();
                let left_out = known.left_out_before + left_out;
                known.logged().left_out = left_out;
            }
            Err(trouble) => self.trouble(trouble),
        }
    }

    /// Lines are missing: the first reason is told. Work is worth more than its log.
    pub(super) fn trouble(&self, trouble: String) {
        let mut known = self.known();
        let logged = known.logged();
        tracing::warn!(address = logged.address, error = trouble, "the log of an attempt is not kept as a whole");
        logged.trouble.get_or_insert(trouble);
    }

    /// The output was read up to this place. It is told once all before it is settled.
    pub(super) fn reached(&self, at: Value) {
        let mut known = self.known();
        let seq = known.read;
        if seq <= known.settled {
            known.ahead.clear();
            known.reach(seq, at);
        } else {
            if known.ahead.back().is_some_and(|(last, _)| *last == seq) {
                known.ahead.pop_back();
            }
            known.ahead.push_back((seq, at));
        }
    }

    /// The last place that was reached; the output is read from there again. `is_new`: nothing was written by this worker.
    pub(super) fn resume(&self, is_new: bool) -> Value {
        let mut known = self.known();
        if let Some((seq, at)) = known.ahead.back().cloned() {
            known.read = seq;
            return at;
        }
        let reached = known.logged.as_ref().and_then(|logged| logged.reached.clone());
        let (seq, left_out, at) = reached.map_or((0, 0, Value::Null), |it| (it.seq, it.left_out, it.at));
        known.read = seq;
        if is_new {
            (known.settled, known.left_out_before) = (seq, left_out);
        }
        at
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn logged(&mut self) -> &mut Logged {
        let attempt = self.attempt;
        self.logged.get_or_insert_with(|| Logged { attempt, ..Logged::default() })
    }

    fn reach(&mut self, seq: u64, at: Value) {
        // Once a log is too large, each line is left out: those behind the place too.
        let behind = self.settled - seq;
        if let Some(logged) = &mut self.logged {
            logged.reached = Some(Reached { seq, left_out: logged.left_out.saturating_sub(behind), at });
        }
    }
}
