//! Bounded capture of a stream: everything is read, both ends are kept, the cut between them is marked.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::json;
use ticket_workflows::ExecutionReport;

use crate::logs::{Redactor, clean};

/// The first and the last bytes of a stream.
#[derive(Debug, Clone, Default)]
pub(in crate::execute) struct Capture {
    /// Bytes kept of the beginning: a quarter. What went wrong is said at the end more often.
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    redactor: Redactor,
}

/// A stream as text, without the worker's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::execute) struct Captured {
    /// The text; a cut is marked where it is.
    pub(in crate::execute) text: String,
    /// Bytes the stream had in all.
    pub(in crate::execute) total: u64,
    /// Whether something was cut out.
    pub(in crate::execute) cut: bool,
    /// Whether every byte kept was UTF-8; other bytes are replaced by U+FFFD.
    pub(in crate::execute) utf8: bool,
}

impl Capture {
    /// Keeps so many bytes in all.
    pub(in crate::execute) fn new(limit: usize, redactor: Redactor) -> Self {
        Self { head_limit: limit / 4, tail_limit: limit - limit / 4, redactor, ..Self::default() }
    }

    pub(in crate::execute) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, bytes) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let bytes = &bytes[bytes.len().saturating_sub(self.tail_limit)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..excess);
        self.tail.extend(bytes);
    }

    /// Bytes seen so far.
    pub(in crate::execute) fn total(&self) -> u64 {
        self.total
    }

    pub(in crate::execute) fn finish(mut self) -> Captured {
        let total = self.total;
        let cut = total > (self.head.len() + self.tail.len()) as u64;
        if !cut {
            self.head.extend(self.tail);
            let text = String::from_utf8_lossy(&self.head);
            let utf8 = matches!(text, Cow::Borrowed(_));
            let (text, _) = self.redactor.redact_raw(&text, false, false);
            let text = text.into_owned();
            return Captured { text, total, cut, utf8 };
        }
        // A cut may fall inside a character; its parts are not the stream's fault. Nor may it leave a part of a secret.
        let head = String::from_utf8_lossy(without_begun_character(&self.head));
        let tail = String::from_utf8_lossy(without_rest_of_character(self.tail.make_contiguous()));
        let utf8 = matches!((&head, &tail), (Cow::Borrowed(_), Cow::Borrowed(_)));
        let (first, bytes_first) = self.redactor.redact_raw(&head, false, true);
        let (last, bytes_last) = self.redactor.redact_raw(&tail, true, false);
        let missing = total.saturating_sub((bytes_first + bytes_last) as u64);
        let line_end = if first.is_empty() || first.ends_with('\n') { "" } else { "\n" };
        let text = format!("{first}{line_end}[… {missing} bytes cut …]\n{last}");
        Captured { text, total, cut, utf8 }
    }
}

/// `bytes` without a character at their end whose other bytes are not there.
fn without_begun_character(bytes: &[u8]) -> &[u8] {
    let is_rest = |byte: &u8| byte & 0xC0 == 0x80;
    let Some(back) = bytes.iter().rev().take(3).position(|byte| !is_rest(byte)) else { return bytes };
    let at = bytes.len() - 1 - back;
    let length = match bytes[at] {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    if back + 1 < length { &bytes[..at] } else { bytes }
}

/// `bytes` without a character at their beginning whose first bytes are not there.
fn without_rest_of_character(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take(3).take_while(|byte| *byte & 0xC0 == 0x80).count()..]
}

impl Captured {
    /// What metadata says of a stream that is called `name`.
    pub(in crate::execute) fn describe(&self, report: &mut ExecutionReport, name: &str) {
        report.metadata.insert(format!("{name}_bytes"), json!(self.total));
        if self.cut {
            report.metadata.insert(format!("{name}_truncated"), json!(true));
        }
        if !self.utf8 {
            report.metadata.insert(format!("{name}_utf8"), json!(false));
        }
    }
}

/// `: <last line>` of a stream's text, bounded and as a terminal shows it; empty when there is none. Secrets were looked for in the
/// same lines: no part that they do not have together is put together here.
pub(in crate::execute) fn last_line(text: &str) -> String {
    let lines = text.rsplit(['\n', '\r']).map(|line| clean(line.as_bytes()));
    let line = lines.map(|line| line.trim().to_owned()).find(|line| !line.is_empty());
    line.map_or_else(String::new, |line| format!(": {}", line.chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(limit: usize, chunks: &[&[u8]]) -> Captured {
        capture_without(limit, chunks, &[])
    }

    fn capture_without(limit: usize, chunks: &[&[u8]], secrets: &[&str]) -> Captured {
        let secrets = secrets.iter().map(|secret| zeroize::Zeroizing::new((*secret).to_owned()));
        let mut capture = Capture::new(limit, Redactor::new(secrets));
        for chunk in chunks {
            capture.push(chunk);
        }
        capture.finish()
    }

    #[test]
    fn short_output_is_kept_as_it_is() {
        for chunks in [&[&b"hel"[..], b"lo"][..], &[b"hello"], &[b"h", b"e", b"l", b"l", b"o"]] {
            let captured = capture(5, chunks);
            assert_eq!(captured, Captured { text: "hello".into(), total: 5, cut: false, utf8: true });
        }
    }

    #[test]
    fn long_output_keeps_both_ends_and_marks_the_cut() {
        let captured = capture(8, &[b"abcdefghijkl", b"mn"]);
        assert_eq!(captured.text, "ab\n[… 6 bytes cut …]\nijklmn");
        assert!(captured.cut);
        assert_eq!(captured.total, 14);
        assert_eq!(capture(8, &[b"a\nbcdefghijkl"]).text, "a\n[… 5 bytes cut …]\nghijkl", "the mark is a line");
    }

    #[test]
    fn a_cut_inside_a_character_leaves_no_rubbish() {
        // Two bytes of "é" in front, and one behind: each is half of one.
        let captured = capture(12, &["aéééééééé".as_bytes()]);
        assert_eq!(captured.text, "aé\n[… 6 bytes cut …]\néééé");
        assert!(captured.utf8);
        let captured = capture(12, &["ééééééééé".as_bytes()]);
        assert_eq!(captured.text, "é\n[… 8 bytes cut …]\néééé");
        assert!(captured.utf8);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_said_so() {
        let captured = capture(10, &[b"a\xFFb"]);
        assert_eq!(captured.text, "a\u{FFFD}b");
        assert!(!captured.utf8);
    }

    #[test]
    fn the_last_line_is_what_a_terminal_shows_of_it() {
        for (text, expected) in [
            ("", ""),
            (" \n\n", ""),
            ("a\nb\x1b[31mc\x1b[0m \n\n", ": bc"),
            ("hun\x1bter2\n", ": huner2"),
            ("hun\rter2\n", ": ter2"),
        ] {
            assert_eq!(last_line(text), expected, "{text:?}");
        }
        assert_eq!(last_line(&"é".repeat(300)).chars().count(), 202);
    }

    #[test]
    fn a_secret_is_in_neither_end_nor_beside_the_cut() {
        let captured = capture_without(100, &[b"my hunt", b"er2 is out\n"], &["hunter2"]);
        assert_eq!(captured.text, "my [redacted] is out\n");
        let captured = capture_without(100, &[b"my \x1b[1mhunt\x1b[0mer2 is \x1b[31mout\n"], &["hunter2"]);
        assert_eq!(captured.text, "my \x1b[1m[redacted] is \x1b[31mout\n", "what is no secret stays as it is");
        for before in 0..40 {
            let text = format!("{}123456{}", "a".repeat(before), "b".repeat(40));
            let captured = capture_without(24, &[text.as_bytes()], &["123456"]);
            let (first, last) = captured.text.split_once("[… ").expect("a cut");
            let (_, last) = last.split_once("cut …]").expect("a mark");
            assert!(!format!("{first}{last}").contains(|c: char| c.is_ascii_digit()), "{before}: {}", captured.text);
        }
    }
}
