//! Reads a log of segments that grow.

use std::collections::{HashMap, VecDeque};

use object_store::Error;
use object_store::path::Path;
use ticket_activities::logs::Line;

use super::segments::{Segment, segments};
use super::store::{Store, told};
use crate::logs::seen::Seen;

/// Segments that one look finds at most: as many objects as a store tells of at once.
const AT_ONCE: usize = 1_000;
/// The last segments, which each look asks for again: a worker that was taken for lost may write beside the next one.
const IN_VIEW: usize = 100;

/// Reads the lines of a log, each number once: of those that two workers have written, what it comes to first. Holds the lines of one
/// segment at most, and how far those in view were read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    store: Store,
    folder: Path,
    /// The line that the first segment in view begins with.
    from: u64,
    /// Bytes of each segment in view that were read.
    read: HashMap<Path, u64>,
    /// Those that have more.
    grown: VecDeque<Segment>,
    seen: Seen,
    /// Lines that were read and not yet given.
    lines: VecDeque<Line>,
}

impl SegmentReader {
    pub(super) fn new(store: Store, folder: Path) -> Self {
        let (read, grown, lines) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { store, folder, from: 0, read, grown, seen: Seen::default(), lines }
    }

    /// The next line; `None`: there is none yet. What is no line of a log, and what was read before, is passed over.
    ///
    /// # Errors
    /// When the store cannot be asked: why, and what to do. The next call goes on where this one could not.
    pub(crate) async fn line(&mut self) -> Result<Option<Line>, String> {
        while self.lines.is_empty() {
            if self.grown.is_empty() {
                self.look().await.map_err(|error| told(&error))?;
            }
            if self.grown.is_empty() {
                return Ok(None);
            }
            self.read_on().await.map_err(|error| told(&error))?;
        }
        Ok(self.lines.pop_front())
    }

    async fn look(&mut self) -> object_store::Result<()> {
        let segments = segments(&self.store, &self.folder, self.from, AT_ONCE).await?;
        if let Some(oldest) = segments.len().checked_sub(IN_VIEW) {
            self.from = segments[oldest].first;
        }
        let mut known = std::mem::take(&mut self.read);
        for segment in &segments {
            self.read.extend(known.remove_entry(&segment.key));
        }
        let read = |segment: &Segment| self.read.get(&segment.key).copied().unwrap_or_default();
        self.grown = segments.into_iter().filter(|segment| segment.size > read(segment)).collect();
        Ok(())
    }

    /// Reads the first segment that has more.
    async fn read_on(&mut self) -> object_store::Result<()> {
        let Some(segment) = self.grown.front() else { return Ok(()) };
        let begun = self.read.get(&segment.key).copied().unwrap_or_default();
        let bytes = match self.store.get(&segment.key, begun).await {
            Ok(bytes) => bytes,
            // Whatever removes old logs was faster.
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        // It may have grown since it was looked at, by whole lines.
        self.read.insert(segment.key.clone(), segment.size.max(begun + bytes.len() as u64));
        self.lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| self.seen.line(line)).collect();
        self.grown.pop_front();
        Ok(())
    }
}
