//! Whether the Service Registry answers, asked as the orchestrator asks for workers.

use platform_proto::service_registry::{AgentInfo, DiscoverRequest};

use super::finding::{Check, Finding};
use crate::config::ServiceRegistryConfig;
use crate::service_registry::{ServiceRegistryClient, ServiceRegistryError};

/// Enough to count by.
const MOST_AGENTS: i32 = 1000;

/// Asks the registry. `None`: none is configured.
pub(super) async fn look(config: &ServiceRegistryConfig, registry: Option<&ServiceRegistryClient>) -> Finding {
    let Some(registry) = registry else {
        let none = "no Service Registry: the worker does not register, and the orchestrator does not find it";
        return Finding::ok(Check::ServiceRegistry, none);
    };
    let filters = [("namespace", config.namespace.as_str()), ("status", "HEALTHY")];
    let question = DiscoverRequest {
        capabilities: config.capabilities.clone(),
        filters: filters.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        max_results: MOST_AGENTS,
    };
    judge(registry.address(), &config.namespace, registry.discover(question).await)
}

fn judge(address: &str, namespace: &str, answer: Result<Vec<AgentInfo>, ServiceRegistryError>) -> Finding {
    match answer {
        Ok(agents) => Finding::ok(
            Check::ServiceRegistry,
            format!(
                "the Service Registry answers at {address}; {} agents in namespace {namespace} have this worker's capabilities",
                agents.len()
            ),
        ),
        Err(error) => {
            let said = error.to_string();
            // Its sentences say what and what to do.
            let (what, fix) = said.rsplit_once("; ").unwrap_or((&said, "check SERVICE_REGISTRY_HOST"));
            Finding::failed(Check::ServiceRegistry, what, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_registry_that_answers_is_ok_whoever_is_there_and_one_that_does_not_says_what_to_check() {
        let found = judge("r:1", "neural-hive", Ok(vec![AgentInfo::default()]));
        assert_eq!(found.state, State::Ok);
        assert!(found.what.contains("r:1; 1 agents in namespace neural-hive"), "{found:?}");
        let refused = ServiceRegistryError::Refused("PermissionDenied: no".to_owned());
        for (error, what, fix) in [
            (
                ServiceRegistryError::Unavailable { address: "r:1".to_owned(), reason: "refused".to_owned() },
                "no answer from the Service Registry at r:1: refused",
                "SERVICE_REGISTRY_HOST",
            ),
            (refused, "PermissionDenied", "ENABLE_MTLS"),
        ] {
            let found = judge("r:1", "n", Err(error));
            assert_eq!(found.state, State::Failed);
            assert!(found.what.contains(what) && found.fix.contains(fix), "{found:?}");
        }
    }
}
