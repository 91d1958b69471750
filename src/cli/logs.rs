//! `worker-agents logs`: what a ticket writes, or has written.
//!
//! Read from the sink's file where this machine reaches it; otherwise from what the server holds: the last lines in the heartbeat
//! of an attempt that runs, both ends of the output in the answer of one that has ended.

mod follow;
mod out;

use std::process::ExitCode;

use clap::Args;
use reqwest::Url;
use temporalio_client::Client;
use ticket_activities::logs::{Logged, clean};
use ticket_schemas::TicketId;
use uuid::Uuid;

use super::explain::unanswered;
use super::output::nothing;
use super::{UsageError, settings_and_secrets, shutdown_signal};
use crate::config::LogFormat;
use crate::explain::server::{Run, describe_run};
use crate::explain::unknown;
use crate::logs::held::{Answered, answered, told};
use crate::logs::{Folder, LogReader};
use crate::{logging, temporal};
use out::Out;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct LogsArgs {
    /// The ticket, without the prefix `ticket-` of its workflow
    #[arg(value_name = "TICKET-ID")]
    ticket_id: String,
    /// Print what comes, until the ticket has ended
    #[arg(short, long)]
    follow: bool,
    /// A run of the ticket, as `explain --json` names it [default: the newest]
    #[arg(long, value_name = "RUN-ID")]
    run: Option<Uuid>,
    /// An attempt, from 1 [default: the newest; with --follow all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// One JSON object for each line
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "Whole logs are read from the folder of EXECUTION_LOG_SINK, when it is set and this machine has the file. \
Otherwise there are the last lines while the ticket runs, and both ends of its output afterwards.\n\
Exit codes: 0 printed, 1 the ticket is unknown, nothing is kept of its log, or it has ended and lines are missing in it, 2 wrong \
usage or settings, 3 Temporal did not answer, or a file cannot be read.";

/// Whose log is wanted, and where its files may be.
struct Wanted {
    ticket_id: String,
    run_id: String,
    attempt: Option<u32>,
    folder: Option<Folder>,
}

pub(super) async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let ticket_id = TicketId::parse(&args.ticket_id).map_err(|error| UsageError(error.to_string()))?;
    let ticket_id = ticket_id.as_str();
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let client = temporal::connect(&config).await?;
    let asked = args.run.map(|run| run.to_string()).unwrap_or_default();
    let Some(run) = describe_run(&client, ticket_id, &asked).await.map_err(unanswered)? else {
        return Ok(nothing(&match args.run {
            Some(run) => {
                format!("the server knows no run {run} of ticket {ticket_id}; `worker-agents explain` names the newest")
            }
            None => unknown(&client, ticket_id).await.map_err(unanswered)?,
        }));
    };
    let wanted = Wanted {
        ticket_id: ticket_id.to_owned(),
        run_id: run.run_id.clone(),
        attempt: args.attempt,
        folder: config.logs.folder.as_ref().map(|root| Folder::of(root, ticket_id)),
    };
    let mut out = Out::new(args.json);
    if !args.follow {
        return wanted.print(&client, &run, &mut out).await;
    }
    tokio::select! {
        ended = follow::follow(&client, &wanted, run, &mut out) => ended,
        () = shutdown_signal() => Ok(ExitCode::SUCCESS),
    }
}

impl Wanted {
    /// The newest of the wanted attempts that is kept anywhere.
    async fn print(&self, client: &Client, run: &Run, out: &mut Out) -> anyhow::Result<ExitCode> {
        let told = self.told(run);
        let file = self.files()?.pop();
        let in_file = file.as_ref().map_or(0, |(attempt, _)| *attempt);
        if let Some(told) = told.as_ref().filter(|told| told.attempt > in_file) {
            out.told(told, 0)?;
            return Ok(ExitCode::SUCCESS);
        }
        let answer = match told {
            Some(_) => None,
            None => answered(client, &self.ticket_id, &self.run_id, self.attempt).await.map_err(unanswered)?,
        };
        if let Some(answer) = answer.as_ref().filter(|answer| answer.attempt > in_file) {
            return Ok(if out.answered(answer)? { ExitCode::SUCCESS } else { self.nothing() });
        }
        let Some((attempt, path)) = file else { return Ok(self.nothing()) };
        let told = told.filter(|told| told.attempt == attempt);
        let newest = told.as_ref().and_then(|told| told.lines.back());
        let mut reader = LogReader::open(&path).map_err(|error| unreadable(&path, &error))?;
        let (mut last, mut has_newest) = (0, newest.is_none());
        while let Some(line) = reader.line().map_err(|error| unreadable(&path, &error))? {
            last = line.seq.max(last);
            has_newest |= newest.is_some_and(|newest| {
                line.seq == newest.seq && line.stream == newest.stream && line.text.starts_with(&newest.text)
            });
            if !out.line(attempt, &line)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        out.flush()?;
        // Lines are told once they are kept: a file without them was given up, or another worker's log went on elsewhere.
        if let Some(told) = told.filter(|_| !has_newest) {
            let before = told.lines.front().map_or(0, |line| line.seq.saturating_sub(1));
            out.told(&told, if told.seq > last { last } else { before })?;
        } else if let Some(missing) = answer.and_then(|answer| self.missing(&answer, attempt, last)) {
            return Ok(missing);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Says that lines of an attempt that has ended are not here, if the answer knows of them.
    fn missing(&self, answer: &Answered, attempt: u32, last: u64) -> Option<ExitCode> {
        let missing = answer.missing_after(last).filter(|_| answer.attempt == attempt)?;
        let (ticket_id, missing) = (&self.ticket_id, clean(missing.as_bytes()));
        Some(nothing(&format!("the log of ticket {ticket_id} is not here as a whole: {missing}")))
    }

    fn nothing(&self) -> ExitCode {
        let attempt = self.attempt.map_or_else(String::new, |attempt| format!("attempt {attempt} of "));
        nothing(&format!(
            "nothing is kept of the output of {attempt}ticket {}: it has written nothing yet, or what ran has no output; \
             `worker-agents explain {0}` says what it is doing",
            self.ticket_id
        ))
    }

    /// The files of the wanted attempts that this machine has, in their order.
    fn files(&self) -> anyhow::Result<Vec<(u32, std::path::PathBuf)>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut files = folder.attempts(&self.run_id).map_err(|error| {
            anyhow::anyhow!("the logs of ticket {} cannot be listed: {error}; check EXECUTION_LOG_SINK", self.ticket_id)
        })?;
        files.retain(|(attempt, _)| self.wants(*attempt));
        Ok(files)
    }

    /// Whether lines that a heartbeat tells are in the file that this machine would read.
    fn has_file_of(&self, told: &Logged) -> bool {
        let path = self.folder.as_ref().map(|folder| folder.file(&self.run_id, told.attempt));
        let here = path.and_then(|path| Url::from_file_path(path).ok());
        let there = told.address.as_ref().and_then(|address| Url::parse(address).ok());
        let same = here.zip(there).is_some_and(|(here, there)| here.path() == there.path());
        same && told.trouble.is_none() && told.left_out == 0
    }

    fn told(&self, run: &Run) -> Option<Logged> {
        told(run).filter(|told| self.wants(told.attempt))
    }

    fn wants(&self, attempt: u32) -> bool {
        self.attempt.is_none_or(|wanted| wanted == attempt)
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("the log {} cannot be read: {error}; check its owner and EXECUTION_LOG_SINK", path.display())
}
