//! The bytes of a log: its lines as JSON, as long as there is room for them, and what is said of those that there is none for.

use std::io;

use ticket_activities::logs::{Line, Stream};

/// What one writer adds to a log, wherever that is.
pub(super) struct Bound {
    /// What the log holds.
    bytes: u64,
    max_bytes: u64,
    /// Number and time of the last line, whether it was left out or not.
    last: (u64, i64),
    left_out: u64,
}

impl Bound {
    /// Of a log that holds so many bytes, the last of which are this line.
    pub(super) fn new(bytes: u64, max_bytes: u64, last: Option<&Line>) -> Self {
        Self { bytes, max_bytes, last: last.map_or((0, 0), |line| (line.seq, line.at_ms)), left_out: 0 }
    }

    /// How many lines were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Number of the last line, whether it was left out or not; 0: none.
    pub(super) fn last_seq(&self) -> u64 {
        self.last.0
    }

    /// The bytes of the lines that there is room for; once, that there is none.
    ///
    /// # Errors
    /// When a line cannot be written as JSON.
    pub(super) fn take(&mut self, lines: &[Line]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for line in lines {
            self.last = (line.seq, line.at_ms);
            if self.left_out > 0 {
                self.left_out += 1;
                continue;
            }
            let begin = out.len();
            write_line(&mut out, line)?;
            if self.bytes + out.len() as u64 > self.max_bytes {
                out.truncate(begin);
                self.note(
                    &mut out,
                    "[… this log has as many bytes as EXECUTION_LOG_MAX_MB allows; what follows is left out …]",
                )?;
                self.left_out = 1;
            }
        }
        self.bytes += out.len() as u64;
        Ok(out)
    }

    /// What is said at the end; nothing where there was room for all.
    ///
    /// # Errors
    /// As [`Bound::take`].
    pub(super) fn end(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.left_out > 0 {
            self.note(&mut out, &format!("[… {} lines were left out …]", self.left_out))?;
        }
        Ok(out)
    }

    /// The worker's own words, with the number of the last line.
    fn note(&self, out: &mut Vec<u8>, text: &str) -> io::Result<()> {
        let (seq, at_ms) = self.last;
        write_line(out, &Line { seq, at_ms, stream: Stream::Worker, text: text.to_owned(), cut: 0 })
    }
}

fn write_line(out: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

/// The last line that is one.
pub(super) fn last_line(bytes: &[u8]) -> Option<Line> {
    bytes.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
}
