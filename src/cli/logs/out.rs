//! Prints lines. Files and results may be anybody's: a terminal is given nothing that it acts on.

use serde_json::{Value, json};
use ticket_activities::logs::{Line, Logged, clean};

use crate::cli::output::print;
use crate::dead_letters::format_instant;
use crate::logs::held::Answered;

/// Bytes that are printed at once, when so many are there.
const AT_ONCE: usize = 64 * 1024;

/// Standard output; what is known of the whole log goes to standard error.
pub(super) struct Out {
    json: bool,
    waiting: Vec<u8>,
    /// The address that was said last.
    said: Option<String>,
}

impl Out {
    /// As JSON, one object a line, or for people.
    pub(super) fn new(json: bool) -> Self {
        Self { json, waiting: Vec::new(), said: None }
    }

    /// Prints a line of a log; `false` once nobody reads it any more.
    pub(super) fn line(&mut self, attempt: u32, line: &Line) -> anyhow::Result<bool> {
        self.print(&self.shown(attempt, line))
    }

    fn shown(&self, attempt: u32, line: &Line) -> String {
        let (time, stream) = (format_instant(line.at_ms).unwrap_or_default(), line.stream.as_str());
        let text = clean(line.text.as_bytes());
        if self.json {
            let mut object =
                json!({ "attempt": attempt, "seq": line.seq, "time": time, "stream": stream, "text": text });
            if line.cut > 0 {
                object["cut"] = json!(line.cut);
            }
            object.to_string()
        } else {
            let cut = if line.cut > 0 { format!(" [… {} bytes cut …]", line.cut) } else { String::new() };
            format!("{time} {stream} {text}{cut}")
        }
    }

    /// Prints the lines of a heartbeat after number `seen`, and how many between are not in it.
    pub(super) fn told(&mut self, told: &Logged, seen: u64) -> anyhow::Result<bool> {
        let where_it_is = match (&told.trouble, told.left_out) {
            (Some(trouble), _) => format!("is not kept as a whole ({trouble})"),
            (None, 1..) => "is full".to_owned(),
            (None, 0) => "has all lines, and is not read here".to_owned(),
        };
        self.say(told.address.as_deref(), &format!("{where_it_is}; these are its last lines"));
        let fresh = told.lines.iter().filter(|line| line.seq > seen);
        let missing = fresh.clone().next().map_or(0, |first| first.seq - seen - 1);
        if missing > 0 && !self.gap(told.attempt, missing)? {
            return Ok(false);
        }
        for line in fresh {
            if !self.line(told.attempt, line)? {
                return Ok(false);
            }
        }
        self.flush()
    }

    /// Prints the output that an answer holds; `false` when it holds none.
    pub(super) fn answered(&mut self, answer: &Answered) -> anyhow::Result<bool> {
        let report = &answer.report;
        let texts = ["stdout", "stderr"].map(|stream| (stream, report.output.get(stream).and_then(Value::as_str)));
        if texts.iter().all(|(_, text)| text.is_none()) {
            return Ok(false);
        }
        self.say(
            report.metadata.get("log").and_then(Value::as_str),
            "is not read here; this is what the result holds of it",
        );
        for (stream, text) in texts {
            for line in text.unwrap_or_default().lines() {
                if !self.print(&self.shown_without_time(answer.attempt, stream, line))? {
                    return Ok(true);
                }
            }
        }
        self.flush()?;
        Ok(true)
    }

    fn shown_without_time(&self, attempt: u32, stream: &str, line: &str) -> String {
        let text = clean(line.as_bytes());
        match self.json {
            true => json!({ "attempt": attempt, "stream": stream, "text": text }).to_string(),
            false => format!("{stream} {text}"),
        }
    }

    /// Prints what waits.
    pub(super) fn flush(&mut self) -> anyhow::Result<bool> {
        let printed = self.waiting.is_empty() || print(&self.waiting)?;
        self.waiting.clear();
        Ok(printed)
    }

    fn gap(&mut self, attempt: u32, missing: u64) -> anyhow::Result<bool> {
        let text = match self.json {
            true => json!({ "attempt": attempt, "missing": missing }).to_string(),
            false => format!("[… {missing} lines that are not kept here …]"),
        };
        self.print(&text)
    }

    fn print(&mut self, line: &str) -> anyhow::Result<bool> {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
        if self.waiting.len() < AT_ONCE { Ok(true) } else { self.flush() }
    }

    /// What is known of the log at an address, once.
    fn say(&mut self, address: Option<&str>, what: &str) {
        let Some(address) = address.filter(|address| self.said.as_deref() != Some(address)) else { return };
        eprintln!("{}", clean(format!("worker-agents: the log at {address} {what}").as_bytes()));
        self.said = Some(address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use ticket_activities::logs::Stream;

    use super::*;

    #[test]
    fn nothing_that_is_printed_acts_on_a_terminal() {
        let text = "a\u{9b}31mb\u{202e}c\u{7f}\u{1b}[0m";
        let line = Line { seq: 1, at_ms: 0, stream: Stream::Stdout, text: text.to_owned(), cut: 0 };
        for json in [true, false] {
            let out = Out::new(json);
            for printed in [out.shown(1, &line), out.shown_without_time(1, "stdout", text)] {
                assert!(printed.contains("abc"), "{printed:?}");
                assert!(!printed.contains(|c: char| c.is_control() || c == '\u{202e}'), "{printed:?}");
            }
        }
    }
}
