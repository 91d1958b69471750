//! The registry's client: a deadline for every call, one connection, and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use platform_proto::service_registry::service_registry_client::ServiceRegistryClient as Grpc;
use platform_proto::service_registry::{
    AgentChangeEvent, AgentInfo, AgentStatus, AgentTelemetry, DeregisterRequest, DiscoverRequest, HeartbeatRequest,
    ListAgentsRequest, RegisterRequest, WatchAgentsRequest,
};
use ticket_activities::border;
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use super::bearer::Bearer;
use super::channel::Channels;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::net;
use crate::spiffe::{IdentityError, WorkloadIdentity};

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceRegistryError {
    /// The registry does not know the agent. The code says so; the text may be in any language.
    #[error("the Service Registry does not know the agent: {0}")]
    UnknownAgent(String),
    /// It does not want the call; the same one will not be wanted later either.
    #[error(
        "the Service Registry refuses the call: {0}; check CAPABILITIES, and what it demands of callers (ENABLE_MTLS)"
    )]
    Refused(String),
    /// It gave no usable answer.
    #[error("no answer from the Service Registry at {address}: {reason}; check SERVICE_REGISTRY_HOST and the network")]
    Unavailable {
        /// host:port.
        address: String,
        /// What was said, or what became of the connection.
        reason: String,
    },
    /// The files of the connection cannot be used.
    #[error("the Service Registry cannot be called: {0}; check MTLS_CERT_PATH, MTLS_KEY_PATH and MTLS_CA_PATH")]
    Files(String),
    /// This worker cannot prove who it is.
    #[error("the Service Registry cannot be called: {0}")]
    Identity(#[from] IdentityError),
}

type Connection = Grpc<InterceptedService<Channel, Bearer>>;

/// The client. Calls may be made at once; they share a connection, which is made anew after a call that got no answer and
/// when what it is authenticated by has changed.
#[derive(Debug)]
pub struct ServiceRegistryClient {
    address: String,
    timeout: Duration,
    identity: Option<Arc<WorkloadIdentity>>,
    metrics: Arc<Metrics>,
    channels: Channels,
}

impl ServiceRegistryClient {
    /// The client that the settings ask for; `None` when they name no registry. `identity`: the one of the same settings.
    #[must_use]
    pub fn of(config: &Config, identity: Option<Arc<WorkloadIdentity>>, metrics: Arc<Metrics>) -> Option<Self> {
        let registry = &config.service_registry;
        let address = registry.address.clone()?;
        let channels = Channels::new(&address, registry, identity.as_ref());
        Some(Self { address, timeout: registry.timeout, identity, metrics, channels })
    }

    /// host:port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who this worker is, when SPIFFE says it.
    pub(super) fn identity(&self) -> Option<&WorkloadIdentity> {
        self.identity.as_deref()
    }

    /// Registers an agent; the id that it is given. Each call makes another one.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`]. Without an answer the agent may be registered all the same, until it is forgotten.
    pub async fn register(&self, introduction: RegisterRequest) -> Result<String, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        let answer = self.answer(border("service_registry.register", grpc.register(introduction))).await?;
        if answer.agent_id.is_empty() {
            return Err(self.unavailable("it registered an agent without an id".to_owned()));
        }
        Ok(answer.agent_id)
    }

    /// Tells that an agent lives and what it has done; how the registry judges it.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn heartbeat(
        &self,
        agent_id: &str,
        telemetry: AgentTelemetry,
    ) -> Result<AgentStatus, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        let heartbeat = HeartbeatRequest { agent_id: agent_id.to_owned(), telemetry: Some(telemetry) };
        Ok(self.answer(border("service_registry.heartbeat", grpc.heartbeat(heartbeat))).await?.status())
    }

    /// Removes an agent; whether the registry knew it.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn deregister(&self, agent_id: &str) -> Result<bool, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        let farewell = DeregisterRequest { agent_id: agent_id.to_owned() };
        Ok(self.answer(border("service_registry.deregister", grpc.deregister(farewell))).await?.success)
    }

    /// Agents that have all the capabilities and pass the filters, the best first; unhealthy ones are left out.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn discover(&self, question: DiscoverRequest) -> Result<Vec<AgentInfo>, ServiceRegistryError> {
        let began = Instant::now();
        let answer = self.ask_for_agents(question).await;
        self.metrics.discovery_duration.observe(began.elapsed().as_secs_f64());
        let status = if answer.is_ok() { "success" } else { "error" };
        self.metrics.discovery_requests.with_label_values(&[status]).inc();
        if let Ok(agents) = &answer {
            self.metrics.discovery_agents_found.observe(agents.len() as f64);
        }
        answer
    }

    async fn ask_for_agents(&self, question: DiscoverRequest) -> Result<Vec<AgentInfo>, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        Ok(self.answer(border("service_registry.discover", grpc.discover_agents(question))).await?.agents)
    }

    /// Agents of a type that pass the filters.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn list(&self, question: ListAgentsRequest) -> Result<Vec<AgentInfo>, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        Ok(self.answer(border("service_registry.list", grpc.list_agents(question))).await?.agents)
    }

    /// What happens to agents of a type from now on. No deadline but that of connecting: a server in Python begins its answer
    /// with the first event, whenever that is.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn watch(
        &self,
        question: WatchAgentsRequest,
    ) -> Result<Streaming<AgentChangeEvent>, ServiceRegistryError> {
        let mut grpc = self.connection().await?;
        self.usable(border("service_registry.watch", grpc.watch_agents(question)).await)
    }

    /// The next event of a stream; `None` at its end.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn next(
        &self,
        events: &mut Streaming<AgentChangeEvent>,
    ) -> Result<Option<AgentChangeEvent>, ServiceRegistryError> {
        events.message().await.map_err(|status| self.meaning(&status))
    }

    /// Waits for an answer no longer than the deadline, connecting included. A call that is given up is cancelled at the server.
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ServiceRegistryError> {
        let answer = tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("nothing came within {} ms", self.timeout.as_millis())))
        });
        self.usable(answer)
    }

    fn usable<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, ServiceRegistryError> {
        let error = match answer {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => {
                if let Some(identity) = self.identity.as_ref().filter(|_| status.code() == Code::Unauthenticated) {
                    identity.forget_token(&identity.settings().registry_audience);
                }
                self.meaning(&status)
            }
        };
        if matches!(error, ServiceRegistryError::Unavailable { .. }) {
            self.channels.forget();
        }
        Err(error)
    }

    fn meaning(&self, status: &Status) -> ServiceRegistryError {
        let said = net::said(status);
        match status.code() {
            Code::NotFound => ServiceRegistryError::UnknownAgent(said),
            Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::OutOfRange => ServiceRegistryError::Refused(said),
            _ => self.unavailable(said),
        }
    }

    fn unavailable(&self, reason: String) -> ServiceRegistryError {
        ServiceRegistryError::Unavailable { address: self.address.clone(), reason }
    }

    /// The connection, which the first call opens, with what authenticates this call.
    async fn connection(&self) -> Result<Connection, ServiceRegistryError> {
        let channel = self.channels.current()?;
        let bearer = match &self.identity {
            Some(identity) => {
                let audience = &identity.settings().registry_audience;
                Bearer::of(identity.token(audience, self.timeout).await?.token())
            }
            None => Bearer::default(),
        };
        Ok(Grpc::with_interceptor(channel, bearer))
    }
}
