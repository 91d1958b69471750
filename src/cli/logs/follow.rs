//! Follows a run of a ticket until it has ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::out::Out;
use super::{Wanted, unanswered, unreadable};
use crate::explain::server::{Run, describe_run};
use crate::logs::LogReader;
use crate::logs::held::answered;

/// Between two looks at files.
const POLL: Duration = Duration::from_millis(250);
/// Between two questions to the server: heartbeats reach it once a second.
const ASK: Duration = Duration::from_millis(500);
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far it was printed.
#[derive(Default)]
struct Printed {
    attempt: u32,
    seq: u64,
    /// Number of the last line that a heartbeat has told.
    told: u64,
    /// The file of that attempt.
    file: Option<(std::path::PathBuf, LogReader)>,
}

/// Prints what comes; of a run that has ended all that is kept.
pub(super) async fn follow(wanted: &Wanted, mut run: Run, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut printed = Printed::default();
    let (mut asked, mut answered) = (Instant::now(), Instant::now());
    loop {
        // What it wrote before it was seen to have ended is there.
        let ended = !run.is_open();
        if !printed.go_on(wanted, &run, out)? {
            return Ok(ExitCode::SUCCESS);
        }
        if ended {
            return printed.end(wanted, &run, out).await;
        }
        tokio::time::sleep(POLL).await;
        if asked.elapsed() < ASK {
            continue;
        }
        asked = Instant::now();
        match describe_run(&wanted.client, &wanted.ticket_id, &wanted.run_id).await {
            Ok(found) => {
                run = found.context("the server has forgotten the ticket")?;
                answered = Instant::now();
            }
            Err(status) if answered.elapsed() > PATIENCE => return Err(unanswered(status)),
            Err(status) => tracing::debug!(%status, "the server is asked again"),
        }
    }
}

impl Printed {
    /// Prints what is new; `false` once nobody reads it any more.
    fn go_on(&mut self, wanted: &Wanted, run: &Run, out: &mut Out) -> anyhow::Result<bool> {
        if !self.read(out)? {
            return Ok(false);
        }
        let last = self.attempt;
        for (attempt, path) in wanted.files()?.into_iter().filter(|(attempt, _)| *attempt > last) {
            let reader = LogReader::open(&path).map_err(|error| unreadable(&path, &error))?;
            *self = Self { attempt, file: Some((path, reader)), ..Self::default() };
            if !self.read(out)? {
                return Ok(false);
            }
        }
        if let Some(told) = wanted.told(run) {
            if told.attempt > self.attempt {
                *self = Self { attempt: told.attempt, ..Self::default() };
            }
            // Lines are told once they are kept: a file without them was given up, or another worker's log went on elsewhere.
            if told.attempt == self.attempt && told.seq > self.seq {
                if !out.told(&told, self.seq)? {
                    return Ok(false);
                }
                (self.seq, self.told) = (told.seq, told.seq);
            }
        }
        out.flush()
    }

    /// The lines of the file that have come.
    fn read(&mut self, out: &mut Out) -> anyhow::Result<bool> {
        let Some((path, reader)) = &mut self.file else { return Ok(true) };
        while let Some(line) = reader.line().map_err(|error| unreadable(path, &error))? {
            if line.seq <= self.told {
                continue;
            }
            self.seq = line.seq;
            if !out.line(self.attempt, &line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn end(&self, wanted: &Wanted, run: &Run, out: &mut Out) -> anyhow::Result<ExitCode> {
        if self.seq == 0 {
            return wanted.print(run, out).await;
        }
        if self.file.is_some() {
            let answer = answered(&wanted.client, &wanted.ticket_id, &wanted.run_id, Some(self.attempt));
            let answer = answer.await.map_err(unanswered)?;
            let missing = answer.and_then(|answer| wanted.missing(&answer, self.attempt, self.seq));
            return Ok(missing.unwrap_or(ExitCode::SUCCESS));
        }
        eprintln!(
            "worker-agents: the ticket has ended, and its last lines may be missing here; `worker-agents logs {}` prints both \
             ends of its output",
            wanted.ticket_id
        );
        Ok(ExitCode::SUCCESS)
    }
}
