//! An agent for people and for programs. What others wrote into the registry is not trusted.

use platform_proto::service_registry::AgentInfo;
use serde_json::{Value, json};

use crate::dead_letters::{format_instant, shown};

/// Longest text of a column, in characters.
const COLUMN_CHARS: usize = 48;

/// The agent as the registry told it, with the contract's names.
pub(super) fn json(agent: &AgentInfo) -> Value {
    let telemetry = agent.telemetry.as_ref().map(|told| {
        json!({
            "success_rate": told.success_rate,
            "avg_duration_ms": told.avg_duration_ms,
            "total_executions": told.total_executions,
            "failed_executions": told.failed_executions,
            "last_execution_at": told.last_execution_at,
        })
    });
    json!({
        "agent_id": agent.agent_id,
        "agent_type": agent.agent_type().as_str_name(),
        "status": agent.status().as_str_name(),
        "capabilities": agent.capabilities,
        "metadata": agent.metadata,
        "telemetry": telemetry,
        "registered_at": agent.registered_at,
        "last_seen": agent.last_seen,
        "namespace": agent.namespace,
        "cluster": agent.cluster,
        "version": agent.version,
        "schema_version": agent.schema_version,
    })
}

/// A time of the registry's, which is in epoch seconds; or `–` where there is none.
pub(super) fn instant(seconds: i64) -> String {
    let known = Some(seconds).filter(|seconds| *seconds != 0);
    known.and_then(|seconds| format_instant(seconds.saturating_mul(1000))).unwrap_or_else(|| "–".to_owned())
}

pub(super) fn heading() -> String {
    line(["AGENT", "TYPE", "STATUS", "NAMESPACE", "LEVEL", "VERSION", "SEEN", "DONE", "FAILED", "ENDPOINT"])
}

pub(super) fn row(agent: &AgentInfo) -> String {
    let metadata = |key: &str| agent.metadata.get(key).map_or("–", String::as_str);
    let told = agent.telemetry.unwrap_or_default();
    line([
        &shown(&agent.agent_id, COLUMN_CHARS),
        agent.agent_type().as_str_name(),
        agent.status().as_str_name(),
        &shown(&agent.namespace, COLUMN_CHARS),
        &shown(metadata("security_level"), COLUMN_CHARS),
        &shown(&agent.version, COLUMN_CHARS),
        &instant(agent.last_seen),
        &told.total_executions.to_string(),
        &told.failed_executions.to_string(),
        &shown(metadata("endpoint"), COLUMN_CHARS),
    ])
}

fn line([id, kind, status, namespace, level, version, seen, done, failed, endpoint]: [&str; 10]) -> String {
    format!(
        "{id:<36} {kind:<8} {status:<9} {namespace:<22} {level:<12} {version:<9} {seen:<24} {done:>6} {failed:>6}  {endpoint}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_interpret_is_escaped() {
        let mut agent = AgentInfo { agent_id: "a\u{1b}[31m".to_owned(), ..AgentInfo::default() };
        agent.metadata.insert("endpoint".to_owned(), "x\ny".repeat(100));
        let row = row(&agent);
        assert!(!row.contains('\u{1b}') && row.matches('\n').count() == 1, "{row:?}");
        // Words that a newer registry may have are told as they are known here.
        agent.status = 77;
        assert_eq!(json(&agent)["status"], "AGENT_STATUS_UNSPECIFIED");
    }
}
