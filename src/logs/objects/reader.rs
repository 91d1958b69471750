//! Reads a log of segments that grow.

use std::collections::{HashMap, VecDeque};

use object_store::path::Path;
use ticket_activities::logs::Line;

use super::segments::{Segment, segments};
use super::store::Store;
use crate::logs::seen::Seen;

/// Reads the lines of a log, each number once. Holds one segment at a time, and how far each was read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    store: Store,
    folder: Path,
    /// Bytes of each segment that were read.
    read: HashMap<Path, u64>,
    /// Those that have more.
    grown: VecDeque<Segment>,
    /// What was read last, and how far its lines were given.
    bytes: Vec<u8>,
    at: usize,
    seen: Seen,
}

impl SegmentReader {
    pub(super) fn new(store: Store, folder: Path) -> Self {
        let (read, grown, bytes) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { store, folder, read, grown, bytes, at: 0, seen: Seen::default() }
    }

    /// The next line; `None`: there is none yet. What is no line of a log, and what was read before, is passed over.
    ///
    /// # Errors
    /// When the store cannot be asked. The next call goes on where this one could not.
    pub(crate) async fn line(&mut self) -> object_store::Result<Option<Line>> {
        loop {
            while let Some(line) = self.next_line() {
                if let Some(line) = self.seen.line(&self.bytes[line]) {
                    return Ok(Some(line));
                }
            }
            if self.grown.is_empty() {
                self.look().await?;
            }
            let Some(segment) = self.grown.front() else { return Ok(None) };
            let begun = self.read.get(&segment.key).copied().unwrap_or_default();
            self.bytes = self.store.get(&segment.key, begun).await?;
            self.at = 0;
            // It may have grown since it was looked at, by whole lines.
            self.read.insert(segment.key.clone(), begun + self.bytes.len() as u64);
            self.grown.pop_front();
        }
    }

    /// Where the next line is in what was read.
    fn next_line(&mut self) -> Option<std::ops::Range<usize>> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n')?;
        let line = self.at..self.at + length;
        self.at = line.end + 1;
        Some(line)
    }

    async fn look(&mut self) -> object_store::Result<()> {
        let segments = segments(&self.store, &self.folder).await?.into_iter();
        let read = |segment: &Segment| self.read.get(&segment.key).copied().unwrap_or_default();
        self.grown = segments.filter(|segment| segment.size > read(segment)).collect();
        Ok(())
    }
}
