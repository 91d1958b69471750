//! Follows a run of a ticket until it has ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use temporalio_client::Client;
use tokio::time::Instant;

use super::out::Out;
use super::{Wanted, exit_code, unanswered};
use crate::explain::server::{Run, describe_run};
use crate::logs::held::answered;
use crate::logs::kept::{KeptLog, TicketLogs, Unreadable};

/// Between two looks where no whole log is in reach.
const POLL: Duration = Duration::from_millis(250);
/// Between two questions to the server: heartbeats reach it once a second.
const ASK: Duration = Duration::from_millis(500);
/// How long the server may be away, and where logs are.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines of a log after which a signal gets its turn.
const ROUND: usize = 256;
/// Looks at a log that lacks lines which a heartbeat has told: a folder that machines share may show them later.
const MOST_WAITS: u32 = 8;

/// How far it was printed.
#[derive(Default)]
struct Printed {
    attempt: u32,
    seq: u64,
    /// Number of the last line that a heartbeat has told.
    told: u64,
    /// Looks at the log in a row that have found no line which a heartbeat had told.
    waits: u32,
    /// The whole log of that attempt.
    log: Option<KeptLog>,
    /// Whether lines are missing in what was read.
    lacks: bool,
    /// When all that had come was read last.
    read_at: Option<Instant>,
}

/// Prints what comes; of a run that has ended all that is kept.
pub(super) async fn follow(client: &Client, wanted: &Wanted, mut run: Run, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut printed = Printed::default();
    let (mut asked, mut answered) = (Instant::now(), Instant::now());
    loop {
        // What it wrote before it was seen to have ended is there.
        let ended = !run.is_open();
        match printed.look(wanted, &run, out).await? {
            Looked::Unread => return Ok(ExitCode::SUCCESS),
            Looked::All if ended => return printed.end(client, wanted, &run, out).await,
            Looked::All | Looked::Away => {}
        }
        tokio::time::sleep(wanted.logs.as_ref().map_or(POLL, TicketLogs::pace)).await;
        if asked.elapsed() < ASK {
            continue;
        }
        asked = Instant::now();
        match describe_run(client, &wanted.ticket_id, &wanted.run_id).await {
            Ok(found) => {
                run = found.context("the server has forgotten the ticket")?;
                answered = Instant::now();
            }
            Err(status) if answered.elapsed() > PATIENCE => return Err(unanswered(status)),
            Err(status) => tracing::debug!(%status, "the server is asked again"),
        }
    }
}

/// What a look at the logs has come to.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// All that had come is printed.
    All,
    /// They cannot be read for the moment.
    Away,
    /// Nobody reads what is printed any more.
    Unread,
}

impl Printed {
    /// Begins with an attempt.
    fn turn_to(&mut self, attempt: u32) {
        *self = Self { attempt, lacks: self.lacks, read_at: self.read_at, ..Self::default() };
    }

    /// Prints what is new. Logs that could be read before have [`PATIENCE`].
    async fn look(&mut self, wanted: &Wanted, run: &Run, out: &mut Out) -> anyhow::Result<Looked> {
        match self.go_on(wanted, run, out).await {
            Ok(true) => {
                self.read_at = Some(Instant::now());
                Ok(Looked::All)
            }
            Ok(false) => Ok(Looked::Unread),
            Err(error) if error.is::<Unreadable>() && self.read_at.is_some_and(|at| at.elapsed() <= PATIENCE) => {
                tracing::debug!(%error, "logs are read again");
                Ok(Looked::Away)
            }
            Err(error) => Err(error),
        }
    }

    /// Prints what is new; `false` once nobody reads it any more.
    async fn go_on(&mut self, wanted: &Wanted, run: &Run, out: &mut Out) -> anyhow::Result<bool> {
        if !self.read(wanted, out).await? {
            return Ok(false);
        }
        // The log of an attempt that a heartbeat has told of may come later.
        let first = if self.log.is_some() { self.attempt + 1 } else { self.attempt };
        for attempt in wanted.kept().await?.into_iter().filter(|attempt| *attempt >= first) {
            let log = wanted.open(attempt)?;
            if attempt > self.attempt {
                self.turn_to(attempt);
            }
            self.log = log;
            if !self.read(wanted, out).await? {
                return Ok(false);
            }
        }
        if let Some(told) = wanted.told(run) {
            if told.attempt > self.attempt {
                self.turn_to(told.attempt);
            }
            // Lines are told once they are kept: a log without them was given up, or another worker's log went on elsewhere.
            let ahead = told.attempt == self.attempt && told.seq > self.seq;
            if ahead && self.waits < MOST_WAITS && wanted.has_log_of(&told) {
                self.waits += 1;
            } else if ahead {
                if !out.told(&told, self.seq)? {
                    return Ok(false);
                }
                (self.seq, self.told) = (told.seq, told.seq);
            }
        }
        out.flush()
    }

    /// The lines of the log that have come.
    async fn read(&mut self, wanted: &Wanted, out: &mut Out) -> anyhow::Result<bool> {
        let Some(log) = &mut self.log else { return Ok(true) };
        let mut read = 0;
        while let Some(line) = log.line().await? {
            self.read_at = Some(Instant::now());
            read += 1;
            if read == ROUND {
                read = 0;
                tokio::task::yield_now().await;
            }
            if line.seq <= self.told {
                continue;
            }
            self.lacks |= wanted.lacks_between(self.attempt, self.seq, &line);
            (self.seq, self.waits) = (self.seq.max(line.seq), 0);
            if !out.line(self.attempt, &line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn end(&self, client: &Client, wanted: &Wanted, run: &Run, out: &mut Out) -> anyhow::Result<ExitCode> {
        if self.seq == 0 {
            return wanted.print(client, run, out).await;
        }
        if self.log.is_some() {
            let answer = answered(client, &wanted.ticket_id, &wanted.run_id, Some(self.attempt));
            let answer = answer.await.map_err(unanswered)?;
            let missing = answer.and_then(|answer| wanted.missing(&answer, self.attempt, self.seq));
            return Ok(missing.unwrap_or(exit_code(self.lacks)));
        }
        eprintln!(
            "worker-agents: the ticket has ended, and its last lines may be missing here; `worker-agents logs {}` prints both \
             ends of its output",
            wanted.ticket_id
        );
        Ok(exit_code(self.lacks))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::ops::RangeInclusive;

    use futures::FutureExt as _;
    use serde_json::{Value, json};
    use ticket_activities::logs::{Line, Stream};
    use ticket_activities::{LogName, LogSink as _};
    use ticket_workflows::payload::encoded;

    use super::super::gap;
    use super::*;
    use crate::explain::server::Pending;
    use crate::logs::{FileSink, Folder};

    fn lines(numbers: RangeInclusive<u64>) -> Vec<Value> {
        let line = |seq| json!({ "seq": seq, "at_ms": 1, "stream": "stdout", "text": "" });
        numbers.map(line).collect()
    }

    /// A run whose heartbeat tells these lines of the log at an address.
    fn told(address: &str, numbers: RangeInclusive<u64>) -> Run {
        let seq = *numbers.end();
        let log = json!({ "attempt": 1, "seq": seq, "address": address, "lines": lines(numbers) });
        let heartbeat = Some(encoded(&json!({ "log": log })).expect("JSON"));
        Run {
            pending: vec![Pending { activity: "execute".to_owned(), heartbeat, ..Pending::default() }],
            ..Run::default()
        }
    }

    fn append(path: &std::path::Path, numbers: RangeInclusive<u64>) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
        for line in lines(numbers) {
            writeln!(file, "{line}").expect("written");
        }
    }

    fn wanted(root: &std::path::Path) -> (Wanted, std::path::PathBuf) {
        let folder = Folder::of(root, "t");
        let path = folder.file("r", 1);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let (ticket_id, run_id) = ("t".to_owned(), "r".to_owned());
        (Wanted { ticket_id, run_id, attempt: None, logs: Some(TicketLogs::Files(folder)) }, path)
    }

    #[tokio::test]
    async fn what_a_heartbeat_tells_before_the_file_shows_it_is_printed_from_the_file() {
        let root = tempfile::tempdir().expect("folder");
        let (wanted, path) = wanted(root.path());
        let (mut printed, mut out) = (Printed::default(), Out::new(true));
        let address = format!("file://another-machine{}", path.display());
        let run = told(&address, 5..=9);
        printed.go_on(&wanted, &run, &mut out).await.expect("no file yet");
        assert_eq!((printed.attempt, printed.seq), (1, 0), "it waits for the file");
        append(&path, 1..=3);
        printed.go_on(&wanted, &run, &mut out).await.expect("a file");
        assert_eq!((printed.seq, printed.told), (3, 0), "it waits for the others");
        append(&path, 4..=9);
        printed.go_on(&wanted, &run, &mut out).await.expect("a file");
        assert_eq!((printed.seq, printed.told), (9, 0), "all came from the file");
        // Not for ever, and not where the log is another file.
        for (run, looks) in [(told("file:///elsewhere", 10..=12), 0), (told(&address, 13..=14), MOST_WAITS)] {
            for look in 0..=looks {
                assert_ne!(Some(printed.seq), wanted.told(&run).map(|told| told.seq), "{look}");
                printed.go_on(&wanted, &run, &mut out).await.expect("a file");
            }
            assert_eq!(Some(printed.told), wanted.told(&run).map(|told| told.seq));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn logs_that_were_read_once_may_be_away_for_a_while() {
        let root = tempfile::tempdir().expect("folder");
        let (wanted, path) = wanted(root.path());
        let (folder, away) = (path.parent().expect("a folder"), root.path().join("away"));
        let lose = || {
            std::fs::rename(folder, &away).expect("moved");
            std::fs::write(folder, "no folder").expect("written");
        };
        let find = || {
            std::fs::remove_file(folder).expect("removed");
            std::fs::rename(&away, folder).expect("moved");
        };
        let (mut printed, mut out, run) = (Printed::default(), Out::new(true), Run::default());
        lose();
        printed.look(&wanted, &run, &mut out).await.expect_err("they were never read");
        find();
        append(&path, 1..=3);
        assert_eq!(printed.look(&wanted, &run, &mut out).await.expect("read"), Looked::All);
        lose();
        for seconds in [0, 30] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(printed.look(&wanted, &run, &mut out).await.expect("patience"), Looked::Away);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        printed.look(&wanted, &run, &mut out).await.expect_err("not for ever");
        find();
        append(&path, 4..=4);
        assert_eq!(printed.look(&wanted, &run, &mut out).await.expect("read"), Looked::All);
        assert_eq!((printed.seq, printed.lacks), (4, false));
    }

    #[tokio::test]
    async fn lines_that_are_gone_from_the_beginning_or_the_middle_are_missing() {
        for (there, lacks) in [(&[1..=3, 4..=6][..], false), (&[1..=3, 5..=6], true), (&[2..=6], true)] {
            let root = tempfile::tempdir().expect("folder");
            let (wanted, path) = wanted(root.path());
            there.iter().for_each(|numbers| append(&path, numbers.clone()));
            let (mut printed, mut out) = (Printed::default(), Out::new(true));
            printed.look(&wanted, &Run::default(), &mut out).await.expect("read");
            assert_eq!((printed.seq, printed.lacks), (6, lacks), "{there:?}");
        }
    }

    #[tokio::test]
    async fn why_a_log_was_cut_is_said_by_the_worker_alone() {
        let root = tempfile::tempdir().expect("folder");
        let (wanted, _) = wanted(root.path());
        let sink = FileSink::new(root.path().to_owned(), 1000).expect("a thread");
        let name = LogName { ticket_id: "t".to_owned(), run_id: "r".to_owned(), attempt: 1 };
        let mut kept = sink.open(name).await.expect("opened").writer;
        let line = |seq| Line { seq, at_ms: 1, stream: Stream::Stdout, text: "x".repeat(50), cut: 0 };
        kept.append((1..=100).map(line).collect()).await.expect("written");
        assert!(kept.close().await.is_ok_and(|left_out| left_out > 2));
        let mut log = wanted.open(1).expect("readable").expect("a log");
        let (mut last, mut missing) = (0, 0);
        while let Some(line) = log.line().await.expect("read") {
            let before = line.seq - last - 1;
            assert_eq!(gap(before, &line), None, "{line:?}");
            (last, missing) = (line.seq, missing + before);
        }
        assert!(last == 100 && missing > 0, "{last}, {missing}");
        assert!(gap(missing, &line(101)).is_some_and(|gap| gap.contains(&missing.to_string())));
    }

    #[tokio::test]
    async fn a_signal_gets_its_turn_while_lines_are_there() {
        let root = tempfile::tempdir().expect("folder");
        let (wanted, path) = wanted(root.path());
        append(&path, 1..=2 * ROUND as u64);
        let log = wanted.open(1).expect("readable");
        let mut printed = Printed { attempt: 1, log, ..Printed::default() };
        let mut out = Out::new(true);
        assert!(printed.read(&wanted, &mut out).now_or_never().is_none(), "all is read in one go");
        assert!(printed.seq < 2 * ROUND as u64);
    }
}
