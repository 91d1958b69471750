//! The protocol of external work (`docs/adr/0024-external-work.md`), which every registered provider goes through over real
//! connections, with a fake of its API whose answers are lost, late, cut or nonsense at any step.
//!
//! A provider joins with a [`candidate::Candidate`]: how it is made against an address, and a fake that behaves as the real
//! API. The fake counts what was created and begun under each key; the first test fails for a provider that is not here.
#![cfg(all(feature = "dev-stack", feature = "docker"))]

mod candidate;
mod docker;
mod faults;
mod interruptions;
mod kills;
mod server;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use ticket_activities::ExecutorRegistry;
use ticket_activities::external::Runs;
use worker_agents::config::{Config, MapSource};
use worker_agents::external::ExternalRuntimes;
use worker_agents::metrics::Metrics;

use crate::candidate::Candidate;

/// Every provider of the suite.
fn candidates() -> Vec<Arc<dyn Candidate>> {
    vec![Arc::new(docker::DockerCandidate)]
}

/// The settings that switch providers on.
const SWITCHES: [&str; 14] = [
    "ARGOCD_ENABLED",
    "CHECKOV_ENABLED",
    "CODE_FORGE_ENABLED",
    "DOCKER_ENABLED",
    "FLUX_ENABLED",
    "GITHUB_ACTIONS_ENABLED",
    "GITLAB_CI_ENABLED",
    "JENKINS_ENABLED",
    "K8S_JOBS_ENABLED",
    "LAMBDA_ENABLED",
    "OPA_ENABLED",
    "SNYK_ENABLED",
    "SONARQUBE_ENABLED",
    "TRIVY_ENABLED",
];

struct Nobody;

impl Runs for Nobody {
    fn has_ended<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

#[test]
fn every_registered_provider_of_external_work_is_in_the_suite() {
    let settings = MapSource::from(SWITCHES.map(|name| (name, "true")));
    let config = Config::read(&settings).expect("settings");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let runs: Arc<dyn Runs> = Arc::new(Nobody);
    let (registry, _) = ExternalRuntimes::add_to(ExecutorRegistry::new(), &config, &metrics, &runs);
    let registered: BTreeSet<_> =
        registry.external().map(|(task_type, name)| (task_type.as_str(), name.to_owned())).collect();
    let known: BTreeSet<_> = candidates()
        .iter()
        .map(|candidate| (candidate.task_type().as_str(), candidate.provider().to_owned()))
        .collect();
    assert_eq!(registered, known, "a provider joins the suite in candidates()");
}
