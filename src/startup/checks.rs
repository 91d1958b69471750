//! All checks together.

use std::sync::Arc;

use temporalio_client::Client;

use super::clock::Sight;
use super::cluster::{self, Role};
use super::engine::{self, Engine};
use super::finding::{Check, Finding, demand};
use super::topics::ConsumerTimes;
use super::{clock, code_forge, identity, local, logs, retention, schemas, service_registry, topics};
use crate::bridge::HAND_OVER_PATIENCE;
use crate::config::{Config, VaultConfig};
#[cfg(any(feature = "docker", feature = "kubernetes", feature = "lambda"))]
use crate::external;
use crate::kafka::Clients;
use crate::logs::Sink;
use crate::registry::RegistryClient;
use crate::service_registry::ServiceRegistryClient;
use crate::spiffe::WorkloadIdentity;
use crate::temporal;
use crate::vault::Standing;

/// Everything that is checked, and how to ask for it.
#[derive(Clone)]
pub struct Checks {
    config: Config,
    /// `None`: each round connects anew.
    client: Option<Client>,
    registry: Option<Arc<RegistryClient>>,
    agents: Option<Arc<ServiceRegistryClient>>,
    identity: Option<Arc<WorkloadIdentity>>,
    logs: Option<Arc<Sink>>,
}

impl Checks {
    /// Checks of a worker with these settings. `registry` is that of schemas, `agents` that of services, `identity` the one
    /// that SPIFFE gives, `logs` where logs of attempts go.
    #[must_use]
    pub fn new(
        config: Config,
        client: Option<Client>,
        registry: Option<Arc<RegistryClient>>,
        agents: Option<Arc<ServiceRegistryClient>>,
        identity: Option<Arc<WorkloadIdentity>>,
        logs: Option<Arc<Sink>>,
    ) -> Self {
        Self { config, client, registry, agents, identity, logs }
    }

    /// What nothing works without, in Kafka.
    ///
    /// # Errors
    /// One sentence that says what is missing and what to do.
    pub async fn demand_topics(config: &Config) -> anyhow::Result<()> {
        let topics = cluster::topics(&config.kafka).await?;
        demand(&topics.iter().map(topics::existence).collect::<Vec<_>>())
    }

    /// What nothing works without, in Temporal.
    ///
    /// # Errors
    /// As [`Checks::demand_topics`].
    pub async fn demand_namespace(config: &Config, client: &Client) -> anyhow::Result<()> {
        demand(&engine::look(client, &config.temporal, false).await.findings)
    }

    /// Makes every check once. With `fix`, what can be created is created.
    pub async fn make(&self, fix: bool) -> Vec<Finding> {
        let kafka = &self.config.kafka;
        let letters = &self.config.dead_letters;
        let alerts = (letters.consumer_enabled && letters.alerts_enabled).then_some(letters.alert_topic.as_str());
        let (cluster, engine, (schemas, registry_clock), agents, logs, docker, kubernetes, code_forge, lambda) = tokio::join!(
            cluster::look(kafka, alerts),
            self.engine(fix),
            schemas::look(kafka, self.registry.as_deref()),
            service_registry::look(&self.config.service_registry, self.agents.as_deref()),
            logs::look(self.logs.as_deref()),
            docker(&self.config),
            kubernetes(&self.config),
            code_forge::look(self.config.code_forge.as_ref()),
            lambda(&self.config)
        );
        let mut findings = Vec::new();
        let mut sights = engine.sights;
        let unasked = Err("Kafka did not answer".to_owned());
        let (tickets, broker) = match &cluster {
            Ok(cluster) => {
                findings.extend(topics::judge(kafka, cluster));
                if let Ok(ahead) = cluster.record_ahead {
                    sights.push(Sight::Ahead { who: "whoever wrote the newest tickets", ahead });
                }
                (cluster.topics.iter().find(|topic| topic.role == Role::Tickets), &cluster.broker)
            }
            Err(error) => {
                let said = format!("{error:#}");
                let (what, fix) = said.split_once("; ").unwrap_or((&said, "check KAFKA_BOOTSTRAP_SERVERS"));
                findings.push(Finding::fatal(Check::KafkaTopics, what, fix));
                (None, &unasked)
            }
        };
        findings.push(match self.consumer_times() {
            Ok(times) => topics::timeouts(times, broker),
            Err(error) => Finding::unknown(
                Check::KafkaTimeouts,
                format!("librdkafka refuses the consumer's settings: {error:#}"),
                "correct the KAFKA_* settings",
            ),
        });
        findings.extend(engine.findings);
        findings.push(retention::judge(tickets, broker, &engine.namespace, engine.retention));
        findings.extend(schemas);
        findings.push(agents);
        findings.push(vault(self.config.vault.as_ref()));
        findings.push(identity::judge(self.config.registry_connection(), self.identity.as_deref()));
        sights.extend(registry_clock);
        findings.push(clock::judge(&sights));
        findings.push(local::judge(&self.config.local));
        findings.push(logs);
        findings.push(docker);
        findings.push(kubernetes);
        findings.push(code_forge);
        findings.push(lambda);
        findings
    }

    async fn engine(&self, fix: bool) -> Engine {
        let settings = &self.config.temporal;
        match &self.client {
            Some(client) => engine::look(client, settings, fix).await,
            None => match temporal::connect(&self.config).await {
                Ok(client) => engine::look(&client, settings, fix).await,
                Err(error) => Engine::away(&format!("{error:#}")),
            },
        }
    }

    fn consumer_times(&self) -> anyhow::Result<ConsumerTimes> {
        let effective = Clients::new(&self.config.kafka)?.tickets_config().create_native_config()?;
        Ok(ConsumerTimes {
            session: self.config.kafka.session_timeout_ms,
            max_poll_interval: effective.get("max.poll.interval.ms")?.parse()?,
            hand_over: HAND_OVER_PATIENCE,
        })
    }
}

/// What the client of Vault last came to; it is not asked again here.
fn vault(config: Option<&VaultConfig>) -> Finding {
    let Some(config) = config else { return Finding::ok(Check::Vault, "no secret comes from Vault") };
    let (address, paths) = (&config.address, config.held.paths().len());
    match config.held.standing() {
        Standing::Good => {
            Finding::ok(Check::Vault, format!("Vault at {address} gives the {paths} secrets that settings name"))
        }
        Standing::Unasked if paths == 0 => {
            Finding::ok(Check::Vault, "Vault is on, and no setting names a secret in it")
        }
        Standing::Unasked => Finding::unknown(Check::Vault, "Vault has not been asked yet", "ask again"),
        Standing::Failing(error) => {
            Finding::failed(Check::Vault, format!("Vault at {address}: {error}"), "look at Vault and at VAULT_*")
        }
    }
}

#[cfg(feature = "docker")]
async fn docker(config: &Config) -> Finding {
    external::docker::look(config.docker.as_ref()).await
}

#[cfg(not(feature = "docker"))]
async fn docker(config: &Config) -> Finding {
    not_built(Check::Docker, config.docker.is_some(), "DOCKER_ENABLED", "Docker", "docker")
}

#[cfg(feature = "kubernetes")]
async fn kubernetes(config: &Config) -> Finding {
    external::kubernetes::look(config.kubernetes.as_ref()).await
}

#[cfg(not(feature = "kubernetes"))]
async fn kubernetes(config: &Config) -> Finding {
    not_built(Check::Kubernetes, config.kubernetes.is_some(), "K8S_JOBS_ENABLED", "Kubernetes", "kubernetes")
}

#[cfg(feature = "lambda")]
async fn lambda(config: &Config) -> Finding {
    external::lambda::look(config.lambda.as_ref()).await
}

#[cfg(not(feature = "lambda"))]
async fn lambda(config: &Config) -> Finding {
    not_built(Check::Lambda, config.lambda.is_some(), "LAMBDA_ENABLED", "Lambda", "lambda")
}

#[cfg(not(all(feature = "docker", feature = "kubernetes", feature = "lambda")))]
fn not_built(check: Check, is_on: bool, setting: &str, runtime: &str, feature: &str) -> Finding {
    if !is_on {
        return Finding::ok(check, format!("the {runtime} runtime is off"));
    }
    Finding::failed(
        check,
        format!("{setting} is true, and this build has no {runtime} runtime"),
        format!("use a build with the feature `{feature}`"),
    )
}
