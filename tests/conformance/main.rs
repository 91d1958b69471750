//! The protocol of external work (`docs/adr/0024-external-work.md`), which every registered provider goes through over real
//! connections, with a fake of its API whose answers are lost, late, cut or nonsense at any step.
//!
//! A provider joins with a [`candidate::Candidate`]: how it is made against an address, and a fake that behaves as the real
//! API. The fake counts what was created and begun under each key; the first test fails for a provider that is not here.
#![cfg(all(feature = "dev-stack", feature = "docker", feature = "kubernetes", feature = "lambda"))]

mod candidate;
mod code_forge;
#[expect(dead_code, reason = "what other tests use")]
#[path = "../support/code_forge.rs"]
mod code_forge_stand_in;
mod docker;
mod endpoints;
mod faults;
mod interruptions;
mod kills;
mod kubernetes;
mod lambda;
mod server;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use ticket_activities::ExecutorRegistry;
use ticket_activities::external::Runs;
use worker_agents::config::{Config, MapSource, Origin};
use worker_agents::external::ExternalRuntimes;
use worker_agents::metrics::{CIRCUIT_STATE, Metrics};
use worker_agents::spans::Spans;

use crate::candidate::Candidate;

/// Every provider of the suite.
fn candidates() -> Vec<Arc<dyn Candidate>> {
    vec![
        Arc::new(docker::DockerCandidate),
        Arc::new(kubernetes::KubernetesCandidate { trial: true }),
        Arc::new(code_forge::CodeForgeCandidate),
        Arc::new(lambda::LambdaCandidate),
    ]
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

/// What else they want to be told. Nobody is called.
const ADDRESSES: [(&str, &str); 1] = [("CODE_FORGE_URL", "http://127.0.0.1:1")];

struct Nobody;

impl Runs for Nobody {
    fn has_ended<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

#[test]
fn every_registered_provider_of_external_work_is_in_the_suite() {
    let mut settings = MapSource::from(SWITCHES.map(|name| (name, "true")));
    ADDRESSES.iter().for_each(|(name, address)| settings.set(name, *address, Origin::Environment));
    let config = Config::read(&settings).expect("settings");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let runs: Arc<dyn Runs> = Arc::new(Nobody);
    let none = ExecutorRegistry::new();
    let (registry, _) = ExternalRuntimes::add_to(none, &config, &metrics, &Spans::default(), &runs).expect("runtimes");
    let registered: BTreeSet<_> =
        registry.external().map(|(task_type, name)| (task_type.as_str(), name.to_owned())).collect();
    let known: BTreeSet<_> = candidates()
        .iter()
        .map(|candidate| (candidate.task_type().as_str(), candidate.provider().to_owned()))
        .collect();
    assert_eq!(registered, known, "a provider joins the suite in candidates()");

    let named: BTreeSet<_> = registered.iter().map(|(_, provider)| provider.as_str()).collect();
    let switched_on: BTreeSet<_> = config.external_providers().into_iter().collect();
    assert_eq!(switched_on, named, "`doctor` tells of the endpoints of external_providers()");
    let families = metrics.gather();
    let circuits = families.iter().find(|family| family.name() == CIRCUIT_STATE).expect("circuits");
    let of = |metric: &prometheus::proto::Metric| metric.get_label()[0].value().to_owned();
    let circuits: BTreeSet<_> = circuits.get_metric().iter().map(of).collect();
    assert_eq!(
        circuits,
        named.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
        "a provider is called at the endpoint that ExternalRuntimes::endpoint makes"
    );
}
