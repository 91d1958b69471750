//! `worker-agents dlq list`.

use std::process::ExitCode;

use clap::Args;

use super::{Filters, Letters, nothing, place, print};
use crate::cli::settings_and_secrets;
use crate::config::LogFormat;
use crate::dead_letters::{Extent, Letter, shown};
use crate::logging;

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filters: Filters,
    /// One JSON line for each dead letter
    #[arg(long)]
    json: bool,
}

/// Longest error shown in the table, in characters; `show` has all of it.
const ERROR_CHARS: usize = 100;

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let selection = args.filters.selection();
    let topic = &config.kafka.dlq_topic;
    let extent = Extent::of(&config.kafka, topic).await?;
    let mut letters = Letters::new(&config.kafka, &extent)?;
    let (mut read, mut listed) = (0usize, 0usize);
    while let Some(letter) = letters.next().await? {
        read += 1;
        if !selection.admits(&letter) {
            continue;
        }
        if listed == 0 && !args.json && !print(heading().as_bytes())? {
            return Ok(ExitCode::SUCCESS);
        }
        listed += 1;
        let line = if args.json { format!("{}\n", letter.summary()) } else { row(&letter) };
        if !print(line.as_bytes())? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if listed == 0 {
        return Ok(nothing(&format!("none of the {read} dead letters in {topic} is meant")));
    }
    if !args.json {
        eprintln!("{listed} of {read} dead letters in {topic}");
    }
    Ok(ExitCode::SUCCESS)
}

fn heading() -> String {
    line(["POSITION", "WRITTEN", "CODE", "TYPE", "RE-DRIVEN", "TICKET", "ERROR"])
}

fn row(letter: &Letter) -> String {
    line([
        &place(letter).to_string(),
        &letter.written_at().unwrap_or_default(),
        &shown(letter.code(), 40),
        &shown(letter.task_type(), 16),
        &letter.redrives().to_string(),
        letter.ticket_id(),
        &shown(&letter.error(), ERROR_CHARS),
    ])
}

fn line([position, written, code, task_type, redrives, ticket, error]: [&str; 7]) -> String {
    format!("{position:<10} {written:<24} {code:<28} {task_type:<10} {redrives:<9} {ticket:<36} {error}\n")
}
