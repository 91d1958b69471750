//! The log that lines go to while they are written.

use serde_json::json;
use tokio::time::Instant;

use super::place::{Onward, Place};
use crate::logs::{Log, Stream};

/// Bytes that are given without more being waited for.
const MOST_HELD: usize = 64 * 1024;

/// Gives what is new of a pod's log to the log of the attempt, which has a place of its own: another worker may have read further
/// for it.
pub(super) struct Follower<'a> {
    to: &'a Log,
    pub(super) onward: Onward,
    fresh: Vec<u8>,
    /// How much of that is whole lines, and the place at their end: only there can whoever reads on count the lines as they were
    /// counted.
    whole: Option<(usize, Place)>,
    /// Until when what is new may be held, so that more is given at once.
    due: Instant,
}

impl<'a> Follower<'a> {
    pub(super) async fn of(to: &'a Log) -> Self {
        // A place of another form is none: all is read again.
        let place = serde_json::from_value(to.resume().await).unwrap_or_default();
        Self { to, onward: Onward::from(place), fresh: Vec::new(), whole: None, due: to.due().await }
    }

    /// Takes a piece of the line that has begun.
    pub(super) fn take(&mut self, text: &[u8]) {
        let new = self.onward.new_of(text);
        self.fresh.extend_from_slice(new);
        // One that was read before ends nothing: the log's last number may be of a line beyond it, which comes again.
        if new.ends_with(b"\n") {
            self.whole = Some((self.fresh.len(), self.onward.place()));
        }
    }

    /// Whether anything was taken that is new.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// When it is to be given what was taken, at the latest; `None`: nothing was that is new.
    pub(super) fn due(&self) -> Option<Instant> {
        self.has_news().then_some(self.due)
    }

    /// Whether that is now.
    pub(super) fn is_due(&self) -> bool {
        self.due <= Instant::now() || self.fresh.len() >= MOST_HELD
    }

    /// Has what was taken written, and returns when that is kept.
    pub(super) async fn give(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let whole = self.whole.take();
        let (lines, begun) = fresh.split_at(whole.map_or(0, |(end, _)| end));
        // A cluster does not tell the streams apart.
        self.to.write(Stream::Stdout, lines).await;
        if let Some((_, place)) = whole {
            self.to.reached(json!(place));
        }
        self.to.write(Stream::Stdout, begun).await;
        if self.onward.take_gap() {
            self.to.lacks("lines of the output are missing: the node keeps only the newest".to_owned());
        }
        self.due = self.to.due().await;
    }
}
