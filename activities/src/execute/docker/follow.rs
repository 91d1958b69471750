//! What a container writes, while it writes it.
//!
//! The engine keeps output line by line, each with the time that it came, and gives it again from a time on. Times within one
//! stream ascend (but for a clock that is set back), so the last time of each stream is the place to go on from, on any worker.

use bollard::container::LogOutput;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Engine;
use crate::external::Fault;
use crate::logs::{Log, Stream};

/// Times of two streams come to the engine's file in almost their order; so many seconds before the last one are read again.
const OVERLAP_SECONDS: i64 = 2;

/// How far the output was read.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    stdout: Reached,
    stderr: Reached,
}

/// How far one stream was read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Reached {
    /// The time of the last whole line, as the engine writes it; empty before the first.
    time: String,
    /// Whether that time has been passed since the output is read again. From then on whatever comes is new, also when the engine's
    /// clock was set back.
    #[serde(skip)]
    passed: bool,
    /// Whether a line has begun, which the engine gives in parts of one time.
    #[serde(skip)]
    within_line: bool,
}

impl Place {
    fn of(&mut self, stream: Stream) -> &mut Reached {
        match stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Worker => &mut self.stdout,
        }
    }

    /// From when on the engine is asked, in epoch seconds; 0: for all.
    fn since(&self) -> i32 {
        let last = [&self.stdout, &self.stderr].into_iter().filter_map(|stream| epoch_seconds(&stream.time)).max();
        last.and_then(|last| i32::try_from(last - OVERLAP_SECONDS).ok()).unwrap_or(0)
    }

    /// Whether every line that was begun has ended: only there can whoever reads on count the lines as they were counted.
    fn is_between_lines(&self) -> bool {
        !self.stdout.within_line && !self.stderr.within_line
    }
}

impl Reached {
    /// Takes a piece with this time; `false`: it was read before.
    fn is_new(&mut self, time: &str, text: &[u8]) -> bool {
        if !self.passed && !time.is_empty() && time <= self.time.as_str() {
            return false;
        }
        self.passed = true;
        self.within_line = !text.ends_with(b"\n");
        if !self.within_line {
            time.clone_into(&mut self.time);
        }
        true
    }
}

/// Gives the output of a container to `log` until the engine has no more.
pub(super) async fn follow(engine: &Engine, id: &str, log: &Log) -> Result<(), Fault> {
    // A place of another form is none: all is read again.
    let mut place: Place = serde_json::from_value(log.resume().await).unwrap_or_default();
    let mut pieces = engine.follow(id, place.since()).await?;
    while let Some(next) = engine.next(&mut pieces).await? {
        // Lines of one stream that come together are written together.
        let mut read: Vec<(Stream, Vec<u8>)> = Vec::new();
        for piece in next {
            let (stream, message) = match piece {
                LogOutput::StdErr { message } => (Stream::Stderr, message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => (Stream::Stdout, message),
                LogOutput::StdIn { .. } => continue,
            };
            let (time, text) = timed(&message);
            if !place.of(stream).is_new(time, text) {
                continue;
            }
            match read.last_mut() {
                Some((same, bytes)) if *same == stream => bytes.extend_from_slice(text),
                _ => read.push((stream, text.to_vec())),
            }
        }
        // Before anything new has come, the log's last number may be of a line that was read beyond the place and comes again.
        let is_new = !read.is_empty();
        for (stream, bytes) in read {
            log.write(stream, &bytes).await;
        }
        if is_new && place.is_between_lines() {
            log.reached(json!(place));
        }
    }
    Ok(())
}

/// The time in front of a piece, and what follows it. Both are of the same width in each piece, so that times compare as texts do.
fn timed(message: &[u8]) -> (&str, &[u8]) {
    let split = message.iter().position(|byte| *byte == b' ').and_then(|at| {
        let time = std::str::from_utf8(&message[..at]).ok()?;
        epoch_seconds(time)?;
        Some((time, &message[at + 1..]))
    });
    split.unwrap_or(("", message))
}

/// The seconds of a time as the engine writes it, in UTC: `2026-03-16T09:30:00.123456789Z`.
fn epoch_seconds(time: &str) -> Option<i64> {
    // With a fraction and in UTC, as the engine writes all of them: only these compare as texts do.
    let time = DateTime::parse_from_rfc3339(time).ok().filter(|_| time.ends_with('Z') && time.contains('.'))?;
    Some(time.timestamp()).filter(|seconds| *seconds >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine_are_read_and_nothing_else_is() {
        for (time, expected) in [
            ("1970-01-01T00:00:00.000000000Z", Some(0)),
            ("2026-03-16T09:30:00.123456789Z", Some(1_773_653_400)),
            ("2024-02-29T23:59:59.9Z", Some(1_709_251_199)),
            ("2024-03-01T00:00:00.0Z", Some(1_709_251_200)),
            ("2026-13-16T09:30:00.0Z", None),
            ("0000-00-00T00:00:00.0Z", None),
            ("2026-03-16T9223372036854775807:00:00.0Z", None),
            ("99999999999-01-01T00:00:00.0Z", None),
            ("2026-03-16T09:30:00.0", None),
            ("hello", None),
            ("", None),
        ] {
            assert_eq!(epoch_seconds(time), expected, "{time}");
        }
        assert_eq!(timed(b"2026-03-16T09:30:00.123456789Z a b\n"), ("2026-03-16T09:30:00.123456789Z", &b"a b\n"[..]));
        assert_eq!(timed(b"no time\n"), ("", &b"no time\n"[..]));
        let mut place = Place::default();
        assert_eq!(place.since(), 0);
        assert!(place.stdout.is_new("2026-03-16T09:30:00.1Z", b"a\n"));
        assert_eq!(place.since(), 1_773_653_398);
    }

    #[test]
    fn only_what_was_read_before_is_passed_over() {
        let mut first = Place::default();
        assert!(first.stdout.is_new("2026-03-16T09:30:02.0Z", b"a\n"));
        // Within one connection a clock that was set back loses nothing.
        assert!(first.stdout.is_new("2026-03-16T09:30:01.0Z", b"b\n"));
        assert!(first.stdout.is_new("2026-03-16T09:30:03.0Z", b"half "));
        assert!(!first.is_between_lines());
        assert!(first.stdout.is_new("2026-03-16T09:30:03.0Z", b"of it\n") && first.is_between_lines());

        let mut next: Place = serde_json::from_value(json!(first)).expect("a place");
        assert!(!next.stdout.is_new("2026-03-16T09:30:03.0Z", b"half "));
        assert!(next.is_between_lines(), "what was read before begins nothing");
        assert!(next.stderr.is_new("2026-03-16T09:30:01.0Z", b"c\n"), "streams have times of their own");
        assert!(next.stdout.is_new("2026-03-16T09:30:04.0Z", b"d\n"));
        assert!(next.stdout.is_new("2026-03-16T09:30:02.5Z", b"e\n"));
    }
}
