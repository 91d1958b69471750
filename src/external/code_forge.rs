//! Code Forge as a runtime, made of settings.

use std::sync::Arc;
use std::time::Duration;

use ticket_activities::ExecutorRegistry;
use ticket_activities::execute::code_forge::{CodeForgeRuntime, GenerationTimes};
use ticket_activities::external::{External, Provider as _};
use ticket_schemas::TaskType;

use super::ExternalRuntimes;
use crate::code_forge::CodeForgeClient;
use crate::config::CodeForgeConfig;
use crate::metrics::Metrics;
use crate::spans::Spans;

/// How long Code Forge may not know a request that it has just taken: it stores it beside its answer.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// Nothing is left behind that somebody could remove: Code Forge has no call for it.
pub(super) fn add_to(
    registry: ExecutorRegistry,
    runtimes: &ExternalRuntimes,
    settings: &CodeForgeConfig,
    metrics: &Arc<Metrics>,
    spans: &Spans,
) -> anyhow::Result<ExecutorRegistry> {
    let client = CodeForgeClient::new(settings, Arc::clone(metrics), spans.clone())?;
    let times =
        GenerationTimes { limit: settings.generation_timeout, poll: settings.poll_interval, unknown_for: UNKNOWN_FOR };
    let external = External::new(Arc::new(CodeForgeRuntime::new(Arc::new(client), times)))
        .at(runtimes.endpoint(CodeForgeRuntime::NAME));
    Ok(registry.register(TaskType::Execute, CodeForgeRuntime::NAME, external))
}
