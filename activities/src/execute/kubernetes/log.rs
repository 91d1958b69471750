//! What a pod wrote: followed from its start, resumed where the last reading ended, both ends kept.
//!
//! A pod that is deleted takes its log with it, and the kubelet reads only the newest of the files that it rotates. So the log
//! is read while the pod runs, not when it has ended, and one reading serves the result and the log of the attempt.

mod follower;
mod place;
mod reading;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout_at};

use super::pod::Begun;
use crate::execute::output::{Capture, Captured};
use crate::external::Fault;
use crate::logs::{Log, Redactor};
use follower::Follower;
use place::{Onward, Place};
pub(super) use reading::Reading;

/// A command whose first line that is known is not later has lost none before it. The cluster tells its start in whole seconds.
const AT_ITS_START: SignedDuration = SignedDuration::from_secs(2);

/// How long a connection that was there before the command ended may bring nothing after that until it has no more: the kubelet ends it
/// seconds later.
const LAST_OF_LIVE: Duration = Duration::from_millis(1500);
/// The same where the pod is being removed: whatever else there is must be asked for before that is done.
const LAST_OF_LEAVING: Duration = Duration::from_millis(200);

/// The log of one pod, as far as it was read. It lives as long as the attempt that reads it.
#[derive(Debug, Default)]
pub(super) struct PodLog {
    /// The pod, once its command has begun.
    pub(super) begun: SetOnce<Begun>,
    /// Set once the command has ended, which the kubelet tells whoever follows seconds later: whether its pod is being removed.
    pub(super) over: SetOnce<bool>,
    /// Whether it can be followed from its start: this attempt has created the Job.
    pub(super) from_start: bool,
    /// Whether the reading goes on behind what all have: the last line that was known has come again.
    caught_up: AtomicBool,
    /// Once nothing more can be read by whoever follows: whether that was all.
    whole: SetOnce<bool>,
    read: Mutex<Read>,
    /// Held by whoever reads: what two read at once would be kept twice.
    turn: tokio::sync::Mutex<()>,
    /// Whether somebody is being given lines, for which the reading waits.
    gives: AtomicBool,
    /// When the last of it was first waited for.
    settling: OnceLock<Instant>,
    /// When its end was first asked for, and whether anything had been heard of it by then.
    asked: OnceLock<(Instant, bool)>,
}

#[derive(Debug, Default)]
struct Read {
    captured: Option<Capture>,
    /// When something was last heard of it, if only that it had no more.
    heard: Option<Instant>,
    /// When something new was.
    news: Option<Instant>,
    /// Whether a connection that had caught up was ended by the node, as it is after the command, or brought nothing more once the
    /// command had ended; and nothing has come since.
    at_rest: bool,
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

    /// When something was last heard of it.
    pub(super) fn heard(&self) -> Option<Instant> {
        if self.gives.load(Ordering::Relaxed) { Some(Instant::now()) } else { self.read().heard }
    }

    /// When something new was last heard of it. A node that has no more may be asked again and again.
    fn news(&self) -> Option<Instant> {
        if self.gives.load(Ordering::Relaxed) { Some(Instant::now()) } else { self.read().news }
    }

    fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    fn hear(&self) {
        self.read().heard = Some(Instant::now());
    }

    fn hear_news(&self) {
        let now = Some(Instant::now());
        let mut read = self.read();
        (read.heard, read.news) = (now, now);
    }

    /// When its end was first asked for, and whether anything had been heard of it by then.
    pub(super) fn asked(&self) -> (Instant, bool) {
        *self.asked.get_or_init(|| (Instant::now(), self.heard().is_some()))
    }

    /// Does `work`, begun at `since`, while something is heard of the log, be it known already. `None`: nothing was for `longest`.
    pub(super) async fn unless_silent<T>(
        &self,
        longest: Duration,
        since: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        self.while_told(longest, since, Self::heard, work).await
    }

    async fn while_told<T>(
        &self,
        longest: Duration,
        mut since: Instant,
        told: impl Fn(&Self) -> Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout_at(since + longest, work.as_mut()).await {
                return Some(done);
            }
            since = told(self).filter(|told| *told > since)?;
        }
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
        let live = if self.over.initialized() { None } else { self.while_it_runs(read(true)).await };
        let read = match live {
            Some(live) => live,
            None => {
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

    /// A reading that ends with the command. `None`: the command has ended, and whether this was all remains to be asked. What is under
    /// way by then is still taken: with its pod deleted, or its file rotated, nobody else can read it.
    async fn while_it_runs(&self, read: impl Future<Output = Result<(), Fault>>) -> Option<Result<(), Fault>> {
        let mut read = pin!(read);
        self.read().at_rest = false;
        let is_leaving = tokio::select! {
            biased;
            read = read.as_mut() => {
                // The kubelet sees the end of a command before others are told.
                self.read().at_rest = read.is_ok() && self.has_caught_up();
                return Some(read);
            }
            is_leaving = self.over.wait() => *is_leaving,
        };
        let longest = if is_leaving { LAST_OF_LEAVING } else { LAST_OF_LIVE };
        match self.unless_silent(longest, Instant::now(), read).await {
            Some(Err(fault)) => {
                tracing::debug!(%fault, "a log that was followed broke off after its command had ended")
            }
            Some(Ok(())) | None => self.read().at_rest = !is_leaving && self.has_caught_up(),
        }
        None
    }

    /// Whether whoever follows has all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.get() == Some(&true)
    }

    /// Returns when whoever follows can read no more, or has heard nothing new for `longest`, also if this is dropped and asked anew
    /// meanwhile.
    pub(super) async fn settled(&self, longest: Duration) {
        if self.begun.initialized() {
            let since = *self.settling.get_or_init(Instant::now);
            // What is not read by then is read when it is collected, or is lost with its node.
            let _ = self.while_told(longest, since, Self::news, self.whole.wait()).await;
        }
    }

    fn begin_line(&self, onward: &mut Onward) {
        let mut read = self.read();
        let now = Some(Instant::now());
        read.heard = now;
        if read.place != onward.place() {
            (read.news, read.at_rest) = (now, false);
        }
        read.place = onward.place();
        read.first = read.first.or(read.place.last);
        read.has_gap |= onward.take_gap();
    }

    fn keep(&self, onward: &mut Onward, text: &[u8]) {
        let mut read = self.read();
        let new = onward.new_of(text);
        let now = Some(Instant::now());
        read.heard = now;
        if !new.is_empty() {
            (read.news, read.at_rest) = (now, false);
        }
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
