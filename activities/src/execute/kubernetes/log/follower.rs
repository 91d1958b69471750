//! The log that lines go to while they are written.

use serde_json::json;

use super::place::{Onward, Place};
use crate::logs::{Log, Stream};

/// Gives what is new of a pod's log to the log of the attempt, which has a place of its own: another worker may have read further
/// for it.
pub(super) struct Follower<'a> {
    to: &'a Log,
    pub(super) onward: Onward,
    fresh: Vec<u8>,
    /// How much of that is whole lines, and the place at their end: only there can whoever reads on count the lines as they were
    /// counted.
    whole: Option<(usize, Place)>,
}

impl<'a> Follower<'a> {
    pub(super) async fn of(to: &'a Log) -> Self {
        // A place of another form is none: all is read again.
        let place = serde_json::from_value(to.resume().await).unwrap_or_default();
        Self { to, onward: Onward::from(place), fresh: Vec::new(), whole: None }
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
    }
}
