//! `worker-agents agents list`.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;
use platform_proto::service_registry::{AgentType, DiscoverRequest, ListAgentsRequest};

use super::{Kind, client, view};
use crate::cli::output::{nothing, print};
use crate::cli::settings;

#[derive(Args)]
pub(super) struct ListArgs {
    /// Capability that an agent must have; may be repeated, then all are needed
    #[arg(long = "capability", value_name = "WORD", value_delimiter = ',')]
    capabilities: Vec<String>,
    /// Kind of agent
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// Status; degraded agents pass for HEALTHY
    #[arg(long, value_name = "STATUS", value_parser = ["HEALTHY", "DEGRADED", "UNHEALTHY"], ignore_case = true)]
    status: Option<String>,
    /// Namespace that they are registered in
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Version
    #[arg(long, value_name = "VERSION")]
    agent_version: Option<String>,
    /// Security level; an agent that says none counts as INTERNAL
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Most agents listed with --capability
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..))]
    limit: i32,
    /// One JSON line for each agent
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    fn filters(&self) -> HashMap<String, String> {
        let upper = |text: &Option<String>| text.as_deref().map(str::to_uppercase);
        let filters = [
            ("status", upper(&self.status)),
            ("namespace", self.namespace.clone()),
            ("cluster", self.cluster.clone()),
            ("version", self.agent_version.clone()),
            ("security_level", upper(&self.level)),
        ];
        filters.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let registry = client(&settings()?).await?;
    let (kind, mut filters) = (Kind::wanted(args.kind), args.filters());
    let agents = if args.capabilities.is_empty() {
        registry.list(ListAgentsRequest { agent_type: kind.into(), filters }).await?
    } else {
        if kind != AgentType::Unspecified {
            filters.insert("agent_type".to_owned(), kind.as_str_name().to_owned());
        }
        let (capabilities, max_results) = (args.capabilities, args.limit);
        registry.discover(DiscoverRequest { capabilities, filters, max_results }).await?
    };
    if agents.is_empty() {
        return Ok(nothing(&format!("the Service Registry at {} knows no such agent", registry.address())));
    }
    if !args.json && !print(view::heading().as_bytes())? {
        return Ok(ExitCode::SUCCESS);
    }
    for agent in &agents {
        let line = if args.json { format!("{}\n", view::json(agent)) } else { view::row(agent) };
        if !print(line.as_bytes())? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
