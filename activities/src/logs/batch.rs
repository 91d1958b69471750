//! Lines that are kept at once.

use std::collections::VecDeque;

use super::Stream;
use super::logged::LAST_LINES;

/// Most lines for a sink that takes a call as soon as it is made: few enough that a piece of nothing but line ends takes no more memory
/// than any other.
pub(super) const MOST_LINES: usize = 1000;
/// Most lines for one whose calls take their time: what a pipe holds in lines of eight bytes is one call.
pub(super) const MOST_LINES_OF_SLOW_CALLS: usize = 10_000;
/// Bytes after which no line is added.
const MOST_BYTES: usize = 256 * 1024;

/// A line as it was read: number, stream, bytes, how many were cut off.
pub(super) type Raw = (u64, Stream, Vec<u8>, u64);

/// Lines as they were read. Where nothing keeps them, the last ones only: the others are counted.
pub(super) struct Batch {
    lines: VecDeque<Raw>,
    bytes: usize,
    /// Most lines; `None`: nobody keeps them.
    most: Option<usize>,
}

impl Batch {
    /// `most`: lines that whoever keeps all of them takes at once; `None`: nobody does.
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, most }
    }

    pub(super) fn add(&mut self, line: Raw) {
        if self.most.is_none() && self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.bytes += line.2.len();
        self.lines.push_back(line);
    }

    /// Whether it is to be kept before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.lines.len() >= most || self.bytes >= MOST_BYTES)
    }

    pub(super) fn into_lines(self) -> impl Iterator<Item = Raw> {
        self.lines.into_iter()
    }
}
