//! `worker-agents dlq`: look at dead letters and publish their records again.

mod list;
mod original;
mod redrive;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ticket_activities::now_ms;

use crate::cli::output::{nothing, print};
use crate::config::KafkaConfig;
use crate::dead_letters::{Extent, Letter, Place, Selection, TopicScan, fetch, parse_instant};

#[derive(Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// List dead letters
    List(list::ListArgs),
    /// Show everything about a dead letter
    Show(show::ShowArgs),
    /// Publish the records of dead letters again, byte for byte or edited
    Redrive(redrive::RedriveArgs),
}

pub(super) async fn run(args: DlqArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DlqCommand::List(args) => list::run(args).await,
        DlqCommand::Show(args) => show::run(args).await,
        DlqCommand::Redrive(args) => redrive::run(args).await,
    }
}

/// Conditions; all that are given must hold.
#[derive(Args)]
struct Filters {
    /// Error code, or class of error; may be repeated
    #[arg(long = "code", value_name = "CODE", value_delimiter = ',')]
    codes: Vec<String>,
    /// Task type; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    task_types: Vec<String>,
    /// Ticket id, or `unknown`; may be repeated
    #[arg(long = "ticket", value_name = "ID", value_delimiter = ',')]
    tickets: Vec<String>,
    /// Dead-lettered at this time or later: RFC 3339, or how long ago (90s, 30m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<i64>,
    /// Dead-lettered before this time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<i64>,
}

fn instant(text: &str) -> Result<i64, String> {
    parse_instant(text, now_ms())
}

impl Filters {
    fn selection(self) -> Selection {
        Selection {
            codes: self.codes,
            task_types: self.task_types,
            tickets: self.tickets,
            since_ms: self.since,
            until_ms: self.until,
        }
    }
}

/// Dead letters as they are read, one at a time.
struct Letters(TopicScan);

impl Letters {
    fn new(kafka: &KafkaConfig, extent: &Extent) -> anyhow::Result<Self> {
        Ok(Self(TopicScan::new(kafka, extent)?))
    }

    async fn next(&mut self) -> anyhow::Result<Option<Letter>> {
        Ok(self.0.next().await?.map(|message| Letter::of(&message)))
    }
}

/// The dead letter at a place.
async fn letter_at(kafka: &KafkaConfig, place: Place) -> anyhow::Result<Option<Letter>> {
    let found = fetch(kafka, &kafka.dlq_topic, place.partition, place.offset).await?;
    Ok(found.map(|message| Letter::of(&message)))
}

fn place(letter: &Letter) -> Place {
    Place { partition: letter.position.partition, offset: letter.position.offset }
}
