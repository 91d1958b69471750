//! The Kubernetes runtime, made of settings, and the check of its cluster.

use std::sync::Arc;
use std::time::Duration;

use ticket_activities::ExecutorRegistry;
use ticket_activities::execute::kubernetes::{
    Access, Amounts, Cluster, ClusterFacts, KubernetesConfig, KubernetesRuntime,
};
use ticket_activities::external::{External, OnCall, Provider as _, Runs};
use ticket_schemas::TaskType;

use super::ExternalRuntimes;
use crate::config::{KubernetesRuntimeConfig, RequestAndLimit};
use crate::metrics::Metrics;
use crate::startup::{Check, Finding};
use crate::worker::OUTPUT_LIMIT;

/// How long a check waits for the cluster.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn add_to(
    registry: ExecutorRegistry,
    runtimes: &mut ExternalRuntimes,
    settings: &KubernetesRuntimeConfig,
    metrics: &Arc<Metrics>,
    runs: &Arc<dyn Runs>,
) -> ExecutorRegistry {
    let metrics = Arc::clone(metrics);
    let on_call: OnCall = Arc::new(move |method, answered| metrics.execute.k8s_called(method, answered));
    let runtime = KubernetesRuntime::new(cluster(settings, on_call), runtime_config(settings));
    let external = External::new(Arc::new(runtime)).at(runtimes.endpoint(KubernetesRuntime::NAME));
    let janitor = external.janitor(Arc::clone(runs), settings.sweep_interval);
    runtimes.sweeps.push(Box::new(move |stop| Box::pin(janitor.run(stop))));
    registry.register(TaskType::Execute, KubernetesRuntime::NAME, external)
}

fn cluster(settings: &KubernetesRuntimeConfig, on_call: OnCall) -> Cluster {
    let access = settings.kubeconfig.clone().map_or(Access::InCluster, Access::Kubeconfig);
    Cluster::new(access, settings.namespace.clone(), on_call)
}

fn runtime_config(settings: &KubernetesRuntimeConfig) -> KubernetesConfig {
    let amounts = |of: &RequestAndLimit| Amounts { request: of.request.clone(), limit: of.limit.clone() };
    KubernetesConfig {
        default_timeout: settings.timeout,
        cpu: amounts(&settings.cpu),
        memory: amounts(&settings.memory),
        service_account: settings.service_account.clone(),
        allowed_service_accounts: settings.allowed_service_accounts.clone(),
        scratch: settings.scratch.clone(),
        pull: settings.pull,
        pull_secret: settings.pull_secret.clone(),
        trial: settings.trial,
        ttl: settings.ttl,
        grace: settings.grace,
        clean_up: settings.clean_up,
        poll_interval: settings.poll_interval,
        output_limit: OUTPUT_LIMIT,
    }
}

/// Asks the cluster what it is and what this worker may do there. `None`: there is no Kubernetes runtime.
pub(crate) async fn look(settings: Option<&KubernetesRuntimeConfig>) -> Finding {
    let Some(settings) = settings else { return Finding::ok(Check::Kubernetes, "the Kubernetes runtime is off") };
    let cluster = cluster(settings, Arc::new(|_, _| ()));
    let answer = tokio::time::timeout(CHECK_TIMEOUT, cluster.facts(settings.trial)).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", CHECK_TIMEOUT.as_secs()));
    judge(&settings.namespace, answer.and_then(|facts| facts.map_err(|fault| fault.to_string())))
}

fn judge(namespace: &str, answer: Result<ClusterFacts, String>) -> Finding {
    let ClusterFacts { version, forbidden } = match answer {
        Ok(facts) => facts,
        Err(error) => {
            return Finding::failed(
                Check::Kubernetes,
                format!("the Kubernetes cluster cannot be used: {error}"),
                "check K8S_JOBS_KUBECONFIG_PATH, or the service account of this worker's pod",
            );
        }
    };
    if forbidden.is_empty() {
        let what = format!("Kubernetes {version}; Jobs can be run in namespace {namespace}");
        return Finding::ok(Check::Kubernetes, what);
    }
    Finding::failed(
        Check::Kubernetes,
        format!("in namespace {namespace} of Kubernetes {version} this worker may not: {}", forbidden.join(", ")),
        "give it a Role with these verbs (docs/operations/kubernetes.md)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::State;

    #[test]
    fn a_cluster_is_named_and_what_is_forbidden_there_is_a_failure() {
        let facts = |forbidden: &[&str]| ClusterFacts {
            version: "v1.35.4".to_owned(),
            forbidden: forbidden.iter().map(|it| (*it).to_owned()).collect(),
        };
        let good = judge("jobs", Ok(facts(&[])));
        assert_eq!(good.state, State::Ok);
        assert_eq!(good.what, "Kubernetes v1.35.4; Jobs can be run in namespace jobs");
        let bare = judge("jobs", Ok(facts(&["create jobs", "get pods/log"])));
        assert_eq!(bare.state, State::Failed);
        assert!(bare.what.contains("create jobs, get pods/log") && bare.fix.contains("Role"), "{bare:?}");
        let away = judge("jobs", Err("refused".to_owned()));
        assert!(away.state == State::Failed && away.fix.contains("K8S_JOBS_KUBECONFIG_PATH"), "{away:?}");
    }
}
