//! `worker-agents submit`.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use ticket_activities::now_ms;
use ticket_schemas::{ExecutionStatus, Ticket};

use super::{Encoding, Followed, ResultFollower, TicketPublisher, UsageError, complete, parse_tickets, settings};
use crate::config::{LogFormat, TemporalConfig};
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
    let config = settings()?;
    logging::install("warn", LogFormat::Text)?;
    let tickets = read_tickets(&args.files)?;
    // Made before anything is published, so that no result is missed.
    let follower = if args.wait { Some(ResultFollower::from_now(&config.kafka).await?) } else { None };
    let publisher = TicketPublisher::new(&config.kafka)?;
    for ticket in &tickets {
        publisher.publish(ticket, args.encoding).await?;
        if follower.is_none() {
            print_published(ticket, args.json);
        }
    }
    match follower {
        None => Ok(ExitCode::SUCCESS),
        Some(follower) => wait(&follower, &tickets, &args, &config.temporal).await,
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

async fn wait(
    follower: &ResultFollower,
    tickets: &[Ticket],
    args: &SubmitArgs,
    temporal: &TemporalConfig,
) -> anyhow::Result<ExitCode> {
    let mut open: BTreeSet<&str> = tickets.iter().map(|ticket| ticket.ticket_id.as_str()).collect();
    let total = open.len();
    let mut failed = 0usize;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.timeout);
    progress(total - open.len(), total);
    while !open.is_empty() {
        let Ok(followed) = tokio::time::timeout_at(deadline, follower.next()).await else {
            clear_progress();
            anyhow::bail!(
                "no result within {} s for {}; look at them in the Temporal UI (workflow id ticket-<id>) and at the DLQ",
                args.timeout,
                open.into_iter().collect::<Vec<_>>().join(", ")
            );
        };
        let followed = followed?;
        let result = &followed.result;
        if result.status == ExecutionStatus::Running || !open.remove(result.ticket_id.as_str()) {
            continue;
        }
        failed += usize::from(result.status != ExecutionStatus::Completed);
        clear_progress();
        print_result(&followed, args.json);
        if !args.json
            && result.status != ExecutionStatus::Completed
            && let Some(url) = temporal.ticket_url(result.ticket_id.as_str())
        {
            println!("  {url}");
        }
        progress(total - open.len(), total);
    }
    clear_progress();
    Ok(ExitCode::from(u8::from(failed > 0)))
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
