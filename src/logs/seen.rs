//! Each line once: a worker that was taken for lost may go on writing beside the next one.

use ticket_activities::logs::{Line, Stream};

/// What was read of a log so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The highest number.
    last: u64,
}

impl Seen {
    /// A line that is new; `None` for one that was read before, and for what is no line of a log.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Option<Line> {
        let line: Line = serde_json::from_slice(bytes).ok()?;
        // What a worker says of the log has the number of a line.
        if line.seq <= self.last && line.stream != Stream::Worker {
            return None;
        }
        self.last = self.last.max(line.seq);
        Some(line)
    }
}
