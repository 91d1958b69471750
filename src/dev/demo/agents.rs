//! The worker as the Service Registry knows it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use platform_proto::service_registry::{AgentInfo, AgentType, ListAgentsRequest};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::service_registry::{ServiceRegistryClient, ServiceRegistryError};

/// How long the heartbeat that tells of the plan may take to come. They are a second apart.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the registry for this worker and prints what it knows; whether it has heard of the work.
pub(super) async fn show(config: &Config) -> anyhow::Result<bool> {
    let registry = ServiceRegistryClient::of(config, None, Arc::new(Metrics::new()?));
    let registry = registry.context("the development stack has a Service Registry")?;
    println!("\n  in the Service Registry:");
    let mut trouble = None;
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            match find(&registry, &config.identity.agent_id).await {
                Ok(Some(agent)) => return agent,
                // One that gave no answer may give the next.
                other => trouble = other.err(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let Ok(agent) = heard.await else {
        let trouble = trouble.map(|error| format!(" ({error})")).unwrap_or_default();
        println!("✗ NOT AS EXPECTED: nothing of this worker within {} s{trouble}", PATIENCE.as_secs());
        return Ok(false);
    };
    let told = agent.telemetry.unwrap_or_default();
    println!(
        "✓ {} {}: {} executions, {} of them failed, {} ms on average",
        agent.agent_id,
        agent.status().as_str_name(),
        told.total_executions,
        told.failed_executions,
        told.avg_duration_ms,
    );
    Ok(true)
}

/// This worker, once a heartbeat has told of executions.
async fn find(registry: &ServiceRegistryClient, agent_id: &str) -> Result<Option<AgentInfo>, ServiceRegistryError> {
    let workers = ListAgentsRequest { agent_type: AgentType::Worker.into(), ..ListAgentsRequest::default() };
    let is_this = |agent: &AgentInfo| {
        let works = agent.telemetry.is_some_and(|told| told.total_executions > 0);
        works && agent.metadata.get("agent_id").is_some_and(|id| id == agent_id)
    };
    Ok(registry.list(workers).await?.into_iter().find(is_this))
}
