//! `worker-agents explain`: the account of one ticket, as a paragraph or as JSON.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use ticket_schemas::TicketId;
use ticket_workflows::workflow_id;

use super::{UsageError, settings_and_secrets};
use crate::config::LogFormat;
use crate::explain::{explain, unknown};
use crate::{logging, temporal};

/// How long a worker may take to answer for the ticket.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let config = settings_and_secrets().await?;
    logging::install("warn", LogFormat::Text)?;
    let client = temporal::connect(&config).await?;
    let Some(account) = explain(&client, &config.temporal, ticket_id, PATIENCE).await.map_err(unanswered)? else {
        let message = unknown(&client, ticket_id).await.map_err(unanswered)?;
        if args.json {
            let workflow_id = workflow_id(ticket_id);
            println!(
                "{}",
                json!({ "ticket_id": ticket_id, "workflow_id": workflow_id, "state": "not_found", "message": message })
            );
        } else {
            eprintln!("worker-agents: {message}");
        }
        return Ok(ExitCode::from(1));
    };
    if args.json {
        println!("{}", serde_json::to_string(&account)?);
    } else {
        println!("{}", account.explanation);
    }
    Ok(ExitCode::SUCCESS)
}

/// What to do about a server that describes nothing.
pub(super) fn unanswered(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!(
        "the Temporal server does not describe the ticket ({}: {}); check TEMPORAL_NAMESPACE, its rights and the server",
        status.code(),
        status.message()
    )
}
