//! What a pod wrote: followed from its start, resumed where the last reading ended, both ends kept.
//!
//! A pod that is deleted takes its log with it, and the kubelet reads only the newest of the files that it rotates. So the log
//! is read while the pod runs, not when it has ended, and one reading serves the result and the log of the attempt.

mod follower;
mod place;
mod reading;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout};

use super::pod::Begun;
use crate::execute::output::{Capture, Captured};
use crate::external::Fault;
use crate::logs::{Log, Redactor};
use follower::Follower;
use place::{Onward, Place};
pub(super) use reading::Reading;

/// A command whose first line that is known is not later has lost none before it. The cluster tells its start in whole seconds.
const AT_ITS_START: SignedDuration = SignedDuration::from_secs(2);

/// The log of one pod, as far as it was read. It lives as long as the attempt that reads it.
#[derive(Debug, Default)]
pub(super) struct PodLog {
    /// The pod, once its command has begun.
    pub(super) begun: SetOnce<Begun>,
    /// Whether it can be followed from its start: this attempt has created the Job.
    pub(super) from_start: bool,
    read: Mutex<Read>,
    /// Held by whoever reads: what two read at once would be kept twice.
    turn: tokio::sync::Mutex<()>,
    /// When its end was first asked for.
    asked: OnceLock<Instant>,
}

#[derive(Debug, Default)]
struct Read {
    captured: Option<Capture>,
    /// Stamp of the first line.
    first: Option<Timestamp>,
    place: Place,
    /// Whether lines between two readings, or in front of the first, are missing.
    has_gap: bool,
    /// Whether the last that was heard is that the log has ended.
    has_ended: bool,
}

/// What a pod wrote.
#[derive(Debug)]
pub struct Written {
    /// Standard output and standard error in one: a cluster does not tell them apart.
    pub(super) text: Captured,
    /// Why some of it may be missing.
    pub(super) incomplete: Option<String>,
}

impl PodLog {
    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was read.
    pub(super) fn is_begun(&self) -> bool {
        self.read().place.last.is_some()
    }

    /// Since when its end has been asked for.
    pub(super) fn asked_since(&self) -> Instant {
        *self.asked.get_or_init(Instant::now)
    }

    /// A reading that goes on where the one before has ended, and where `follower` is. Of the text `limit` bytes are kept, of its two
    /// ends.
    pub(super) async fn reading<'a>(&'a self, limit: usize, follower: Option<&'a Log>) -> Reading<'a> {
        let turn = self.turn.lock().await;
        let follower = match follower {
            Some(log) => Some(Follower::of(log).await),
            None => None,
        };
        let mut read = self.read();
        // Secrets are taken out of what comes of it.
        read.captured.get_or_insert_with(|| Capture::new(limit, Redactor::default()));
        Reading::new(self, turn, Onward::from(read.place), follower)
    }

    /// Returns when nobody reads, after `longest` at the latest.
    pub(super) async fn settled(&self, longest: Duration) {
        // What is not read by then is read when it is collected, or is lost with its node.
        let _ = timeout(longest, self.turn.lock()).await;
    }

    /// What following it came to: a pod that is gone after its log had ended has no more to tell.
    ///
    /// # Errors
    /// When there may be more.
    pub(super) fn followed(&self, read: Result<(), Fault>) -> Result<(), Fault> {
        if matches!(read, Err(Fault::Vanished { .. })) && self.has_ended() {
            return Ok(());
        }
        self.read().has_ended = read.is_ok();
        read
    }

    /// Whether the last that whoever follows it has heard is its end.
    pub(super) fn has_ended(&self) -> bool {
        self.read().has_ended
    }

    fn begin_line(&self, onward: &mut Onward) {
        let mut read = self.read();
        read.place = onward.place();
        read.first = read.first.or(read.place.last);
        read.has_gap |= onward.take_gap();
    }

    fn keep(&self, onward: &mut Onward, text: &[u8]) {
        let mut read = self.read();
        let new = onward.new_of(text);
        read.place = onward.place();
        if let Some(captured) = &mut read.captured {
            captured.push(new);
        }
    }

    /// What was read. `fault`: why it could not be read to its end.
    pub(super) fn written(&self, fault: Option<&Fault>) -> Written {
        let read = self.read();
        let began = self.begun.get().and_then(|begun| begun.at);
        let is_late = !self.from_start
            && read.first.is_some_and(|first| began.is_none_or(|began| first.duration_since(began) > AT_ITS_START));
        let incomplete = match fault {
            Some(fault) => Some(format!("the end of the output may be missing: {fault}")),
            None if read.has_gap => Some("lines of the output are missing: the node keeps only the newest".to_owned()),
            None if is_late => Some("the start of the output may be missing: it was read late".to_owned()),
            None => None,
        };
        Written { text: read.captured.clone().unwrap_or_default().finish(), incomplete }
    }
}
