//! How far a log was read, and what is new to whoever has read so far.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a log was read. Lines have time stamps, and those of one stamp are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Stamp of the last line; `None`: nothing was read.
    pub(super) last: Option<Timestamp>,
    /// Lines of that stamp, one after the other.
    lines: usize,
    /// Bytes that the last of them had so far.
    bytes: usize,
}

/// What a reading had in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The rest of a longer line, whose start is not in this reading.
    Rest,
    Lines,
}

/// Passes over what was read up to a place, and moves on from there.
#[derive(Debug)]
pub(super) struct Onward {
    place: Place,
    /// Whether what comes was read before. Afterwards every line counts, also when the node's clock went back.
    is_behind: bool,
    /// Lines of the last stamp that came again.
    again: usize,
    /// Bytes of this line that were read before.
    known: usize,
    has_gap: bool,
}

impl Onward {
    pub(super) fn from(place: Place) -> Self {
        Self { place, is_behind: place.last.is_some(), again: 0, known: 0, has_gap: false }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether the last line of the reading before has not come again.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether lines in front of this one were missed since this was asked.
    pub(super) fn take_gap(&mut self) -> bool {
        std::mem::take(&mut self.has_gap)
    }

    /// A line of this stamp begins.
    pub(super) fn begin_line(&mut self, stamp: Timestamp, before: Before) {
        self.known = 0;
        if let Some(last) = self.place.last.filter(|_| self.is_behind) {
            self.again += usize::from(stamp == last);
            let is_known = stamp < last || (stamp == last && self.again < self.place.lines);
            // The first may be the rest of a longer one, and only look as if it had a stamp.
            if is_known || (stamp > last && before == Before::Nothing) {
                self.known = usize::MAX;
                return;
            }
            self.is_behind = false;
            if stamp == last {
                self.known = self.place.bytes;
                return;
            }
            self.has_gap = true;
        } else {
            self.has_gap |= self.place.last.is_none() && before == Before::Rest;
        }
        let lines = if self.place.last == Some(stamp) { self.place.lines + 1 } else { 1 };
        self.place = Place { last: Some(stamp), lines, bytes: 0 };
    }

    /// What is new of a piece of the line that has begun.
    pub(super) fn new_of<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let (known, new) = text.split_at(text.len().min(self.known));
        self.known -= known.len();
        self.place.bytes += new.len();
        new
    }
}
