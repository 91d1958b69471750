//! Keeps this worker's agents registered from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use platform_proto::service_registry::AgentStatus;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, agents};
use super::client::{ServiceRegistryClient, ServiceRegistryError};
use super::known::KnownAs;
use super::registration::{Heard, Registration};
use crate::config::Config;
use crate::events::{
    AgentDeregistered, AgentForgotten, AgentJudged, AgentNotDeregistered, AgentNotRegistered, AgentRegistered,
    HeartbeatFailed, HeartbeatTaken,
};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::spiffe::SETTLING;

/// The liveness entry of the registrations.
const REGISTRY_LOOP: &str = "service_registry";
/// Between two tries to deregister.
const FAREWELL_PAUSE: Duration = Duration::from_secs(1);

/// The registrations of this worker.
#[derive(Debug)]
pub struct Registrar {
    client: Arc<ServiceRegistryClient>,
    agents: Vec<Agent>,
    known_as: KnownAs,
    interval: Duration,
    /// How long the registry gets to take a deregistration.
    grace: Duration,
    metrics: Arc<Metrics>,
    health: Health,
}

impl Registrar {
    /// The registrations that the settings ask for; `None` when they name no registry. `http`: where the HTTP API listens.
    #[must_use]
    pub fn of(
        config: &Config,
        client: Option<Arc<ServiceRegistryClient>>,
        http: SocketAddr,
        metrics: &Arc<Metrics>,
        health: &Health,
    ) -> Option<Self> {
        let Some(client) = client else {
            tracing::info!(
                "no Service Registry is configured: the orchestrator does not find this worker; SERVICE_REGISTRY_HOST names one"
            );
            return None;
        };
        tracing::info!(
            address = client.address(),
            connection = config.registry_connection(),
            "service_registry_configured"
        );
        let agents = agents(config, http);
        Some(Self {
            client,
            known_as: KnownAs::of(agents.len()),
            agents,
            interval: config.service_registry.heartbeat_interval,
            grace: config.http.shutdown_grace,
            metrics: Arc::clone(metrics),
            health: health.clone(),
        })
    }

    /// The ids that the registry gives.
    #[must_use]
    pub fn known_as(&self) -> KnownAs {
        self.known_as.clone()
    }

    /// Keeps every agent registered until stopped, then deregisters them within the grace. Never fails: a registry that is
    /// away is tried again.
    pub async fn run(self, stop: CancellationToken) {
        self.health.alive(REGISTRY_LOOP);
        let grace = self.grace;
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = self.keep_all(stop.clone()) => {}
            () = over => tracing::warn!("the Service Registry was not told in time that this worker ends; it forgets it after 300 s"),
        }
    }

    async fn keep_all(self, stop: CancellationToken) {
        if let Some(identity) = self.client.identity() {
            // The first tries would fail while it is on its way.
            stop.run_until_cancelled(identity.settled(SETTLING)).await;
        }
        let this = Arc::new(self);
        // Tasks of their own, so that a defect in one ends nothing else.
        let mut kept = JoinSet::new();
        for agent in &this.agents {
            kept.spawn(Arc::clone(&this).keep(agent.clone(), stop.clone()));
        }
        while let Some(ended) = kept.join_next().await {
            if let Err(broken) = ended {
                tracing::error!(error = %broken, "a registration broke");
                this.health.dead(REGISTRY_LOOP, format!("a registration broke: {broken}"));
            }
        }
    }

    async fn keep(self: Arc<Self>, agent: Agent, stop: CancellationToken) {
        let mut registration = Registration::default();
        let mut judged = AgentStatus::Healthy;
        let mut pause = Duration::ZERO;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            // Not given up when told to stop: an answer that nobody hears leaves an agent behind.
            let heard = match registration.agent_id() {
                None => self.register(&agent).await,
                Some(agent_id) => self.beat(agent_id, &agent, &mut judged).await,
            };
            pause = registration.hear(heard, self.interval, fastrand::f64());
            self.known_as.set(agent.level, registration.agent_id());
        }
        if let Some(agent_id) = registration.agent_id() {
            self.deregister(agent_id).await;
        }
    }

    async fn register(&self, agent: &Agent) -> Heard {
        let level = agent.level.as_str();
        let mut introduction = agent.introduction.clone();
        if let Some(id) = self.client.identity().and_then(|identity| identity.standing().spiffe_id) {
            introduction.metadata.insert("spiffe_id".to_owned(), id.to_string());
        }
        match self.client.register(introduction).await {
            Ok(agent_id) => {
                let namespace = &agent.introduction.namespace;
                self.metrics.emit(AgentRegistered { agent_id: &agent_id, level, namespace });
                Heard::Registered(agent_id)
            }
            Err(error) => {
                self.metrics.emit(AgentNotRegistered { level, error: &error.to_string() });
                Heard::NotRegistered
            }
        }
    }

    async fn beat(&self, agent_id: &str, agent: &Agent, judged: &mut AgentStatus) -> Heard {
        match self.client.heartbeat(agent_id, self.metrics.executions.telemetry()).await {
            Ok(status) => {
                self.metrics.emit(HeartbeatTaken { agent_id });
                if std::mem::replace(judged, status) != status {
                    self.metrics.emit(AgentJudged { agent_id, status: status.as_str_name() });
                }
                Heard::Beat
            }
            Err(ServiceRegistryError::UnknownAgent(said)) => {
                self.metrics.emit(AgentForgotten { agent_id, level: agent.level.as_str(), said: &said });
                Heard::Forgotten
            }
            Err(error) => {
                self.metrics.emit(HeartbeatFailed { agent_id, error: &error.to_string() });
                Heard::Silent
            }
        }
    }

    /// Tries for as long as the registry, or whoever proves to it who this is, gives no answer; the grace ends it.
    async fn deregister(&self, agent_id: &str) {
        loop {
            let error = match self.client.deregister(agent_id).await {
                Ok(known) => return self.metrics.emit(AgentDeregistered { agent_id, known }),
                Err(error) => error,
            };
            self.metrics.emit(AgentNotDeregistered { agent_id, error: &error.to_string() });
            if !matches!(error, ServiceRegistryError::Unavailable { .. } | ServiceRegistryError::Identity(_)) {
                return;
            }
            tokio::time::sleep(FAREWELL_PAUSE).await;
        }
    }
}
