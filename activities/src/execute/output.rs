//! Bounded capture of a stream: everything is read, the tail is kept, the cut is marked.

use std::collections::VecDeque;

use serde_json::json;
use ticket_workflows::ExecutionReport;

/// The last bytes of a stream.
#[derive(Debug, Clone, Default)]
pub(in crate::execute) struct Tail {
    limit: usize,
    kept: VecDeque<u8>,
    total: u64,
}

/// A stream as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::execute) struct Captured {
    /// The text; a cut is marked in front.
    pub(in crate::execute) text: String,
    /// Bytes the stream had in all.
    pub(in crate::execute) total: u64,
    /// Whether the front was cut off.
    pub(in crate::execute) cut: bool,
    /// Whether every byte kept was UTF-8; other bytes are replaced by U+FFFD.
    pub(in crate::execute) utf8: bool,
}

impl Tail {
    pub(in crate::execute) fn new(limit: usize) -> Self {
        Self { limit, kept: VecDeque::new(), total: 0 }
    }

    pub(in crate::execute) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.kept.extend(bytes);
    }

    /// Bytes seen so far.
    pub(in crate::execute) fn total(&self) -> u64 {
        self.total
    }

    pub(in crate::execute) fn finish(mut self) -> Captured {
        let cut = self.total - self.kept.len() as u64;
        let bytes = self.kept.make_contiguous();
        // A cut may fall inside a character; its rest is not the stream's fault.
        let start = if cut == 0 { 0 } else { bytes.iter().take(3).take_while(|byte| *byte & 0xC0 == 0x80).count() };
        let bytes = &bytes[start..];
        let text = String::from_utf8_lossy(bytes);
        let utf8 = matches!(text, std::borrow::Cow::Borrowed(_));
        let text =
            if cut == 0 { text.into_owned() } else { format!("[… {} bytes cut …]\n{text}", cut + start as u64) };
        Captured { text, total: self.total, cut: cut > 0, utf8 }
    }
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

/// `: <last line>` of a stream's text, bounded and without control codes; empty when there is none.
pub(in crate::execute) fn last_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if clean.is_empty() { String::new() } else { format!(": {clean}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(limit: usize, chunks: &[&[u8]]) -> Captured {
        let mut tail = Tail::new(limit);
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.finish()
    }

    #[test]
    fn short_output_is_kept_as_it_is() {
        let captured = capture(10, &[b"hel", b"lo"]);
        assert_eq!(captured, Captured { text: "hello".into(), total: 5, cut: false, utf8: true });
    }

    #[test]
    fn long_output_keeps_its_tail_and_marks_the_cut() {
        let captured = capture(4, &[b"abcdefgh", b"ij"]);
        assert_eq!(captured.text, "[… 6 bytes cut …]\nghij");
        assert!(captured.cut);
        assert_eq!(captured.total, 10);
    }

    #[test]
    fn a_cut_inside_a_character_leaves_no_rubbish() {
        let captured = capture(3, &["ééé".as_bytes()]);
        assert_eq!(captured.text, "[… 4 bytes cut …]\né");
        assert!(captured.utf8);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_said_so() {
        let captured = capture(10, &[b"a\xFFb"]);
        assert_eq!(captured.text, "a\u{FFFD}b");
        assert!(!captured.utf8);
    }
}
