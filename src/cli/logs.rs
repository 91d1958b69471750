//! `worker-agents logs`: what a ticket writes, or has written.
//!
//! Read from the sink where this machine reaches it; otherwise from what the server holds: the last lines in the heartbeat
//! of an attempt that runs, both ends of the output in the answer of one that has ended.

mod follow;
mod out;

use std::process::ExitCode;

use clap::Args;
use temporalio_client::Client;
use ticket_activities::logs::{Line, Logged, Stream, clean};
use ticket_schemas::TicketId;
use uuid::Uuid;

use super::explain::unanswered;
use super::output::nothing;
use super::{UsageError, settings_and_secrets, shutdown_signal};
use crate::config::LogFormat;
use crate::explain::server::{Run, describe_run};
use crate::explain::unknown;
use crate::logs::held::{Answered, answered, told};
use crate::logs::kept::{KeptLog, TicketLogs, Unreadable};
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

const AFTER_HELP: &str = "Whole logs are read from where EXECUTION_LOG_SINK says, when it is set and has the log. \
Otherwise there are the last lines while the ticket runs, and both ends of its output afterwards.\n\
Exit codes: 0 printed, 1 the ticket is unknown, nothing is kept of its log, or lines are missing in it, 2 wrong usage or settings, \
3 Temporal did not answer, or a log cannot be read.";

/// Whose log is wanted, and where it may be as a whole.
struct Wanted {
    ticket_id: String,
    run_id: String,
    attempt: Option<u32>,
    logs: Option<TicketLogs>,
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
        logs: TicketLogs::of(&config.logs, ticket_id)?,
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
        let kept = self.kept().await?.pop();
        let newest_kept = kept.unwrap_or_default();
        if let Some(told) = told.as_ref().filter(|told| told.attempt > newest_kept) {
            out.told(told, 0)?;
            return Ok(ExitCode::SUCCESS);
        }
        let answer = match told {
            Some(_) => None,
            None => answered(client, &self.ticket_id, &self.run_id, self.attempt).await.map_err(unanswered)?,
        };
        if let Some(answer) = answer.as_ref().filter(|answer| answer.attempt > newest_kept) {
            return Ok(if out.answered(answer)? { ExitCode::SUCCESS } else { self.nothing() });
        }
        let log = kept.map(|attempt| self.open(attempt)).transpose()?.flatten();
        let Some((attempt, mut log)) = kept.zip(log) else { return Ok(self.nothing()) };
        let told = told.filter(|told| told.attempt == attempt);
        let newest = told.as_ref().and_then(|told| told.lines.back());
        let (mut last, mut lacks, mut has_newest) = (0, false, newest.is_none());
        while let Some(line) = log.line().await? {
            lacks |= self.lacks_between(attempt, last, &line);
            last = line.seq.max(last);
            has_newest |= newest.is_some_and(|newest| {
                line.seq == newest.seq && line.stream == newest.stream && line.text.starts_with(&newest.text)
            });
            if !out.line(attempt, &line)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        out.flush()?;
        // Lines are told once they are kept: a log without them was given up, or another worker's log went on elsewhere.
        if let Some(told) = told.filter(|_| !has_newest) {
            let before = told.lines.front().map_or(0, |line| line.seq.saturating_sub(1));
            out.told(&told, if told.seq > last { last } else { before })?;
        } else if let Some(missing) = answer.and_then(|answer| self.missing(&answer, attempt, last)) {
            return Ok(missing);
        }
        Ok(exit_code(lacks))
    }

    /// Says that lines are missing between number `last` of a log and the next one that was read, if they are.
    fn lacks_between(&self, attempt: u32, last: u64, next: &Line) -> bool {
        let missing = next.seq.saturating_sub(last).saturating_sub(1);
        if let Some(gap) = gap(missing, next) {
            eprintln!("worker-agents: in the log of attempt {attempt} of ticket {}, {gap}", self.ticket_id);
        }
        missing > 0
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

    /// The wanted attempts that have a whole log in reach, in their order.
    async fn kept(&self) -> anyhow::Result<Vec<u32>> {
        let Some(logs) = &self.logs else { return Ok(Vec::new()) };
        let mut attempts = logs.attempts(&self.run_id).await?;
        attempts.retain(|attempt| self.wants(*attempt));
        Ok(attempts)
    }

    /// The log of one of those.
    fn open(&self, attempt: u32) -> Result<Option<KeptLog>, Unreadable> {
        self.logs.as_ref().map(|logs| logs.open(&self.run_id, attempt)).transpose()
    }

    /// Whether lines that a heartbeat tells are in the log that is read here.
    fn has_log_of(&self, told: &Logged) -> bool {
        let same = self.logs.as_ref().zip(told.address.as_ref());
        same.is_some_and(|(logs, address)| logs.is_at(&self.run_id, told.attempt, address))
            && told.trouble.is_none()
            && told.left_out == 0
    }

    fn told(&self, run: &Run) -> Option<Logged> {
        told(run).filter(|told| self.wants(told.attempt))
    }

    fn wants(&self, attempt: u32) -> bool {
        self.attempt.is_none_or(|wanted| wanted == attempt)
    }
}

/// What is said of lines that are missing before one that was read: a bucket loses old logs piece by piece. A worker that says something
/// of its log there says why it left lines out.
fn gap(missing: u64, next: &Line) -> Option<String> {
    (missing > 0 && next.stream != Stream::Worker).then(|| {
        format!("{missing} lines before number {} are missing: they were removed, or a worker was lost", next.seq)
    })
}

/// How the command ends when all that is there was printed.
fn exit_code(lacks: bool) -> ExitCode {
    ExitCode::from(u8::from(lacks))
}
