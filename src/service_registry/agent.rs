//! What this worker says of itself.

use std::net::SocketAddr;

use platform_proto::service_registry::{AgentType, RegisterRequest};
use ticket_schemas::SecurityLevel;

use crate::config::Config;

/// One registration: a security level has one of its own, since the scheduler compares the one that is in an agent's
/// metadata with the ticket's (INC-25).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Agent {
    pub(super) level: SecurityLevel,
    pub(super) introduction: RegisterRequest,
}

/// The agents that a worker with these settings is. `http`: where its HTTP API really listens.
pub(super) fn agents(config: &Config, http: SocketAddr) -> Vec<Agent> {
    let settings = &config.service_registry;
    let agent = |level: &SecurityLevel| Agent {
        level: *level,
        introduction: RegisterRequest {
            agent_type: AgentType::Worker.into(),
            capabilities: settings.capabilities.clone(),
            metadata: metadata(config, *level, http).collect(),
            namespace: settings.namespace.clone(),
            cluster: config.identity.cluster.clone(),
            version: config.identity.service_version.clone(),
            // The registry ignores it.
            telemetry: None,
        },
    };
    settings.security_levels.iter().map(agent).collect()
}

/// No later call can change it, so it holds nothing that changes: no number of active tasks
/// (`contracts/service-registry.md §3`).
fn metadata(config: &Config, level: SecurityLevel, http: SocketAddr) -> impl Iterator<Item = (String, String)> {
    let (settings, identity) = (&config.service_registry, &config.identity);
    let version = config.temporal.deployment.as_ref().map(|options| &options.version);
    let said = [
        ("agent_id", Some(identity.agent_id.clone())),
        ("security_level", Some(level.as_str().to_owned())),
        ("endpoint", Some(endpoint(config, http))),
        ("http_port", Some(http.port().to_string())),
        // There is no gRPC server.
        ("grpc_port", Some("0".to_owned())),
        ("max_concurrent_tasks", Some(identity.max_concurrent_tasks.to_string())),
        // Where it runs, which need not be the namespace that it is registered in.
        ("namespace", Some(identity.namespace.clone())),
        ("pod_name", settings.pod.name.clone()),
        ("node_name", settings.pod.node.clone()),
        ("spiffe_id", settings.spiffe_id.clone()),
        ("temporal_deployment_name", version.map(|version| version.deployment_name.clone())),
        ("temporal_build_id", version.map(|version| version.build_id.clone())),
    ];
    said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)))
}

/// The base URL of this worker's HTTP API for others (INC-26): the one that is set, or else an address that is known to lead
/// here.
fn endpoint(config: &Config, http: SocketAddr) -> String {
    let settings = &config.service_registry;
    if let Some(endpoint) = &settings.endpoint {
        return endpoint.trim_end_matches('/').to_owned();
    }
    let bound = Some(http.ip()).filter(|ip| !ip.is_unspecified());
    match bound.or(settings.pod.ip) {
        Some(ip) => format!("http://{}", SocketAddr::new(ip, http.port())),
        None => format!("http://{}:{}", host_name(), http.port()),
    }
}

fn host_name() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    host.unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{MapSource, Origin};

    fn of(pairs: &[(&str, &str)], http: &str) -> Vec<Agent> {
        let mut source = MapSource::from([("AGENT_ID", "me")]);
        pairs.iter().for_each(|(name, value)| source.set(name, *value, Origin::Environment));
        agents(&Config::read(&source).expect("valid"), http.parse().expect("an address"))
    }

    #[test]
    fn inc_24_the_registered_namespace_is_the_orchestrators_and_the_workers_own_is_told_beside_it() {
        let own = ("POD_NAMESPACE", "neural-hive-execution");
        for (pairs, registered) in
            [(vec![own], "neural-hive"), (vec![own, ("SERVICE_REGISTRY_NAMESPACE", "planners")], "planners")]
        {
            let introduction = &of(&pairs, "10.0.0.7:8080")[0].introduction;
            assert_eq!(introduction.namespace, registered);
            assert_eq!(introduction.metadata["namespace"], "neural-hive-execution");
        }
    }

    #[test]
    fn inc_25_each_security_level_is_an_agent_of_its_own() {
        let agents = of(&[("SECURITY_LEVELS", "confidential, INTERNAL")], "10.0.0.7:8080");
        let levels: Vec<&str> = agents.iter().map(|agent| &*agent.introduction.metadata["security_level"]).collect();
        assert_eq!(levels, ["INTERNAL", "CONFIDENTIAL"]);
        assert!(agents.iter().all(|agent| agent.introduction.metadata["security_level"] == agent.level.as_str()));
    }

    #[test]
    fn inc_26_the_endpoint_leads_to_the_http_api() {
        let endpoint = |pairs: &[(&str, &str)], http| of(pairs, http)[0].introduction.metadata["endpoint"].clone();
        assert_eq!(endpoint(&[("AGENT_ENDPOINT", "https://agents.example/")], "0.0.0.0:1"), "https://agents.example");
        assert_eq!(endpoint(&[("POD_IP", "10.1.2.3")], "0.0.0.0:8080"), "http://10.1.2.3:8080");
        assert_eq!(endpoint(&[("POD_IP", "fd00::7")], "[::]:8080"), "http://[fd00::7]:8080");
        // What listens on one address only is reached there only.
        assert_eq!(endpoint(&[("POD_IP", "10.1.2.3")], "127.0.0.1:5000"), "http://127.0.0.1:5000");
        assert_eq!(endpoint(&[], "0.0.0.0:8080"), format!("http://{}:8080", host_name()));
    }

    #[test]
    fn metadata_says_what_is_known_and_nothing_that_changes() {
        let settings = [
            ("POD_NAME", "worker-agents-0"),
            ("NODE_NAME", "node-7"),
            ("SPIFFE_ID", "spiffe://neural-hive.local/ns/neural-hive-execution/sa/worker-agents"),
            ("TEMPORAL_DEPLOYMENT_NAME", "agents"),
            ("TEMPORAL_WORKER_BUILD_ID", "1.2"),
            ("MAX_CONCURRENT_TASKS", "7"),
            ("SERVICE_VERSION", "3.4.5"),
            ("CLUSTER", "production"),
            ("CAPABILITIES", "python,read"),
        ];
        let introduction = of(&settings, "10.0.0.7:8081").remove(0).introduction;
        assert_eq!(introduction.agent_type(), AgentType::Worker);
        assert_eq!((&*introduction.cluster, &*introduction.version), ("production", "3.4.5"));
        assert_eq!(introduction.capabilities, ["python", "read"]);
        let metadata: BTreeMap<&str, &str> =
            introduction.metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
        let expected = BTreeMap::from([
            ("agent_id", "me"),
            ("endpoint", "http://10.0.0.7:8081"),
            ("grpc_port", "0"),
            ("http_port", "8081"),
            ("max_concurrent_tasks", "7"),
            ("namespace", "neural-hive"),
            ("node_name", "node-7"),
            ("pod_name", "worker-agents-0"),
            ("security_level", "INTERNAL"),
            ("spiffe_id", "spiffe://neural-hive.local/ns/neural-hive-execution/sa/worker-agents"),
            ("temporal_build_id", "1.2"),
            ("temporal_deployment_name", "agents"),
        ]);
        assert_eq!(metadata, expected);
    }
}
