//! What a pod wrote: followed from its start, resumed where the last reading ended, its tail kept.
//!
//! A pod that is deleted takes its log with it, and the kubelet reads only the newest of the files that it rotates. So the log
//! is read while the pod runs, not when it has ended.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::faults::Error;
use super::standing::Begun;
use crate::execute::output::{Captured, Tail};
use crate::external::Fault;

/// Longest time stamp, such as `2026-01-02T03:04:05.123456789+02:00`.
const MAX_STAMP: usize = 40;
/// A command whose first line that is known is not later has lost none before it. The cluster tells its start in whole seconds.
const AT_ITS_START: SignedDuration = SignedDuration::from_secs(2);

/// The log of one pod, as far as it was read. It lives as long as the attempt that reads it.
#[derive(Debug, Default)]
pub(super) struct PodLog {
    /// The pod, once its command has begun.
    pub(super) begun: SetOnce<Begun>,
    /// Whether it can be followed from its start: this attempt has created the Job.
    pub(super) from_start: bool,
    read: Mutex<Read>,
    /// When its end was first asked for.
    asked: OnceLock<Instant>,
}

#[derive(Debug, Default)]
struct Read {
    tail: Option<Tail>,
    /// Stamp of the first line.
    first: Option<Timestamp>,
    /// Stamp of the last line; `None`: nothing was read.
    last: Option<Timestamp>,
    /// Lines of that stamp, one after the other, and the bytes that the last of them had so far.
    lines: usize,
    bytes: usize,
    /// Whether lines between two readings, or in front of the first, are missing.
    has_gap: bool,
}

/// What a pod wrote.
#[derive(Debug)]
pub struct Written {
    /// Standard output and standard error in one: a cluster does not tell them apart.
    pub(super) text: Captured,
    /// Why some of it may be missing.
    pub(super) incomplete: Option<String>,
}

impl PodLog {
    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was read.
    pub(super) fn is_begun(&self) -> bool {
        self.read().last.is_some()
    }

    /// Since when its end has been asked for.
    pub(super) fn asked_since(&self) -> Instant {
        *self.asked.get_or_init(Instant::now)
    }

    /// From when on a reading goes on, in whole seconds, as the API takes it; `None`: from the start. It is a second before the
    /// last line, so that this line is not the first to come.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let last = self.read().last?;
        Timestamp::from_second(last.as_second() - 1).ok()
    }

    /// A reading that begins at [`PodLog::since`]. Of the text the last `limit` bytes are kept.
    pub(super) fn reading(&self, limit: usize) -> Reading<'_> {
        let mut read = self.read();
        read.tail.get_or_insert_with(|| Tail::new(limit));
        let is_behind = read.last.is_some();
        Reading { log: self, at: At::Stamp(Vec::new()), is_behind, again: 0, lines: 0, rest: None }
    }

    /// What was read. `fault`: why it could not be read to its end.
    pub(super) fn written(&self, fault: Option<&Fault>) -> Written {
        let read = self.read();
        let began = self.begun.get().and_then(|begun| begun.at);
        let is_late = !self.from_start
            && read.first.is_some_and(|first| began.is_none_or(|began| first.duration_since(began) > AT_ITS_START));
        let incomplete = match fault {
            Some(fault) => Some(format!("the end of the output may be missing: {fault}")),
            None if read.has_gap => Some("lines of the output are missing: the node keeps only the newest".to_owned()),
            None if is_late => Some("the start of the output may be missing: it was read late".to_owned()),
            None => None,
        };
        Written { text: read.tail.clone().unwrap_or_default().finish(), incomplete }
    }
}

/// One connection's reading of a log.
pub(super) struct Reading<'a> {
    log: &'a PodLog,
    at: At,
    /// Whether what comes was read before. Afterwards every line counts, also when the node's clock went back.
    is_behind: bool,
    /// Lines of the last stamp that came again.
    again: usize,
    /// Lines of this reading.
    lines: usize,
    /// The first word of what came without a stamp in front of the first line.
    rest: Option<Vec<u8>>,
}

enum At {
    /// In the time stamp of a line.
    Stamp(Vec<u8>),
    /// In the text of a line, of which so many bytes were read before.
    Text { known: usize },
    /// In front of the first line, in the rest of a longer one, whose start is not in this reading.
    Rest,
}

impl Reading<'_> {
    /// Takes a piece of the log, cut anywhere. Lines that an earlier reading had are passed over.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] for what is no log with time stamps, such as a proxy's page, and what the kubelet says in the place
    /// of a log that it cannot read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Stamp(word) => {
                    let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
                    let (of_word, after) = bytes.split_at(end.unwrap_or(bytes.len()));
                    word.extend(of_word);
                    bytes = after;
                    if bytes.is_empty() && word.len() <= MAX_STAMP {
                        return Ok(());
                    }
                    let word = std::mem::take(word);
                    self.at = match stamp(&word) {
                        Some(stamp) if !bytes.is_empty() => {
                            // A line without text ends right after its stamp.
                            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
                            At::Text { known: self.begin_line(stamp) }
                        }
                        _ if self.lines == 0 && self.rest.is_none() => {
                            self.rest = Some(word);
                            At::Rest
                        }
                        _ => return Err(no_log(&word)),
                    };
                }
                At::Text { known } => {
                    let (text, rest) = line_end(bytes);
                    let passed_over = text.len().min(*known);
                    *known -= passed_over;
                    self.log.read().push(&text[passed_over..]);
                    if text.ends_with(b"\n") {
                        self.at = At::Stamp(Vec::new());
                    }
                    bytes = rest;
                }
                At::Rest => {
                    let (text, rest) = line_end(bytes);
                    if text.ends_with(b"\n") {
                        self.at = At::Stamp(Vec::new());
                    }
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// The log has ended.
    ///
    /// # Errors
    /// As of [`Reading::take`]; and when the last line of the reading before did not come again.
    pub(super) fn finish(self) -> Result<(), Error> {
        match (&self.at, &self.rest) {
            (At::Stamp(word), _) if !word.is_empty() => Err(no_log(word)),
            (_, Some(rest)) if self.lines == 0 => Err(no_log(rest)),
            _ if self.is_behind => {
                let cause = "the log ends before what was read of it already".to_owned();
                Err(Error::NoAnswer(Fault::Lost { cause }))
            }
            _ => Ok(()),
        }
    }

    /// A line of this stamp begins; how many of its bytes were read before.
    fn begin_line(&mut self, stamp: Timestamp) -> usize {
        let is_first = self.lines == 0 && self.rest.is_none();
        self.lines += 1;
        let mut read = self.log.read();
        match read.last.filter(|_| self.is_behind) {
            Some(last) => {
                self.again += usize::from(stamp == last);
                // The first may be the rest of a longer one, and only look as if it had a stamp.
                if stamp < last || (stamp == last && self.again < read.lines) || (stamp > last && is_first) {
                    return usize::MAX;
                }
                self.is_behind = false;
                if stamp == last {
                    return read.bytes;
                }
                read.has_gap = true;
            }
            None => read.has_gap |= read.last.is_none() && self.rest.is_some(),
        }
        if read.last == Some(stamp) {
            read.lines += 1;
        } else {
            read.last = Some(stamp);
            read.lines = 1;
        }
        read.first.get_or_insert(stamp);
        read.bytes = 0;
        0
    }
}

impl Read {
    fn push(&mut self, text: &[u8]) {
        self.bytes += text.len();
        if let Some(tail) = &mut self.tail {
            tail.push(text);
        }
    }
}

fn stamp(word: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// To the end of the line, and what comes after it.
fn line_end(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    bytes.split_at(end)
}

fn no_log(word: &[u8]) -> Error {
    Error::malformed(&format!("a log without time stamps: {}…", String::from_utf8_lossy(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(second: u32, nano: u32) -> String {
        format!("2026-01-02T03:04:{second:02}.{nano:09}Z")
    }

    /// A log that is followed from its start.
    fn log() -> PodLog {
        PodLog { from_start: true, ..PodLog::default() }
    }

    fn read(log: &PodLog, text: &str) -> Result<(), Error> {
        let mut reading = log.reading(100_000);
        reading.take(text.as_bytes())?;
        reading.finish()
    }

    /// What the kubelet answers: lines whose part is not before `since`, each with a stamp only where it begins.
    fn answer(parts: &[(u32, &str)], since: Option<Timestamp>) -> String {
        let mut text = String::new();
        let mut begins = true;
        for (second, part) in parts {
            let at = stamp(*second, 0);
            if since.is_none_or(|since| at.parse::<Timestamp>().expect("a stamp") >= since) {
                text += &if begins { format!("{at} {part}") } else { (*part).to_owned() };
            }
            begins = part.ends_with('\n');
        }
        text
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
            let log = log();
            let mut reading = log.reading(1000);
            reading.take(&whole.as_bytes()[..at]).expect("a log");
            reading.take(&whole.as_bytes()[at..]).expect("a log");
            reading.finish().expect("its end");
            let written = log.written(None);
            assert_eq!((written.text.text.as_str(), written.incomplete), (expected, None), "cut at {at}");
        }
    }

    #[test]
    fn a_reading_that_was_broken_off_anywhere_is_resumed_without_gap_and_repetition() {
        let lines = [(5, 1, "a"), (5, 1, "b"), (5, 2, "c"), (6, 0, "d"), (6, 0, "d"), (7, 0, "e")];
        let whole: String =
            lines.iter().map(|(second, nano, text)| format!("{} {text}\n", stamp(*second, *nano))).collect();
        for broken_at in 0..=whole.len() {
            let log = log();
            log.reading(1000).take(&whole.as_bytes()[..broken_at]).expect("a log");
            // As the API does: everything from that second on.
            let since = log.since();
            let is_told =
                |line: &&str| since.is_none_or(|since| line[..30].parse::<Timestamp>().expect("a stamp") >= since);
            let rest: String = whole.split_inclusive('\n').filter(is_told).collect();
            read(&log, &rest).expect("its end");
            let written = log.written(None);
            assert_eq!(
                (written.text.text.as_str(), written.incomplete),
                ("a\nb\nc\nd\nd\ne\n", None),
                "at {broken_at}"
            );
        }
    }

    #[test]
    fn lines_that_the_runtime_has_cut_into_pieces_are_resumed_whatever_is_in_them() {
        let forged = format!("{} of the command's own\n", stamp(59, 0));
        let kubelet = "unable to retrieve it, says the command\n";
        for piece in ["more of it\n", forged.as_str(), kubelet] {
            let parts = [(1, "long "), (3, "er "), (4, piece), (4, "next\n"), (5, "long "), (6, piece), (7, "last\n")];
            let whole = answer(&parts, None);
            let expected = format!("long er {piece}next\nlong {piece}last\n");
            for broken_at in 0..=whole.len() {
                let log = log();
                log.reading(100_000).take(&whole.as_bytes()[..broken_at]).expect("a log");
                read(&log, &answer(&parts, log.since())).expect("its end");
                let written = log.written(None);
                assert_eq!(
                    (written.text.text.as_str(), written.incomplete),
                    (expected.as_str(), None),
                    "at {broken_at}"
                );
            }
        }
    }

    #[test]
    fn a_reading_goes_on_a_second_before_the_last_line() {
        let log = log();
        assert_eq!((log.since(), log.is_begun()), (None, false));
        log.reading(10).take(b"2026-01-02T03:04:05.123456789+02:00 x\n").expect("a log");
        assert_eq!(log.since().map(|since| since.to_string()).as_deref(), Some("2026-01-02T01:04:04Z"));
        assert!(log.is_begun());
    }

    #[test]
    fn a_clock_that_goes_back_costs_no_line() {
        let log = log();
        let lines = format!("{} a\n{} b\n{} c\n", stamp(9, 0), stamp(3, 0), stamp(4, 0));
        read(&log, &lines).expect("a log");
        assert_eq!(text(&log), "a\nb\nc\n");
    }

    #[test]
    fn lines_that_the_node_has_thrown_away_are_missed() {
        let rotated = format!("{} x\n{} y\n", stamp(9, 0), stamp(9, 1));
        let log = log();
        log.reading(100).take(format!("{} a\n", stamp(5, 0)).as_bytes()).expect("a log");
        assert!(read(&log, "").is_err(), "what was read does not come again");
        read(&log, &rotated).expect("its end");
        let written = log.written(None);
        assert!(written.text.text.starts_with("a\n") && written.text.text.ends_with("y\n"), "{written:?}");
        assert!(written.incomplete.is_some_and(|why| why.contains("missing")));
        // The newest file begins within a line.
        let log = log_of_late_reader(Some(stamp(9, 0)));
        read(&log, &format!("of a line\n{rotated}")).expect("its end");
        let written = log.written(None);
        assert_eq!(written.text.text, "x\ny\n");
        assert!(written.incomplete.is_some());
    }

    /// Of a command that began at `began`.
    fn log_of_late_reader(began: Option<String>) -> PodLog {
        let log = PodLog::default();
        let at = began.map(|at| at.parse().expect("a stamp"));
        log.begun.set(Begun { pod: "p".to_owned(), at }).expect("once");
        log
    }

    #[test]
    fn whoever_reads_late_says_so_unless_the_first_line_is_as_old_as_the_command() {
        for (began, is_late) in [(Some(stamp(5, 0)), false), (Some(stamp(1, 0)), true), (None, true)] {
            let log = log_of_late_reader(began);
            read(&log, &format!("{} a\n", stamp(6, 0))).expect("a log");
            assert_eq!(log.written(None).incomplete.is_some(), is_late);
        }
        let silent = log_of_late_reader(None);
        read(&silent, "").expect("a log");
        assert_eq!(silent.written(None).incomplete, None, "nothing was written");
    }

    #[test]
    fn only_the_tail_is_kept_and_a_line_without_end_needs_no_memory() {
        let log = log();
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
    fn the_kubelets_own_words_and_a_proxys_page_are_faults_and_no_output() {
        let words = "unable to retrieve container logs for containerd://0abc";
        let page = "<html><head></head><body>Bad Gateway</body></html>\n";
        for instead in [words, page, "<html>\n<body>\n</html>\n", "<html></html>"] {
            for before in [String::new(), format!("{} a\n", stamp(1, 0))] {
                for at in 0..instead.len() {
                    let log = log();
                    let mut reading = log.reading(100);
                    let pieces = [before.as_bytes(), &instead.as_bytes()[..at], &instead.as_bytes()[at..]];
                    let taken = pieces.into_iter().try_for_each(|piece| reading.take(piece));
                    let fault = taken.and_then(|()| reading.finish());
                    assert!(matches!(fault, Err(Error::NoAnswer(_))), "{instead}, cut at {at}: {fault:?}");
                    assert_eq!(text(&log), if before.is_empty() { "" } else { "a\n" }, "{instead}, cut at {at}");
                }
            }
        }
    }
}
