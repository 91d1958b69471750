//! `worker-agents explain`: what a ticket waits for, since when, until when, and what ends that; or how it ended.
//!
//! A worker answers what the ticket is doing. When none does, the server's description and the newest events of the
//! history say what they can.

mod account;
mod server;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use serde_json::json;
use temporalio_client::{Client, NamespacedClient as _};
use ticket_activities::now_ms;
use ticket_schemas::TicketId;
use ticket_workflows::workflow_id;

use crate::cli::{UsageError, settings};
use crate::config::{Config, LogFormat};
use crate::{logging, temporal};
use account::{Account, Known, Predecessor};
use server::{Answer, Run};

/// Predecessors of a waiting ticket that are looked at.
const LOOKED_AT: usize = 5;
/// How long a worker may take to answer for the ticket.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take for a predecessor, or for a ticket that has ended.
const LESS_PATIENCE: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// The ticket, without the prefix `ticket-` of its workflow
    #[arg(value_name = "TICKET-ID")]
    ticket_id: String,
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let ticket_id = TicketId::parse(&args.ticket_id).map_err(|error| UsageError(error.to_string()))?;
    let ticket_id = ticket_id.as_str();
    let config = settings()?;
    logging::install("warn", LogFormat::Text)?;
    let client = temporal::connect(&config).await?;
    let Some(run) = server::describe(&client, ticket_id).await.map_err(unanswered)? else {
        return unknown(&client, ticket_id, args.json).await;
    };
    let mut known = gather(&client, ticket_id, run, PATIENCE, true).await;
    if known.closed_meanwhile()
        && let Ok(Some(run)) = server::describe(&client, ticket_id).await
    {
        known = gather(&client, ticket_id, run, PATIENCE, true).await;
    }
    let predecessors = predecessors(&client, &known).await;
    let account = Account::of(&known, predecessors, link(&config, &known), now_ms());
    if args.json {
        println!("{}", serde_json::to_string(&account)?);
    } else {
        println!("{}", account.explanation);
    }
    Ok(ExitCode::SUCCESS)
}

fn unanswered(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!(
        "the Temporal server does not describe the ticket ({}: {}); check TEMPORAL_NAMESPACE, its rights and the server",
        status.code(),
        status.message()
    )
}

/// All that can be known of a run.
async fn gather(client: &Client, ticket_id: &str, run: Run, patience: Duration, ask: bool) -> Known {
    let patience = if run.is_open() { patience } else { patience.min(LESS_PATIENCE) };
    let answer = match ask {
        true => server::status(client, ticket_id, &run.run_id, patience).await,
        false => Answer::Nobody("no worker was asked".to_owned()),
    };
    let mut known = Known { ticket_id: ticket_id.to_owned(), run, answer, recent: None, newest_poll_ms: None };
    let fails = known.run.workflow_task.as_ref().is_some_and(|task| task.attempt > 1);
    if fails || known.status().is_none() || !known.run.is_open() {
        // What cannot be read is not told; the rest is.
        known.recent = server::recent(client, ticket_id, &known.run.run_id).await.ok();
    }
    if ask && known.status().is_none() && known.run.is_open() {
        known.newest_poll_ms = server::newest_poll(client, &known.run).await.ok();
    }
    known
}

/// Why those that the ticket waits for are not done: some of them, one level deep.
async fn predecessors(client: &Client, known: &Known) -> Vec<Predecessor> {
    let ask = known.status().is_some();
    let looks = known.waits_for().into_iter().take(LOOKED_AT).map(|id| async move {
        match server::describe(client, &id).await {
            Ok(Some(run)) => {
                let known = gather(client, &id, run, LESS_PATIENCE, ask).await;
                Account::of(&known, Vec::new(), None, now_ms()).into()
            }
            Ok(None) => Predecessor::of_state(id, "not_found"),
            Err(_) => Predecessor::of_state(id, "unknown"),
        }
    });
    join_all(looks).await
}

/// The run's page in the Temporal UI.
fn link(config: &Config, known: &Known) -> Option<String> {
    let ticket = config.temporal.ticket_url(&known.ticket_id)?;
    Some(format!("{ticket}/{}/history", known.run.run_id))
}

/// Nothing is known under this id: what that may mean.
async fn unknown(client: &Client, ticket_id: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    // A namespace that is not there answers alike.
    let namespace = temporal::describe_namespace(client).await.map_err(unanswered)?;
    let kept = namespace.retention.map_or_else(
        || "once its namespace's retention is over".to_owned(),
        |kept| format!("{} after it closed", words::duration(kept)),
    );
    let message = format!(
        "no ticket {ticket_id} in the Temporal namespace {:?}: check the id (it goes without the workflow's prefix \
         `ticket-`) and the namespace; the server forgets a ticket {kept}; if its record could not become a ticket it is \
         in the dead-letter topic: worker-agents dlq list --ticket {ticket_id}",
        client.namespace()
    );
    if as_json {
        let workflow_id = workflow_id(ticket_id);
        println!(
            "{}",
            json!({ "ticket_id": ticket_id, "workflow_id": workflow_id, "state": "not_found", "message": message })
        );
    } else {
        eprintln!("worker-agents: {message}");
    }
    Ok(ExitCode::from(1))
}
