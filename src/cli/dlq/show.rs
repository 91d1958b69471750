//! `worker-agents dlq show`.

use std::fmt::Write as _;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};

use super::{Letters, letter_at, nothing, original, place, print};
use crate::cli::{UsageError, settings_and_secrets};
use crate::config::{KafkaConfig, LogFormat};
use crate::dead_letters::{Extent, Headers, Letter, Place, Selection, format_instant, shown};
use crate::logging;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct ShowArgs {
    /// The dead letter: PARTITION/OFFSET
    #[arg(group = "which", value_name = "POSITION")]
    position: Option<Place>,
    /// All dead letters of a ticket
    #[arg(long, group = "which", value_name = "ID")]
    ticket: Option<String>,
    /// Write the original bytes to standard output, and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// One JSON line for each dead letter, with everything it holds
    #[arg(long)]
    json: bool,
}

/// Longest text shown in one line, in characters.
const LINE_CHARS: usize = 2000;

pub(super) async fn run(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let kafka = &config.kafka;
    if let Some(wanted) = args.position {
        let Some(letter) = letter_at(kafka, wanted).await? else {
            return Ok(nothing(&format!("there is no dead letter at {wanted} of {} (any more)", kafka.dlq_topic)));
        };
        return show(kafka, &letter, &args).await;
    }
    let ticket = args.ticket.clone().unwrap_or_default();
    let selection = Selection { tickets: vec![ticket.clone()], ..Selection::default() };
    let mut letters = Letters::new(kafka, &Extent::of(kafka, &kafka.dlq_topic).await?)?;
    let mut places = Vec::new();
    let mut code = ExitCode::SUCCESS;
    while let Some(letter) = letters.next().await? {
        if !selection.admits(&letter) {
            continue;
        }
        places.push(place(&letter).to_string());
        if !args.raw {
            code = show(kafka, &letter, &args).await?;
        }
    }
    match places.as_slice() {
        [] => Ok(nothing(&format!("ticket {} has no dead letter in {}", shown(&ticket, 80), kafka.dlq_topic))),
        [only] if args.raw => {
            let only: Place = only.parse().map_err(anyhow::Error::msg)?;
            match letter_at(kafka, only).await? {
                Some(letter) => show(kafka, &letter, &args).await,
                None => Ok(nothing("the dead letter has just expired")),
            }
        }
        several if args.raw => {
            Err(UsageError(format!("--raw writes one original; the ticket has several: {}", several.join(", "))).into())
        }
        _ => Ok(code),
    }
}

async fn show(kafka: &KafkaConfig, letter: &Letter, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    if args.raw {
        return match original::find(kafka, letter).await? {
            Ok(body) => {
                print(&body.value)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => Ok(nothing(&error.to_string())),
        };
    }
    let text = if args.json { format!("{}\n", as_json(letter)) } else { as_text(kafka, letter).await? };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that is known, for programs.
fn as_json(letter: &Letter) -> Value {
    let headers = |headers: &Headers| -> Vec<Value> {
        let value = |value: &Option<Vec<u8>>| value.as_ref().map(|value| BASE64.encode(value));
        headers.iter().map(|(key, bytes)| json!({ "key": key, "value_base64": value(bytes) })).collect()
    };
    let mut line = letter.summary();
    line["headers"] = json!(headers(&letter.headers));
    line["record"] = match &letter.content {
        Ok(record) => Value::Object(record.object().clone()),
        Err(_) => json!({ "value_base64": BASE64.encode(&letter.value) }),
    };
    line
}

async fn as_text(kafka: &KafkaConfig, letter: &Letter) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<16}{}", shown(text, LINE_CHARS));
    line("dead letter", &format!("{} of {}", place(letter), letter.position.topic))?;
    line("written", &letter.written_at().unwrap_or_else(|| "unknown".to_owned()))?;
    line("ticket", letter.ticket_id())?;
    line("task type", letter.task_type())?;
    line("code", letter.code())?;
    line("error", &letter.error())?;
    let Ok(record) = &letter.content else {
        line("value", &String::from_utf8_lossy(&letter.value))?;
        out.push('\n');
        return Ok(out);
    };
    if let Some(class) = record.error_type().filter(|class| *class != letter.code()) {
        line("error class", class)?;
    }
    line("failures", &record.retry_count().map_or_else(|| "unknown".to_owned(), |count| count.to_string()))?;
    line("re-driven", &format!("{} time(s)", letter.redrives()))?;
    if let Some((topic, partition, offset)) = record.source() {
        let when = record.source_timestamp().and_then(format_instant);
        line("source", &format!("{topic}/{partition}@{offset}, written {}", when.as_deref().unwrap_or("unknown")))?;
    }
    if let Some(version) = record.metadata("software_version").and_then(Value::as_str) {
        line("by", &format!("worker-agents {version}"))?;
    }
    if let Some(key) = record.original_key() {
        line("key", &String::from_utf8_lossy(&key))?;
    }
    for (name, value) in record.original_headers() {
        line("header", &format!("{name}: {}", value.map(|value| lossy(&value)).unwrap_or_default()))?;
    }
    for (name, value) in &letter.headers {
        line("own header", &format!("{name}: {}", value.as_deref().map(lossy).unwrap_or_default()))?;
    }
    match original::find(kafka, letter).await? {
        Ok(body) => {
            line("original", &format!("{} bytes ({})", body.value.len(), body.what))?;
            out.push_str(&original::decoded(kafka, &body.value).await);
            out.push('\n');
        }
        Err(error) => line("original", &error.to_string())?,
    }
    out.push('\n');
    Ok(out)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
