//! `worker-agents agents watch`.

use std::process::ExitCode;

use clap::Args;
use platform_proto::service_registry::{AgentChangeEvent, WatchAgentsRequest};
use serde_json::json;

use super::{Kind, client, view};
use crate::cli::output::print;
use crate::cli::{settings, shutdown_signal};

#[derive(Args)]
pub(super) struct WatchArgs {
    /// Kind of agent
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// One JSON line for each event
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let registry = client(&settings()?).await?;
    eprintln!("watching the agents of the Service Registry at {}", registry.address());
    let told = async {
        let mut events = registry.watch(WatchAgentsRequest { agent_type: Kind::wanted(args.kind).into() }).await?;
        while let Some(event) = registry.next(&mut events).await? {
            let line = if args.json { format!("{}\n", json(&event)) } else { row(&event) };
            if !print(line.as_bytes())? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        anyhow::bail!("the Service Registry at {} has ended the watch; start it again", registry.address())
    };
    tokio::select! {
        ended = told => ended,
        () = shutdown_signal() => Ok(ExitCode::SUCCESS),
    }
}

fn json(event: &AgentChangeEvent) -> serde_json::Value {
    json!({
        "event_type": event.event_type().as_str_name(),
        "timestamp": event.timestamp,
        "agent": event.agent.as_ref().map(view::json),
    })
}

fn row(event: &AgentChangeEvent) -> String {
    let agent = event.agent.as_ref().map(view::row).unwrap_or_else(|| "–\n".to_owned());
    format!("{:<24} {:<14} {agent}", view::instant(event.timestamp), event.event_type().as_str_name())
}
