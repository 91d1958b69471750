//! `worker-agents ticket`: what an operator can order of one ticket.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use ticket_activities::now_ms;
use ticket_schemas::TicketId;
use ticket_workflows::{Order, Verb};

use super::{UsageError, settings_and_secrets, who};
use crate::config::LogFormat;
use crate::dead_letters::{parse_instant, shown};
use crate::orders::{Answer, send};
use crate::{logging, temporal};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct TicketArgs {
    #[command(subcommand)]
    verb: TicketCommand,
}

const AFTER_HELP: &str = "Each order is checked by the ticket itself. To give one again is harmless; what was ordered, by whom and \
why stands in the ticket's history, its status and its result.\n\
Exit codes: 0 done, 1 refused (the ticket has ended, is unknown, or the order makes no sense now), 2 wrong usage or \
settings, 3 infrastructure: Temporal or the workers did not answer.";

#[derive(Subcommand)]
enum TicketCommand {
    /// Stop the work, and report the ticket as FAILED with the code `cancelled`
    Cancel {
        #[command(flatten)]
        common: Common,
        /// The ticket that needs the place
        #[arg(long, value_name = "TICKET_ID", value_parser = ticket_id)]
        preempted_by: Option<String>,
        /// Report after at most so many seconds, even if the work is not known to have stopped
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
        grace: Option<u64>,
    },
    /// Begin no further attempt; one that runs goes on
    Pause(Common),
    /// Undo a pause
    Resume(Common),
    /// End the wait for a retry
    Retry(Common),
    /// Move the deadline to a later time
    ExtendDeadline {
        #[command(flatten)]
        common: Common,
        /// The new deadline: RFC 3339, how long from now (30m, 2h, 7d), or epoch milliseconds
        #[arg(long, value_name = "TIME", value_parser = to_come)]
        to: i64,
    },
    /// Wait no longer for a ticket that this one depends on
    SkipDependency {
        #[command(flatten)]
        common: Common,
        /// The ticket that is not to be waited for
        #[arg(long, value_name = "TICKET_ID", value_parser = ticket_id)]
        dependency: String,
    },
    /// Say what becomes of undoing what a failed ticket did
    #[command(subcommand)]
    Compensation(CompensationCommand),
}

#[derive(Subcommand)]
enum CompensationCommand {
    /// Try an undo that failed once more, with a COMPENSATE ticket of its own
    Resume(Common),
    /// Leave what the ticket did as it is, and close it as failed
    Skip(Common),
}

#[derive(Args)]
struct Common {
    /// The ticket
    #[arg(value_name = "TICKET_ID", value_parser = ticket_id)]
    ticket_id: String,
    /// Why; it is kept with the ticket
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who orders it [default: user and host]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Wait so many seconds for the ticket's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// One JSON line
    #[arg(long)]
    json: bool,
}

fn ticket_id(text: &str) -> Result<String, String> {
    TicketId::parse(text).map(|id| id.as_str().to_owned()).map_err(|error| error.to_string())
}

/// A time, epoch milliseconds; durations count from now on.
fn to_come(text: &str) -> Result<i64, String> {
    after(text, now_ms())
}

fn after(text: &str, now_ms: i64) -> Result<i64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && let Ok(at_ms) = text.parse() {
        return Ok(at_ms);
    }
    match parse_instant(text, 0) {
        // How long before 0: a duration.
        Ok(before) if before <= 0 => Ok(now_ms.saturating_sub(before)),
        Ok(at_ms) => Ok(at_ms),
        Err(_) => Err(format!(
            "{text:?} is no time: use RFC 3339 (2026-03-16T09:30:00Z), how long from now (90s, 30m, 2h, 7d) or epoch milliseconds"
        )),
    }
}

impl TicketCommand {
    fn parts(self) -> (Common, Verb) {
        match self {
            Self::Cancel { common, preempted_by, grace } => {
                (common, Verb::Cancel { preempted_by, grace_ms: grace.map(|seconds| seconds * 1000) })
            }
            Self::Pause(common) => (common, Verb::Pause),
            Self::Resume(common) => (common, Verb::Resume),
            Self::Retry(common) => (common, Verb::RetryNow),
            Self::ExtendDeadline { common, to } => (common, Verb::ExtendDeadline { deadline_ms: to }),
            Self::Compensation(CompensationCommand::Resume(common)) => (common, Verb::ResumeCompensation),
            Self::Compensation(CompensationCommand::Skip(common)) => (common, Verb::SkipCompensation),
            Self::SkipDependency { common, dependency } => (common, Verb::SkipDependency { ticket_id: dependency }),
        }
    }
}

pub(super) async fn run(args: TicketArgs) -> anyhow::Result<ExitCode> {
    let (common, verb) = args.verb.parts();
    for (option, text) in [("--why", Some(&common.why)), ("--by", common.by.as_ref())] {
        if text.is_some_and(|text| text.trim().is_empty()) {
            return Err(
                UsageError(format!("{option} is empty: it is kept with the ticket, for those who ask later")).into()
            );
        }
    }
    if let Verb::ExtendDeadline { deadline_ms } = verb
        && deadline_ms <= now_ms()
    {
        return Err(UsageError("--to is a time that has passed already".to_owned()).into());
    }
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let name = verb.as_str();
    let order = Order { verb, by: common.by.unwrap_or_else(who), why: common.why }.cleaned();
    let client = temporal::connect(&config).await?;
    let timeout = std::time::Duration::from_secs(common.timeout);
    let answer = send(&client, &config.temporal.task_queue, &common.ticket_id, &order, timeout).await?;
    let (done, note) = match answer {
        Answer::Done(note) => (true, note),
        Answer::Refused(note) | Answer::Ended(note) | Answer::Unknown(note) => (false, note),
    };
    let id = &common.ticket_id;
    if common.json {
        println!("{}", json!({ "ticket_id": id, "verb": name, "done": done, "note": note }));
    } else if done {
        println!("ticket {id}: {}", shown(&note, 2000));
    } else {
        eprintln!("worker-agents: {name} of ticket {id} was refused: {}", shown(&note, 2000));
    }
    Ok(ExitCode::from(u8::from(!done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_absolute_or_from_now_on() {
        const NOW: i64 = 1_773_655_200_000;
        for (text, expected) in [
            ("2026-03-16T11:00:00Z", NOW + 3_600_000),
            ("30m", NOW + 1_800_000),
            ("0s", NOW),
            ("1773655200001", NOW + 1),
        ] {
            assert_eq!(after(text, NOW), Ok(expected), "{text}");
        }
        for text in ["", "tomorrow", "-5m", "99999999999999999999"] {
            assert!(after(text, NOW).is_err_and(|error| error.contains("from now")), "{text}");
        }
    }
}
