//! The Docker runtime, made of settings, and the check of its engine.

use std::sync::Arc;
use std::time::Duration;

use ticket_activities::ExecutorRegistry;
use ticket_activities::execute::docker::{DockerConfig, DockerRuntime, Engine, EngineFacts, RegistryLogin};
use ticket_activities::external::{External, OnCall, Provider as _, Runs};
use ticket_schemas::TaskType;

use super::ExternalRuntimes;
use crate::config::{DockerRuntimeConfig, RegistryAccount};
use crate::metrics::Metrics;
use crate::startup::{Check, Finding};
use crate::worker::OUTPUT_LIMIT;

/// How long a check waits for the engine.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn add_to(
    registry: ExecutorRegistry,
    runtimes: &mut ExternalRuntimes,
    settings: &DockerRuntimeConfig,
    metrics: &Arc<Metrics>,
    runs: &Arc<dyn Runs>,
) -> ExecutorRegistry {
    let metrics = Arc::clone(metrics);
    let on_call: OnCall = Arc::new(move |method, answered| metrics.execute.docker_called(method, answered));
    let engine = Engine::new(settings.address.clone(), on_call);
    let external = External::new(Arc::new(DockerRuntime::new(engine, runtime_config(settings))))
        .at(runtimes.endpoint(DockerRuntime::NAME));
    let janitor = external.janitor(Arc::clone(runs), settings.sweep_interval);
    runtimes.sweeps.push(Box::new(move |stop| Box::pin(janitor.run(stop))));
    registry.register(TaskType::Execute, "docker", external)
}

fn runtime_config(settings: &DockerRuntimeConfig) -> DockerConfig {
    DockerConfig {
        default_timeout: settings.timeout,
        cpu_limit: settings.cpu_limit,
        memory_limit: settings.memory_limit,
        network_mode: settings.network_mode.clone(),
        allowed_networks: settings.allowed_networks.clone(),
        user: settings.user.clone(),
        pids_limit: i64::try_from(settings.pids_limit).unwrap_or(i64::MAX),
        scratch_bytes: settings.scratch_bytes,
        pull: settings.pull,
        login: settings.registry.as_ref().map(login),
        grace: settings.grace,
        clean_up: settings.clean_up,
        output_limit: OUTPUT_LIMIT,
    }
}

fn login(account: &RegistryAccount) -> RegistryLogin {
    let (username, password) = (account.username.clone(), account.password.clone());
    RegistryLogin {
        server: account.server.clone(),
        credentials: Arc::new(move || Ok((username.clone(), password.read()?.expose().to_owned()))),
    }
}

/// Asks the engine what it is. `None`: there is no Docker runtime.
pub(crate) async fn look(settings: Option<&DockerRuntimeConfig>) -> Finding {
    let Some(settings) = settings else { return Finding::ok(Check::Docker, "the Docker runtime is off") };
    let engine = Engine::new(settings.address.clone(), Arc::new(|_, _| ()));
    let answer = tokio::time::timeout(CHECK_TIMEOUT, engine.facts()).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", CHECK_TIMEOUT.as_secs()));
    judge(&settings.address, answer.and_then(|facts| facts.map_err(|fault| fault.to_string())))
}

fn judge(address: &str, answer: Result<EngineFacts, String>) -> Finding {
    let facts = match answer {
        Ok(facts) => facts,
        Err(error) => {
            return Finding::failed(
                Check::Docker,
                format!("the Docker engine at {address} cannot be used: {error}"),
                "check DOCKER_BASE_URL, and that this worker may open it",
            );
        }
    };
    let lacks = facts.lacks();
    if lacks.is_empty() {
        let security = facts.security.join(", ");
        let EngineFacts { version, api, .. } = facts;
        return Finding::ok(Check::Docker, format!("Docker {version} at {address}, API {api}; {security}"));
    }
    Finding::failed(
        Check::Docker,
        format!("Docker {} at {address} does not keep containers to: {}", facts.version, lacks.join(", ")),
        "switch these on in the engine and its kernel",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::State;

    fn facts(security: &[&str]) -> EngineFacts {
        EngineFacts {
            version: "20.10.24".to_owned(),
            api: "1.41".to_owned(),
            security: security.iter().map(|name| (*name).to_owned()).collect(),
            limits_memory: true,
            limits_processes: true,
        }
    }

    #[test]
    fn the_engine_is_named_with_its_api_and_what_it_lacks_is_a_failure() {
        let good = judge("unix:///d.sock", Ok(facts(&["apparmor", "seccomp"])));
        assert_eq!(good.state, State::Ok);
        assert_eq!(good.what, "Docker 20.10.24 at unix:///d.sock, API 1.41; apparmor, seccomp");
        let bare = judge("unix:///d.sock", Ok(facts(&[])));
        assert_eq!(bare.state, State::Failed);
        assert!(bare.what.contains("seccomp"), "{bare:?}");
        let away = judge("tcp://d:1", Err("refused".to_owned()));
        assert!(away.state == State::Failed && away.fix.contains("DOCKER_BASE_URL"), "{away:?}");
    }
}
