//! `worker-agents submit`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rdkafka::Message as _;
use serde_json::json;
use ticket_activities::now_ms;
use ticket_schemas::{DlqRecord, ExecutionStatus, Ticket, TicketStatus};

use super::{
    Encoding, Followed, ResultFollower, TicketPublisher, TopicFollower, UsageError, complete, parse_tickets,
    settings_and_secrets,
};
use crate::config::{KafkaConfig, LogFormat, TemporalConfig};
use crate::logging;

#[derive(Args)]
pub(super) struct SubmitArgs {
    /// Files of tickets; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form on the wire
    #[arg(long, value_enum, default_value = "json")]
    encoding: Encoding,
    /// Wait for every result
    #[arg(long)]
    wait: bool,
    /// Give up waiting after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// One JSON line for each ticket published, or with --wait for each result
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let tickets = read_tickets(&args.files)?;
    // Made before anything is published, so that no answer is missed.
    let mut waiting = if args.wait { Some(Waiting::from_now(&config.kafka).await?) } else { None };
    let publisher = TicketPublisher::new(&config.kafka)?;
    for ticket in &tickets {
        let place = publisher.publish(ticket, args.encoding).await?;
        match &mut waiting {
            Some(waiting) => waiting.add(ticket, place),
            None => print_published(ticket, args.json),
        }
    }
    match waiting {
        None => Ok(ExitCode::SUCCESS),
        Some(waiting) => waiting.wait(&args, &config.temporal).await,
    }
}

fn read_tickets(files: &[PathBuf]) -> anyhow::Result<Vec<Ticket>> {
    let now_ms = now_ms();
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut ids = BTreeSet::new();
    for file in files {
        let source = file.display().to_string();
        let text = if source == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            text
        } else {
            std::fs::read_to_string(file).map_err(|error| UsageError(format!("{source}: {error}")))?
        };
        for ticket in parse_tickets(&text, &source)? {
            let ticket = complete(ticket, tickets.len() + 1, now_ms)?;
            if ticket.status != TicketStatus::Pending {
                let (id, status) = (&ticket.ticket_id, ticket.status);
                return Err(UsageError(format!(
                    "{source}: ticket {id} has status {status}; workers take PENDING ones only"
                ))
                .into());
            }
            if !ids.insert(ticket.ticket_id.clone()) {
                return Err(UsageError(format!("{source}: ticket id {} stands there twice", ticket.ticket_id)).into());
            }
            tickets.push(ticket);
        }
    }
    Ok(tickets)
}

fn print_published(ticket: &Ticket, as_json: bool) {
    if as_json {
        println!("{}", json!({ "ticket_id": ticket.ticket_id, "task_id": ticket.task_id, "published": true }));
    } else {
        println!("published {} ({} {})", ticket.ticket_id, ticket.task_type, ticket.task_id);
    }
}

/// Tickets that are published and not answered yet.
struct Waiting {
    results: ResultFollower,
    dead_letters: TopicFollower,
    /// The topic that they were published to.
    topic: String,
    /// Ticket id to partition and offset.
    open: BTreeMap<String, (i32, i64)>,
}

/// What became of a ticket.
enum Answer {
    Result(Box<Followed>),
    /// Its record is in the dead-letter topic: there will be no result.
    DeadLetter {
        ticket_id: String,
        letter: Box<DlqRecord>,
    },
}

impl Waiting {
    async fn from_now(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        Ok(Self {
            results: ResultFollower::from_now(kafka).await?,
            dead_letters: TopicFollower::from_now(kafka, &kafka.dlq_topic).await?,
            topic: kafka.tickets_topic.clone(),
            open: BTreeMap::new(),
        })
    }

    fn add(&mut self, ticket: &Ticket, place: (i32, i64)) {
        self.open.insert(ticket.ticket_id.as_str().to_owned(), place);
    }

    async fn wait(mut self, args: &SubmitArgs, temporal: &TemporalConfig) -> anyhow::Result<ExitCode> {
        let total = self.open.len();
        let mut failed = 0usize;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(args.timeout);
        progress(0, total);
        while !self.open.is_empty() {
            let Ok(answer) = tokio::time::timeout_at(deadline, self.next()).await else {
                clear_progress();
                anyhow::bail!(
                    "no result within {} s for {}; look at them in the Temporal UI (workflow id ticket-<id>). \
                     a ticket that has run before, under the same id, gets no other result",
                    args.timeout,
                    self.open.into_keys().collect::<Vec<_>>().join(", ")
                );
            };
            let answer = answer?;
            clear_progress();
            failed += usize::from(!print_answer(&answer, args.json, temporal));
            progress(total - self.open.len(), total);
        }
        clear_progress();
        Ok(ExitCode::from(u8::from(failed > 0)))
    }

    /// The next answer to one of them, which is answered then.
    async fn next(&mut self) -> anyhow::Result<Answer> {
        loop {
            tokio::select! {
                record = self.results.receive() => {
                    let awaited = |ticket_id: &str| self.open.contains_key(ticket_id);
                    let Some(followed) = self.results.read(&record?, awaited).await? else { continue };
                    let running = followed.result.status == ExecutionStatus::Running;
                    if !running && self.open.remove(followed.result.ticket_id.as_str()).is_some() {
                        return Ok(Answer::Result(Box::new(followed)));
                    }
                }
                record = self.dead_letters.next() => {
                    // What is no dead letter is about none of these.
                    let Ok(letter) = DlqRecord::parse(record?.payload().unwrap_or_default()) else { continue };
                    if let Some(ticket_id) = self.ours(&letter) {
                        self.open.remove(&ticket_id);
                        return Ok(Answer::DeadLetter { ticket_id, letter: Box::new(letter) });
                    }
                }
            }
        }
    }

    /// The open ticket whose record the letter is about.
    fn ours(&self, letter: &DlqRecord) -> Option<String> {
        let (topic, partition, offset) = letter.source()?;
        let found = self.open.iter().find(|(_, place)| topic == self.topic && **place == (partition, offset))?;
        Some(found.0.clone())
    }
}

/// Whether the ticket is COMPLETED.
fn print_answer(answer: &Answer, as_json: bool, temporal: &TemporalConfig) -> bool {
    match answer {
        Answer::Result(followed) => {
            let completed = followed.result.status == ExecutionStatus::Completed;
            print_result(followed, as_json);
            if !as_json
                && !completed
                && let Some(url) = temporal.ticket_url(followed.result.ticket_id.as_str())
            {
                println!("  {url}");
            }
            completed
        }
        Answer::DeadLetter { ticket_id, letter } => {
            let (code, error) = (letter.error_code().unwrap_or("unknown"), letter.error().unwrap_or_default());
            if as_json {
                println!(
                    "{}",
                    json!({ "ticket_id": ticket_id, "status": "DEAD_LETTERED", "error_code": code, "error": error })
                );
            } else {
                println!("DEAD_LETTERED {ticket_id} {code}: {error}");
            }
            false
        }
    }
}

fn print_result(followed: &Followed, as_json: bool) {
    let result = &followed.result;
    if as_json {
        let mut line = json!(result);
        line["result_id"] = json!(followed.result_id);
        println!("{line}");
        return;
    }
    let detail = result.error_message.clone().or_else(|| followed.evidence()).unwrap_or_default();
    println!("{} {} {} ms {detail}", result.status, result.ticket_id, result.actual_duration_ms.unwrap_or_default());
}

/// Shown on a terminal only, on standard error.
fn progress(done: usize, total: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done}/{total} tickets done");
        let _ = std::io::stderr().flush();
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
