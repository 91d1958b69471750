//! `worker-agents dlq redrive`.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use serde_json::{Value, json};
use ticket_activities::now_ms;
use ticket_schemas::{DlqRecord, Ticket, decode_json_ticket};
use tokio::time::{Interval, MissedTickBehavior};
use uuid::Uuid;

use super::{Filters, Letters, letter_at, nothing, original, place, print};
use crate::cli::{UsageError, complete, parse_tickets, settings_and_secrets, who};
use crate::config::{KafkaConfig, LogFormat};
use crate::dead_letters::{
    Body, DEFAULT_MAX_REDRIVES, Extent, Headers, Letter, Lineage, Place, RedriveError, Selection, edited, shown,
};
use crate::kafka::{Clients, Producer};
use crate::logging;

#[derive(Args)]
pub(super) struct RedriveArgs {
    /// Dead letters: PARTITION/OFFSET
    #[arg(value_name = "POSITION", conflicts_with_all = ["codes", "task_types", "tickets", "since", "until", "all"])]
    positions: Vec<Place>,
    #[command(flatten)]
    filters: Filters,
    /// Every dead letter
    #[arg(long)]
    all: bool,
    /// Publish this ticket (JSON) instead of the original; `-` is standard input. For one dead letter
    #[arg(long, value_name = "FILE")]
    edit: Option<PathBuf>,
    /// Where to publish
    #[arg(long, value_enum, default_value = "tickets")]
    to: Target,
    /// Say what would be published, and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Publish at most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Do not ask before more than one record is published
    #[arg(long)]
    yes: bool,
    /// Refuse a record that was re-driven so often already
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_REDRIVES)]
    max_redrives: u32,
    /// One JSON line for each dead letter
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// KAFKA_TICKETS_TOPIC
    Tickets,
    /// The topic that the dead letter names as its source
    Source,
}

/// How long publishing one record may take.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn run(args: RedriveArgs) -> anyhow::Result<ExitCode> {
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let kafka = &config.kafka;
    let edit = args.edit.as_deref().map(read_edit).transpose()?;
    let RedriveArgs { positions, filters, all, .. } = args;
    let selection = filters.selection();
    if positions.is_empty() && selection.is_empty() && !all {
        return Err(
            UsageError("name dead letters by position or by a filter, or all of them with --all".to_owned()).into()
        );
    }
    let chosen = if positions.is_empty() {
        Chosen::by(kafka, &selection).await?
    } else {
        Chosen { places: positions.into_iter().collect(), extent: None }
    };
    let count = chosen.places.len();
    if count == 0 {
        return Ok(nothing(&format!("no dead letter in {} is meant", kafka.dlq_topic)));
    }
    if edit.is_some() && count != 1 {
        return Err(UsageError(format!("--edit is for one dead letter; {count} are meant")).into());
    }
    if count > 1 && !args.dry_run && !args.yes && !confirmed(count, &kafka.dlq_topic)? {
        return Ok(nothing("nothing was published"));
    }
    let redrive = Redrive {
        kafka,
        producer: Clients::new(kafka)?.producer()?,
        edit,
        id: Uuid::new_v4().to_string(),
        by: who(),
        limit: args.max_redrives,
        to: args.to,
        dry_run: args.dry_run,
        json: args.json,
        pace: args.rate.map(pace),
    };
    redrive.run(chosen).await
}

/// The dead letters that are meant. Only their places are kept in memory.
struct Chosen {
    places: BTreeSet<Place>,
    /// What the topic held when they were chosen; `None` when they were named one by one.
    extent: Option<Extent>,
}

impl Chosen {
    /// Those that `selection` admits, except those that were re-driven and came back: their later dead letter stands for
    /// them, or each command would double the copies.
    async fn by(kafka: &KafkaConfig, selection: &Selection) -> anyhow::Result<Self> {
        let extent = Extent::of(kafka, &kafka.dlq_topic).await?;
        let mut letters = Letters::new(kafka, &extent)?;
        let (mut places, mut superseded) = (BTreeSet::new(), BTreeSet::new());
        while let Some(letter) = letters.next().await? {
            superseded.extend(letter.came_from());
            if selection.admits(&letter) {
                places.insert(place(&letter));
            }
        }
        let before = places.len();
        places.retain(|place| !superseded.contains(place));
        if places.len() < before {
            eprintln!(
                "{} dead letters are left out: re-driven before, and dead-lettered anew since",
                before - places.len()
            );
        }
        Ok(Self { places, extent: Some(extent) })
    }
}

/// One command's work.
struct Redrive<'a> {
    kafka: &'a KafkaConfig,
    producer: Producer,
    edit: Option<serde_json::Map<String, Value>>,
    id: String,
    by: String,
    limit: u32,
    to: Target,
    dry_run: bool,
    json: bool,
    pace: Option<Interval>,
}

/// A record as it goes out.
struct Republication {
    topic: String,
    body: Body,
    headers: Headers,
    count: u32,
}

impl Redrive<'_> {
    async fn run(mut self, chosen: Chosen) -> anyhow::Result<ExitCode> {
        let (mut published, mut refused) = (0usize, 0usize);
        let mut tally = |done: bool| if done { published += 1 } else { refused += 1 };
        let result = match &chosen.extent {
            None => self.named(&chosen.places, &mut tally).await,
            Some(extent) => self.scanned(extent, &chosen.places, &mut tally).await,
        };
        let summary = if self.dry_run {
            format!("{published} would be published, {refused} refused")
        } else {
            format!("{published} published, {refused} refused; re-drive {}", self.id)
        };
        result.with_context(|| format!("stopped early: {summary}"))?;
        if !self.json {
            eprintln!("{summary}");
        }
        Ok(ExitCode::from(u8::from(refused > 0)))
    }

    async fn named(&mut self, places: &BTreeSet<Place>, tally: &mut impl FnMut(bool)) -> anyhow::Result<()> {
        for wanted in places {
            match letter_at(self.kafka, *wanted).await? {
                Some(letter) => tally(self.one(&letter).await?),
                None => {
                    tally(false);
                    let gone = "there is no dead letter (any more)";
                    self.tell(*wanted, "unknown", json!({ "refused": gone }), &format!("not published: {gone}"))?;
                }
            }
        }
        Ok(())
    }

    async fn scanned(
        &mut self,
        extent: &Extent,
        places: &BTreeSet<Place>,
        tally: &mut impl FnMut(bool),
    ) -> anyhow::Result<()> {
        let mut letters = Letters::new(self.kafka, extent)?;
        while let Some(letter) = letters.next().await? {
            if places.contains(&place(&letter)) {
                tally(self.one(&letter).await?);
            }
        }
        Ok(())
    }

    /// Publishes one, or says why not; whether it was published.
    async fn one(&mut self, letter: &Letter) -> anyhow::Result<bool> {
        let ready = match self.prepare(letter).await? {
            Ok(ready) => ready,
            Err(error) => {
                let details = json!({ "refused": error.to_string(), "code": error.code() });
                self.tell(place(letter), letter.ticket_id(), details, &format!("not published: {error}"))?;
                return Ok(false);
            }
        };
        if !self.dry_run {
            if let Some(pace) = &mut self.pace {
                pace.tick().await;
            }
            self.publish(&ready).await?;
        }
        let Republication { topic, body, headers, count } = &ready;
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let details = json!({
            "published": !self.dry_run, "topic": topic, "what": body.what, "bytes": body.value.len(),
            "key": body.key.as_ref().map(|key| String::from_utf8_lossy(key)), "headers": names, "redrives": count,
            "redrive_id": self.id,
        });
        let key = body.key.as_ref().map_or_else(|| "none".to_owned(), |key| shown(&String::from_utf8_lossy(key), 80));
        let mut text = format!(
            "{} to {topic}: {}, {} bytes, key {key}, re-drive {count} of at most {}",
            if self.dry_run { "would be published" } else { "published" },
            body.what,
            body.value.len(),
            self.limit
        );
        if self.dry_run {
            text += &format!("\n  headers: {}", shown(&names.join(", "), 1000));
        }
        if let Some(late) = deadline_passed(&body.value, now_ms()) {
            text += &format!("\n  note: {late}");
        }
        self.tell(place(letter), letter.ticket_id(), details, &text)?;
        Ok(true)
    }

    async fn prepare(&self, letter: &Letter) -> anyhow::Result<Result<Republication, RedriveError>> {
        let lineage = match Lineage::next(letter, &self.id, &self.by, self.limit) {
            Ok(lineage) => lineage,
            Err(error) => return Ok(Err(error)),
        };
        let body = match &self.edit {
            Some(edit) => edited(letter, &ticket(edit.clone(), letter)?),
            None => original::find(self.kafka, letter).await?,
        };
        let source = letter.content.as_ref().ok().and_then(DlqRecord::source).map(|(topic, ..)| topic);
        let topic = match self.to {
            Target::Tickets => self.kafka.tickets_topic.as_str(),
            Target::Source => match source {
                Some(topic) => topic,
                None => return Ok(Err(RedriveError::SourceUnknown)),
            },
        };
        Ok(body.map(|body| {
            let headers = lineage.on(&body.headers);
            Republication { topic: topic.to_owned(), headers, count: lineage.count, body }
        }))
    }

    async fn publish(&self, ready: &Republication) -> anyhow::Result<()> {
        let headers = ready
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&ready.topic).payload(ready.body.value.as_slice()).headers(headers);
        record.key = ready.body.key.as_deref();
        self.producer
            .send(record, Timeout::After(PUBLISH_TIMEOUT))
            .await
            .map(drop)
            .map_err(|(error, _)| error)
            .with_context(|| format!("topic {} could not be written; check KAFKA_BOOTSTRAP_SERVERS", ready.topic))
    }

    fn tell(&self, place: Place, ticket_id: &str, details: Value, text: &str) -> anyhow::Result<()> {
        let line = if self.json {
            let mut line = json!({ "partition": place.partition, "offset": place.offset, "ticket_id": ticket_id, "published": false });
            if let (Value::Object(line), Value::Object(details)) = (&mut line, details) {
                line.extend(details);
            }
            line.to_string()
        } else {
            format!("{place} {ticket_id} {text}")
        };
        // Whether anybody reads it does not matter: what is meant is to be done.
        print(format!("{line}\n").as_bytes()).map(drop)
    }
}

/// The file of `--edit`: one JSON object.
fn read_edit(file: &Path) -> anyhow::Result<serde_json::Map<String, Value>> {
    let source = file.display().to_string();
    let mut text = String::new();
    if source == "-" {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| UsageError(format!("{source}: {error}")))?;
    }
    let mut tickets = parse_tickets(&text, &source)?;
    match (tickets.pop(), tickets.is_empty()) {
        (Some(ticket), true) => Ok(ticket),
        _ => Err(UsageError(format!("{source}: --edit takes one ticket")).into()),
    }
}

/// The edited ticket, completed and checked as `submit` does it. Its id is the dead letter's unless it names one.
fn ticket(mut edit: serde_json::Map<String, Value>, letter: &Letter) -> Result<Ticket, UsageError> {
    if edit.get("ticket_id").is_none_or(Value::is_null) && letter.ticket_id() != ticket_schemas::UNKNOWN {
        edit.insert("ticket_id".to_owned(), letter.ticket_id().into());
    }
    // A worker skips any other; dead letters of the platform carry others (`contracts/kafka.md §9.2`).
    edit.insert("status".to_owned(), "PENDING".into());
    complete(edit, 1, now_ms())
}

/// What a ticket that can be read says about its deadline, when it is over.
fn deadline_passed(value: &[u8], now_ms: i64) -> Option<String> {
    let deadline = decode_json_ticket(value).ok()?.sla?.deadline?;
    (deadline < now_ms).then(|| {
        let when = crate::dead_letters::format_instant(deadline).unwrap_or_else(|| deadline.to_string());
        format!(
            "its deadline passed at {when}: with DEADLINE_POLICY=enforce it fails at once; give it another with --edit"
        )
    })
}

fn pace(rate: u32) -> Interval {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Asks on a terminal; elsewhere nobody can answer.
fn confirmed(count: usize, topic: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError(format!("{count} dead letters are meant; repeat with --yes (or --dry-run)")).into());
    }
    eprint!("publish the records of {count} dead letters of {topic} again? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_a_number_of_records_a_second() {
        let (mut pace, began) = (pace(4), tokio::time::Instant::now());
        for _ in 0..9 {
            pace.tick().await;
        }
        assert_eq!(began.elapsed().as_millis(), 2000, "the first at once");
    }

    #[test]
    fn a_deadline_that_has_passed_is_told() {
        let ticket = |deadline: i64| {
            json!({
                "ticket_id": "t", "task_id": "t", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
                "sla": { "deadline": deadline },
            })
        };
        let late = deadline_passed(ticket(1_773_655_200_000).to_string().as_bytes(), 1_773_655_200_001);
        assert!(late.is_some_and(|note| note.contains("2026-03-16T10:00:00.000Z") && note.contains("--edit")));
        assert_eq!(deadline_passed(ticket(1_773_655_200_000).to_string().as_bytes(), 1_773_655_199_999), None);
        assert_eq!(deadline_passed(b"\0\0\0\0\x01", 1), None);
    }

    #[test]
    fn an_edited_ticket_is_completed_and_checked_and_pending() {
        let letter = |id: &str| {
            let value = json!({ "ticket_id": id, "task_type": "TEST", "dlq_metadata": {} }).to_string().into_bytes();
            let position = ticket_workflows::RecordPosition { topic: "dlq".to_owned(), partition: 0, offset: 0 };
            let content = DlqRecord::parse(&value);
            Letter { position, written_at_ms: None, headers: Headers::new(), value, content }
        };
        let edit = |value: Value| value.as_object().cloned().expect("an object");
        let typed = json!({ "task_type": "EXECUTE", "status": "FAILED", "parameters": {} });
        let completed = ticket(edit(typed.clone()), &letter("mine")).expect("complete");
        assert_eq!((completed.ticket_id.as_str(), completed.status.as_str()), ("mine", "PENDING"));
        let own =
            ticket(edit(json!({ "task_type": "EXECUTE", "ticket_id": "own" })), &letter("mine")).expect("complete");
        assert_eq!(own.ticket_id.as_str(), "own");
        let made = ticket(edit(typed), &letter("not an id")).expect("complete");
        assert!(Uuid::parse_str(made.ticket_id.as_str()).is_ok());
        assert!(ticket(edit(json!({ "task_type": "DANCE" })), &letter("mine")).is_err());
    }
}
