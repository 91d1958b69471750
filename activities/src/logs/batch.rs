//! Lines that are kept at once: few enough that a piece of nothing but line ends takes no more memory than any other.

use std::collections::VecDeque;

use super::logged::LAST_LINES;

/// Most lines.
const MOST_LINES: usize = 1000;
/// Bytes after which no line is added.
const MOST_BYTES: usize = 256 * 1024;

/// A line as it was read: number, bytes, how many were cut off.
pub(super) type Raw = (u64, Vec<u8>, u64);

/// Lines as they were read. Where nothing keeps them, the last ones only: the others are counted.
pub(super) struct Batch {
    lines: VecDeque<Raw>,
    bytes: usize,
    all: bool,
}

impl Batch {
    /// `all`: whether somebody keeps all lines.
    pub(super) fn new(all: bool) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, all }
    }

    pub(super) fn add(&mut self, line: Raw) {
        if !self.all && self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.bytes += line.1.len();
        self.lines.push_back(line);
    }

    /// Whether it is to be kept before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.all && (self.lines.len() >= MOST_LINES || self.bytes >= MOST_BYTES)
    }

    pub(super) fn into_lines(self) -> impl Iterator<Item = Raw> {
        self.lines.into_iter()
    }
}
