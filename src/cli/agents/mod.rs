//! `worker-agents agents`: who the Service Registry knows.

mod list;
mod view;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use platform_proto::service_registry::AgentType;

use super::UsageError;
use crate::config::{Config, LogFormat};
use crate::logging;
use crate::metrics::Metrics;
use crate::service_registry::ServiceRegistryClient;
use crate::spiffe::WorkloadIdentity;

#[derive(Args)]
pub(super) struct AgentsArgs {
    #[command(subcommand)]
    command: AgentsCommand,
}

#[derive(Subcommand)]
enum AgentsCommand {
    /// List agents; with --capability, as the orchestrator looks for them: the best first, unhealthy ones left out
    List(list::ListArgs),
    /// Show what happens to agents from now on, until Ctrl-C
    Watch(watch::WatchArgs),
}

pub(super) async fn run(args: AgentsArgs) -> anyhow::Result<ExitCode> {
    logging::install("warn", LogFormat::Text)?;
    match args.command {
        AgentsCommand::List(args) => list::run(args).await,
        AgentsCommand::Watch(args) => watch::run(args).await,
    }
}

/// A kind of agent on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Worker,
    Scout,
    Guard,
    Analyst,
}

impl Kind {
    /// The registry's type; all of them when none is given.
    fn wanted(given: Option<Self>) -> AgentType {
        match given {
            None => AgentType::Unspecified,
            Some(Self::Worker) => AgentType::Worker,
            Some(Self::Scout) => AgentType::Scout,
            Some(Self::Guard) => AgentType::Guard,
            Some(Self::Analyst) => AgentType::Analyst,
        }
    }
}

async fn client(config: &Config) -> anyhow::Result<ServiceRegistryClient> {
    let metrics = Arc::new(Metrics::new()?);
    let identity = WorkloadIdentity::of_command(config.spiffe.as_ref(), Arc::clone(&metrics)).await;
    let client = ServiceRegistryClient::of(config, identity, metrics);
    client.ok_or_else(|| {
        UsageError(
            "no Service Registry is configured; set SERVICE_REGISTRY_HOST (and SERVICE_REGISTRY_PORT)".to_owned(),
        )
        .into()
    })
}
