//! Each line once: a worker that was taken for lost may go on writing beside the next one.

use std::collections::VecDeque;

use ticket_activities::logs::{Line, Stream};

/// Most of a worker's own words that are remembered: an attempt has a few.
const MOST_NOTES: usize = 64;

/// What was read of a log so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The highest number.
    last: u64,
    /// What workers said last of the log, which has the number of a line.
    notes: VecDeque<Line>,
}

impl Seen {
    /// A line that is new; `None` for one that was read before, and for what is no line of a log.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Option<Line> {
        serde_json::from_slice(bytes).ok().filter(|line| self.is_new(line))
    }

    /// Whether this line was not read before. From now on it was.
    fn is_new(&mut self, line: &Line) -> bool {
        let is_new = match line.stream {
            Stream::Worker => !self.notes.iter().any(|note| note.seq == line.seq && note.text == line.text),
            Stream::Stdout | Stream::Stderr => line.seq > self.last,
        };
        if is_new && line.stream == Stream::Worker {
            self.notes.truncate(MOST_NOTES - 1);
            self.notes.push_front(line.clone());
        }
        self.last = self.last.max(line.seq);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_read_once_and_no_end_of_it_is_remembered() {
        let note = |seq, text: &str| Line { seq, at_ms: 1, stream: Stream::Worker, text: text.to_owned(), cut: 0 };
        let mut seen = Seen::default();
        for (line, is_new) in [(note(2, "a"), true), (note(2, "b"), true), (note(2, "a"), false), (note(1, "a"), true)]
        {
            assert_eq!(seen.is_new(&line), is_new, "{line:?}");
        }
        for seq in 3..1000 {
            assert!(seen.is_new(&note(seq, "a")));
            assert!(!seen.is_new(&note(seq, "a")));
        }
        assert_eq!(seen.notes.len(), MOST_NOTES);
    }
}
