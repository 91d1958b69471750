//! The files of one ticket's logs, and their lines.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use ticket_activities::logs::Line;

use super::seen::Seen;

/// Longest line of a file that is read as one; a sink writes none that is longer.
const LONGEST_LINE: u64 = 256 * 1024;
/// What names of files and segments end with.
pub(super) const ENDING: &str = ".jsonl";

/// The folder of one ticket.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a ticket below a sink's. An id may be `..`, so it is never a name by itself.
    #[must_use]
    pub fn of(root: &Path, ticket_id: &str) -> Self {
        Self(root.join(format!("ticket-{ticket_id}")))
    }

    /// The file of one attempt.
    #[must_use]
    pub fn file(&self, run_id: &str, attempt: u32) -> PathBuf {
        self.0.join(format!("{}.{attempt}{ENDING}", run_name(run_id)))
    }

    /// The attempts of a run that have a file, in their order.
    ///
    /// # Errors
    /// When there is a folder and it cannot be read.
    pub fn attempts(&self, run_id: &str) -> io::Result<Vec<(u32, PathBuf)>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let run = format!("{}.", run_name(run_id));
        let mut attempts = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let attempt = path.file_name().and_then(|file| file.to_str()).and_then(|file| {
                let attempt = file.strip_prefix(&run)?.strip_suffix(ENDING)?;
                attempt.parse().ok()
            });
            attempts.extend(attempt.map(|attempt| (attempt, path)));
        }
        attempts.sort_unstable();
        Ok(attempts)
    }
}

/// What a run id has that a name may have; the server's are UUIDs.
pub(super) fn run_name(run_id: &str) -> String {
    run_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// Reads the lines of a file that grows, each number once: a worker that was taken for lost may go on writing beside the next one.
#[derive(Debug)]
pub struct LogReader {
    file: BufReader<File>,
    begun: Vec<u8>,
    seen: Seen,
}

impl LogReader {
    /// From the file's beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), begun: Vec::new(), seen: Seen::default() })
    }

    /// The next whole line; `None`: there is none yet. What is no line of a log, and what was read before, is passed over.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let room = LONGEST_LINE.saturating_sub(self.begun.len() as u64);
            let read = self.file.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
            if self.begun.last() == Some(&b'\n') || room == 0 {
                let line = self.seen.line(&self.begun);
                self.begun.clear();
                if line.is_some() {
                    return Ok(line);
                }
            } else if read == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_finished_and_rubbish_is_passed_over() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        let mut reader = LogReader::open(file.path()).expect("readable");
        assert_eq!(reader.line().expect("read"), None);
        file.write_all(b"{\"seq\":1,\"at_ms\":2,\"stream\":\"stderr\",").expect("written");
        assert_eq!(reader.line().expect("read"), None, "half a line");
        file.write_all(b"\"text\":\"a\"}\nno line\n\n").expect("written");
        let line = reader.line().expect("read").expect("a line");
        assert_eq!((line.seq, line.text.as_str()), (1, "a"));
        assert_eq!(reader.line().expect("read"), None);
        file.write_all(&vec![b'x'; 3 << 20]).expect("written");
        file.write_all(b"\n{\"seq\":2,\"at_ms\":2,\"stream\":\"stdout\",\"text\":\"b\",\"cut\":3}\n").expect("written");
        let line = reader.line().expect("read").expect("a line");
        assert_eq!((line.seq, line.cut), (2, 3));
        assert!(reader.begun.capacity() <= 2 * LONGEST_LINE as usize, "{}", reader.begun.capacity());
    }

    #[test]
    fn a_line_that_two_workers_have_written_is_read_once() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        for (seq, stream) in
            [(1, "stdout"), (2, "stdout"), (2, "worker"), (3, "stdout"), (2, "stderr"), (3, "stdout"), (4, "stdout")]
        {
            let line = serde_json::json!({ "seq": seq, "at_ms": 1, "stream": stream, "text": "" });
            writeln!(file, "{line}").expect("written");
        }
        let mut reader = LogReader::open(file.path()).expect("readable");
        let read = std::iter::from_fn(|| reader.line().expect("read"));
        let read: Vec<_> = read.map(|line| (line.seq, line.stream.as_str())).collect();
        assert_eq!(read, [(1, "stdout"), (2, "stdout"), (2, "worker"), (3, "stdout"), (4, "stdout")]);
    }

    #[test]
    fn the_attempts_of_a_run_are_found_in_their_order() {
        let root = tempfile::tempdir().expect("folder");
        let folder = Folder::of(root.path(), "t");
        assert_eq!(folder.attempts("r").expect("read"), [], "there is no folder");
        std::fs::create_dir(root.path().join("ticket-t")).expect("folder");
        for file in ["r.10.jsonl", "r.9.jsonl", "r.x.jsonl", "r2.1.jsonl", "r.1.json", "other"] {
            std::fs::write(root.path().join("ticket-t").join(file), "").expect("written");
        }
        let attempts: Vec<u32> = folder.attempts("r").expect("read").into_iter().map(|(attempt, _)| attempt).collect();
        assert_eq!(attempts, [9, 10]);
        assert_eq!(folder.file("../r/..", 1), folder.file("r", 1), "a run id names no other folder");
    }
}
