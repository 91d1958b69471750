//! What a ticket waits for, since when, until when, and what ends that; or how it ended. For people on the command line
//! and for callers of the HTTP API.
//!
//! A worker answers what the ticket is doing. When none does, the server's description and the newest events of the
//! history say what they can. Nothing here changes a ticket.

mod account;
pub(crate) mod server;
mod words;

use std::time::Duration;

use futures::future::join_all;
use temporalio_client::{Client, NamespacedClient as _};
use ticket_activities::now_ms;
use tonic::Status;

pub use account::{Account, Predecessor};

use crate::config::TemporalConfig;
use crate::temporal;
use account::Known;
use server::{Answer, Run};

/// Predecessors of a waiting ticket that are looked at.
const LOOKED_AT: usize = 5;
/// How long a worker may take to answer for a predecessor, or for a ticket that has ended.
const LESS_PATIENCE: Duration = Duration::from_secs(4);

/// The account of a ticket; `None` when the server knows no such ticket. A worker may take as long as `patience` to answer
/// for the ticket, and then the account says what is known without it.
///
/// # Errors
/// When the server does not describe the ticket.
pub async fn explain(
    client: &Client,
    config: &TemporalConfig,
    ticket_id: &str,
    patience: Duration,
) -> Result<Option<Account>, Status> {
    let Some(run) = server::describe(client, ticket_id).await? else { return Ok(None) };
    let mut known = gather(client, ticket_id, run, patience, true).await;
    if known.closed_meanwhile()
        && let Ok(Some(run)) = server::describe(client, ticket_id).await
    {
        known = gather(client, ticket_id, run, patience, true).await;
    }
    let predecessors = predecessors(client, &known, patience).await;
    Ok(Some(Account::of(&known, predecessors, link(config, &known), now_ms())))
}

/// What it may mean that nothing is known under this id.
///
/// # Errors
/// When the server does not describe the namespace: one that is not there answers as for a ticket that is not there.
pub async fn unknown(client: &Client, ticket_id: &str) -> Result<String, Status> {
    let namespace = temporal::describe_namespace(client).await?;
    let kept = namespace.retention.map_or_else(
        || "once its namespace's retention is over".to_owned(),
        |kept| format!("{} after it closed", words::duration(kept)),
    );
    Ok(format!(
        "no ticket {ticket_id} in the Temporal namespace {:?}: check the id (it goes without the workflow's prefix \
         `ticket-`) and the namespace; the server forgets a ticket {kept}; if its record could not become a ticket it is \
         in the dead-letter topic: worker-agents dlq list --ticket {ticket_id}",
        client.namespace()
    ))
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
async fn predecessors(client: &Client, known: &Known, patience: Duration) -> Vec<Predecessor> {
    let ask = known.status().is_some();
    let patience = patience.min(LESS_PATIENCE);
    let looks = known.waits_for().into_iter().take(LOOKED_AT).map(|id| async move {
        match server::describe(client, &id).await {
            Ok(Some(run)) => {
                let known = gather(client, &id, run, patience, ask).await;
                Account::of(&known, Vec::new(), None, now_ms()).into()
            }
            Ok(None) => Predecessor::of_state(id, "not_found"),
            Err(_) => Predecessor::of_state(id, "unknown"),
        }
    });
    join_all(looks).await
}

/// The run's page in the Temporal UI.
fn link(config: &TemporalConfig, known: &Known) -> Option<String> {
    let ticket = config.ticket_url(&known.ticket_id)?;
    Some(format!("{ticket}/{}/history", known.run.run_id))
}
