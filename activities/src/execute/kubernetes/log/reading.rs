//! One connection's reading of a log, for all who read it.

use std::sync::atomic::Ordering;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::MutexGuard;

use super::PodLog;
use super::follower::Follower;
use super::place::{Before, Onward};
use crate::execute::kubernetes::faults::Error;
use crate::external::Fault;

/// Longest time stamp, such as `2026-01-02T03:04:05.123456789+02:00`.
const MAX_STAMP: usize = 40;

/// A reading of a log. There is one at a time.
pub(in crate::execute::kubernetes) struct Reading<'a> {
    log: &'a PodLog,
    _turn: MutexGuard<'a, ()>,
    at: At,
    kept: Onward,
    follower: Option<Follower<'a>>,
    /// Lines of this reading.
    lines: usize,
    /// The first word of what came without a stamp in front of the first line.
    rest: Option<Vec<u8>>,
}

/// While whoever follows is given lines, the reading waits, and the node is not silent. It may be dropped meanwhile.
struct Giving<'a>(&'a PodLog);

impl<'a> Giving<'a> {
    fn begin(log: &'a PodLog) -> Self {
        log.gives.store(true, Ordering::Relaxed);
        Self(log)
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.0.hear_news();
        self.0.gives.store(false, Ordering::Relaxed);
    }
}

enum At {
    /// In the time stamp of a line.
    Stamp(Vec<u8>),
    /// In the text of a line.
    Text,
    /// In front of the first line, in the rest of a longer one, whose start is not in this reading.
    Rest,
}

impl<'a> Reading<'a> {
    pub(super) fn new(log: &'a PodLog, turn: MutexGuard<'a, ()>, kept: Onward, follower: Option<Follower<'a>>) -> Self {
        let reading = Self { log, _turn: turn, at: At::Stamp(Vec::new()), kept, follower, lines: 0, rest: None };
        reading.tell_whether_behind();
        reading
    }

    /// From when on it is to read, in whole seconds, as the API takes it; `None`: from the start. It is a second before the last
    /// line that all have, so that this line is not the first to come.
    pub(in crate::execute::kubernetes) fn since(&self) -> Option<Timestamp> {
        let mut last = self.kept.place().last?;
        if let Some(follower) = &self.follower {
            last = last.min(follower.onward.place().last?);
        }
        Timestamp::from_second(last.as_second() - 1).ok()
    }

    /// Takes a piece of the log, cut anywhere, and returns when whoever follows has it. Lines that an earlier reading had are passed
    /// over.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] for what is no log with time stamps, such as a proxy's page, and what the kubelet says in the place
    /// of a log that it cannot read.
    pub(in crate::execute::kubernetes) async fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let taken = self.split(bytes);
        if let Some(follower) = &mut self.follower {
            let _giving = follower.has_news().then(|| Giving::begin(self.log));
            follower.give().await;
        }
        taken
    }

    fn split(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if let At::Stamp(word) = &mut self.at {
                let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
                let (of_word, after) = bytes.split_at(end.unwrap_or(bytes.len()));
                word.extend(of_word);
                bytes = after;
                if bytes.is_empty() && word.len() <= MAX_STAMP {
                    return Ok(());
                }
                let word = std::mem::take(word);
                match stamp(&word) {
                    Some(stamp) if !bytes.is_empty() => {
                        // A line without text ends right after its stamp.
                        bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
                        self.begin_line(stamp);
                        self.at = At::Text;
                    }
                    _ if self.lines == 0 && self.rest.is_none() => {
                        self.rest = Some(word);
                        self.at = At::Rest;
                    }
                    _ => return Err(no_log(&word)),
                }
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (text, after) = bytes.split_at(end);
            if matches!(self.at, At::Text) {
                self.log.keep(&mut self.kept, text);
                if let Some(follower) = &mut self.follower {
                    follower.take(text);
                }
            }
            if text.ends_with(b"\n") {
                self.at = At::Stamp(Vec::new());
            }
            bytes = after;
        }
        Ok(())
    }

    /// The log has ended.
    ///
    /// # Errors
    /// As of [`Reading::take`]; and when the last line of the reading before did not come again, unless all had been followed by then
    /// and the node has rotated the file since, which leaves an empty one.
    pub(in crate::execute::kubernetes) fn finish(self) -> Result<(), Error> {
        match (&self.at, &self.rest) {
            (At::Stamp(word), _) if !word.is_empty() => Err(no_log(word)),
            (_, Some(rest)) if self.lines == 0 => Err(no_log(rest)),
            _ if self.is_behind() && !(self.lines == 0 && self.log.read().at_rest) => {
                let cause = "the log ends before what was read of it already".to_owned();
                Err(Error::NoAnswer(Fault::Lost { cause }))
            }
            _ => {
                self.log.hear();
                Ok(())
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.kept.is_behind() || self.follower.as_ref().is_some_and(|follower| follower.onward.is_behind())
    }

    fn begin_line(&mut self, stamp: Timestamp) {
        let before = match (self.lines, &self.rest) {
            (0, None) => Before::Nothing,
            (0, Some(_)) => Before::Rest,
            _ => Before::Lines,
        };
        self.lines += 1;
        self.kept.begin_line(stamp, before);
        self.log.begin_line(&mut self.kept);
        if let Some(follower) = &mut self.follower {
            follower.onward.begin_line(stamp, before);
        }
        self.tell_whether_behind();
    }

    fn tell_whether_behind(&self) {
        self.log.caught_up.store(!self.is_behind(), Ordering::Relaxed);
    }
}

fn stamp(word: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn no_log(word: &[u8]) -> Error {
    Error::malformed(&format!("a log without time stamps: {}…", String::from_utf8_lossy(word)))
}
