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

use futures::FutureExt as _;
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
    /// Set once the command has ended: whoever follows is told of that by the kubelet seconds later.
    pub(super) over: SetOnce<()>,
    /// Whether it can be followed from its start: this attempt has created the Job.
    pub(super) from_start: bool,
    /// Once nothing more can be read by whoever follows: whether that was all.
    whole: SetOnce<bool>,
    read: Mutex<Read>,
    /// Held by whoever reads: what two read at once would be kept twice.
    turn: tokio::sync::Mutex<()>,
    /// When the last of it was first waited for.
    settling: OnceLock<Instant>,
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

    /// Follows it with `read`, a reading to its present end, or for as long as the command runs where that is told. Both are begun
    /// anew by whoever calls this again.
    ///
    /// # Errors
    /// As of `read`.
    pub(super) async fn followed<R: Future<Output = Result<(), Fault>>>(
        &self,
        read: impl Fn(bool) -> R,
    ) -> Result<(), Fault> {
        if self.is_whole() {
            return Ok(());
        }
        let read = tokio::select! {
            biased;
            live = read(true), if !self.over.initialized() => live,
            () = self.over.wait().map(|_| ()) => {
                let rest = read(false).await;
                if rest.is_ok() {
                    let _ = self.whole.set(true);
                }
                rest
            }
        };
        if matches!(read, Err(Fault::Vanished { .. })) {
            let _ = self.whole.set(false);
        }
        read
    }

    /// Whether whoever follows has all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.get() == Some(&true)
    }

    /// Returns when whoever follows can read no more, `longest` after this was first asked at the latest: a watch may be begun anew
    /// meanwhile.
    pub(super) async fn settled(&self, longest: Duration) {
        if self.begun.initialized() {
            let left = longest.saturating_sub(self.settling.get_or_init(Instant::now).elapsed());
            // What is not read by then is read when it is collected, or is lost with its node.
            let _ = timeout(left, self.whole.wait()).await;
        }
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
