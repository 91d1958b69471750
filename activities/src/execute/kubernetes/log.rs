//! What a pod wrote: followed from its start, resumed where the last reading ended, its tail kept.
//!
//! A pod that is deleted takes its log with it, and the kubelet reads only the newest of the files that it rotates. So the log
//! is read while the pod runs, not when it has ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::SetOnce;

use super::faults::Error;
use crate::execute::output::{Captured, Tail};

/// Longest time stamp, such as `2026-01-02T03:04:05.123456789+02:00`.
const MAX_STAMP: usize = 40;
/// What the kubelet says in the place of a log that it does not have, as if it were one.
const NO_LOG: &[u8] = b"unable to retrieve container logs";

/// The log of one pod, as far as it was read. It lives as long as the attempt that reads it.
#[derive(Debug, Default)]
pub(super) struct PodLog {
    /// The pod, once something of it has begun.
    pub(super) pod: SetOnce<String>,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    tail: Option<Tail>,
    /// The newest time stamp; empty: nothing was read.
    stamp: String,
    /// Lines of that stamp, and the bytes that the last of them had so far.
    lines: usize,
    bytes: usize,
}

/// What a pod wrote.
#[derive(Debug)]
pub struct Written {
    /// Standard output and standard error in one: a cluster does not tell them apart.
    pub(super) text: Captured,
    /// Why its end may be missing.
    pub(super) cut_off: Option<String>,
}

impl PodLog {
    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was read.
    pub(super) fn is_begun(&self) -> bool {
        !self.read().stamp.is_empty()
    }

    /// From when on a reading goes on, in whole seconds, as the API takes it; `None`: from the start.
    pub(super) fn since(&self) -> Option<String> {
        let read = self.read();
        let (seconds, rest) = read.stamp.split_at_checked(19)?;
        let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        Some(format!("{seconds}{zone}"))
    }

    /// A reading that begins at [`PodLog::since`]. Of each stream the last `limit` bytes are kept.
    pub(super) fn reading(&self, limit: usize) -> Reading<'_> {
        let mut read = self.read();
        read.tail.get_or_insert_with(|| Tail::new(limit));
        Reading { log: self, at: At::Stamp(Vec::new()), is_behind: !read.stamp.is_empty(), again: 0 }
    }

    /// What was read.
    pub(super) fn written(&self, cut_off: Option<String>) -> Written {
        let tail = self.read().tail.clone().unwrap_or_default();
        Written { text: tail.finish(), cut_off }
    }
}

/// One connection's reading of a log.
pub(super) struct Reading<'a> {
    log: &'a PodLog,
    at: At,
    /// Whether what comes was read before. Afterwards every line counts, also when the node's clock went back.
    is_behind: bool,
    /// Lines of the newest stamp that came again.
    again: usize,
}

enum At {
    /// In the time stamp of a line.
    Stamp(Vec<u8>),
    /// In the text of a line, of which so many bytes were read before.
    Text { known: usize },
}

impl Reading<'_> {
    /// Takes a piece of the log, cut anywhere. Lines that an earlier reading had are passed over.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] for what is no log with time stamps.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Stamp(stamp) => {
                    let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
                    stamp.extend(&bytes[..end.unwrap_or(bytes.len())]);
                    if NO_LOG.starts_with(stamp) {
                        // Its words have blanks.
                        let rest = bytes.len().min(end.map_or(bytes.len(), |end| end + 1));
                        stamp.extend(end.map(|_| b' '));
                        bytes = &bytes[rest..];
                        continue;
                    }
                    if stamp.starts_with(NO_LOG) {
                        return Ok(());
                    }
                    if stamp.len() > MAX_STAMP || end.is_some_and(|_| !is_stamp(stamp)) {
                        return Err(Error::malformed(&format!(
                            "a log without time stamps: {}",
                            String::from_utf8_lossy(stamp)
                        )));
                    }
                    let Some(end) = end else { return Ok(()) };
                    let stamp = String::from_utf8_lossy(stamp).into_owned();
                    let known = self.begin_line(&stamp);
                    // A line without text ends right after its stamp.
                    let blank = usize::from(bytes[end] == b' ');
                    bytes = &bytes[end + blank..];
                    self.at = At::Text { known };
                }
                At::Text { known } => {
                    let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                    let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    let passed_over = text.len().min(*known);
                    *known -= passed_over;
                    let text = &text[passed_over..];
                    let mut read = self.log.read();
                    if !text.is_empty() {
                        read.bytes += text.len();
                        if let Some(tail) = &mut read.tail {
                            tail.push(text);
                        }
                    }
                    drop(read);
                    bytes = rest;
                    if end.is_some() {
                        self.at = At::Stamp(Vec::new());
                    }
                }
            }
        }
        Ok(())
    }

    /// A line of this stamp begins; how many of its bytes were read before.
    fn begin_line(&mut self, stamp: &str) -> usize {
        let mut read = self.log.read();
        if self.is_behind {
            self.again += usize::from(stamp == read.stamp);
            if stamp < read.stamp.as_str() || (stamp == read.stamp && self.again < read.lines) {
                return usize::MAX;
            }
            self.is_behind = false;
            if stamp == read.stamp {
                return read.bytes;
            }
        }
        if stamp == read.stamp {
            read.lines += 1;
        } else {
            stamp.clone_into(&mut read.stamp);
            read.lines = 1;
        }
        read.bytes = 0;
        0
    }
}

/// `2026-01-02T03:04:05…`; the kubelet writes all of them alike, so that they compare as texts.
fn is_stamp(text: &[u8]) -> bool {
    text.len() >= 20 && text[..4].iter().all(u8::is_ascii_digit) && text[4] == b'-' && text[10] == b'T' && text.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(second: u32, nano: u32) -> String {
        format!("2026-01-02T03:04:{second:02}.{nano:09}Z")
    }

    fn text(log: &PodLog) -> String {
        log.written(None).text.text
    }

    #[test]
    fn a_log_is_read_the_same_wherever_it_is_cut() {
        let (first, second) = (stamp(5, 1), stamp(6, 0));
        let whole = format!("{first} one\n{first} \n{first}\n{second} two words\n{second} unfinished");
        let expected = "one\n\n\ntwo words\nunfinished";
        for at in 0..=whole.len() {
            let log = PodLog::default();
            let mut reading = log.reading(1000);
            reading.take(&whole.as_bytes()[..at]).expect("a log");
            reading.take(&whole.as_bytes()[at..]).expect("a log");
            assert_eq!(text(&log), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_reading_that_was_broken_off_anywhere_is_resumed_without_gap_and_repetition() {
        let lines = [(5, 1, "a"), (5, 1, "b"), (5, 2, "c"), (6, 0, "d"), (6, 0, "d"), (7, 0, "e")];
        let whole: String = lines.iter().map(|(second, nano, text)| format!("{} {text}\n", stamp(*second, *nano))).collect();
        for broken_at in 0..=whole.len() {
            let log = PodLog::default();
            log.reading(1000).take(&whole.as_bytes()[..broken_at]).expect("a log");
            // As the API does: everything from that second on.
            let since = log.since().unwrap_or_default();
            let rest: String = whole.split_inclusive('\n').filter(|line| since.is_empty() || line[..19] >= since[..19]).collect();
            log.reading(1000).take(rest.as_bytes()).expect("a log");
            assert_eq!(text(&log), "a\nb\nc\nd\nd\ne\n", "broken off at {broken_at}");
        }
    }

    #[test]
    fn a_reading_goes_on_from_the_second_of_the_last_line() {
        let log = PodLog::default();
        assert_eq!((log.since(), log.is_begun()), (None, false));
        log.reading(10).take(b"2026-01-02T03:04:05.123456789+02:00 x\n").expect("a log");
        assert_eq!(log.since().as_deref(), Some("2026-01-02T03:04:05+02:00"));
        assert!(log.is_begun());
    }

    #[test]
    fn a_clock_that_goes_back_costs_no_line() {
        let log = PodLog::default();
        let lines = format!("{} a\n{} b\n{} c\n", stamp(9, 0), stamp(3, 0), stamp(4, 0));
        log.reading(100).take(lines.as_bytes()).expect("a log");
        assert_eq!(text(&log), "a\nb\nc\n");
    }

    #[test]
    fn only_the_tail_is_kept_and_a_line_without_end_needs_no_memory() {
        let log = PodLog::default();
        let mut reading = log.reading(4);
        reading.take(format!("{} ", stamp(1, 1)).as_bytes()).expect("a log");
        for _ in 0..1000 {
            reading.take(&[b'x'; 1000]).expect("a log");
        }
        reading.take(b"end\n").expect("a log");
        let written = log.written(None).text;
        assert!(written.text.ends_with("]\nend\n") && written.cut, "{}", written.text);
        assert_eq!(written.total, 1_000_004);
    }

    #[test]
    fn the_kubelets_own_words_and_a_proxys_page_are_no_output() {
        let words = b"unable to retrieve container logs for containerd://0abc";
        for at in 0..words.len() {
            let log = PodLog::default();
            let mut reading = log.reading(100);
            reading.take(&words[..at]).expect("no log");
            reading.take(&words[at..]).expect("no log");
            assert_eq!((text(&log).as_str(), log.is_begun()), ("", false), "cut at {at}");
        }
        let log = PodLog::default();
        let page = log.reading(100).take(b"<html><head></head><body>Bad Gateway</body></html>\n");
        assert!(matches!(page, Err(Error::NoAnswer(_))), "{page:?}");
    }
}
