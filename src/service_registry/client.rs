//! The registry's client: a deadline for every call, one connection, and what its answers mean.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use platform_proto::service_registry::service_registry_client::ServiceRegistryClient as Grpc;
use platform_proto::service_registry::{
    AgentChangeEvent, AgentInfo, AgentStatus, AgentTelemetry, DeregisterRequest, DiscoverRequest, HeartbeatRequest,
    ListAgentsRequest, RegisterRequest, WatchAgentsRequest,
};
use ticket_activities::border;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Response, Status, Streaming};

use crate::config::{MtlsFiles, ServiceRegistryConfig};
use crate::dead_letters::shown;
use crate::metrics::Metrics;
use crate::net;

/// How often a connection that carries a stream only shows that it lives; it is closed when that is not answered in time.
/// A server made of gRPC's C core, as Python's are, puts out who does so within 300 s and gets no data (`too_many_pings`).
const KEEP_ALIVE: Duration = Duration::from_secs(330);
/// Longest text of the registry's that is shown, in characters.
const SAID_CHARS: usize = 300;

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
}

/// The client. Calls may be made at once; they share a connection, which is made anew after a call that got no answer and
/// when the files of certificates have changed.
#[derive(Debug)]
pub struct ServiceRegistryClient {
    address: String,
    timeout: Duration,
    mtls: Option<MtlsFiles>,
    metrics: Arc<Metrics>,
    connection: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: Grpc<Channel>,
    /// When the files that it was made of were last written.
    written: Vec<Option<SystemTime>>,
}

impl ServiceRegistryClient {
    /// The client that the settings ask for; `None` when they name no registry.
    #[must_use]
    pub fn of(config: &ServiceRegistryConfig, metrics: Arc<Metrics>) -> Option<Self> {
        Some(Self {
            address: config.address.clone()?,
            timeout: config.timeout,
            mtls: config.mtls.clone(),
            metrics,
            connection: Mutex::default(),
        })
    }

    /// host:port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Registers an agent; the id that it is given. Each call makes another one.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`]. Without an answer the agent may be registered all the same, until it is forgotten.
    pub async fn register(&self, introduction: RegisterRequest) -> Result<String, ServiceRegistryError> {
        let mut grpc = self.connection()?;
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
        let mut grpc = self.connection()?;
        let heartbeat = HeartbeatRequest { agent_id: agent_id.to_owned(), telemetry: Some(telemetry) };
        Ok(self.answer(border("service_registry.heartbeat", grpc.heartbeat(heartbeat))).await?.status())
    }

    /// Removes an agent; whether the registry knew it.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn deregister(&self, agent_id: &str) -> Result<bool, ServiceRegistryError> {
        let mut grpc = self.connection()?;
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
        let mut grpc = self.connection()?;
        Ok(self.answer(border("service_registry.discover", grpc.discover_agents(question))).await?.agents)
    }

    /// Agents of a type that pass the filters.
    ///
    /// # Errors
    /// See [`ServiceRegistryError`].
    pub async fn list(&self, question: ListAgentsRequest) -> Result<Vec<AgentInfo>, ServiceRegistryError> {
        let mut grpc = self.connection()?;
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
        let mut grpc = self.connection()?;
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
            Err(status) => self.meaning(&status),
        };
        if matches!(error, ServiceRegistryError::Unavailable { .. }) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Err(error)
    }

    fn meaning(&self, status: &Status) -> ServiceRegistryError {
        let cause = std::error::Error::source(status).map(|cause| format!(" ({})", net::describe(cause)));
        let said = format!("{:?}: {}{}", status.code(), status.message(), cause.unwrap_or_default());
        let said = shown(&said, SAID_CHARS);
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

    /// The connection, which the first call opens.
    fn connection(&self) -> Result<Grpc<Channel>, ServiceRegistryError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what is written meanwhile is news to the next call.
        let written: Vec<_> = self.mtls.iter().flat_map(MtlsFiles::paths).map(written).collect();
        if let Some(connection) = &*connection
            && connection.written == written
        {
            return Ok(connection.client.clone());
        }
        let client = Grpc::new(self.endpoint().map_err(ServiceRegistryError::Files)?.connect_lazy());
        *connection = Some(Connection { client: client.clone(), written });
        Ok(client)
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let scheme = if self.mtls.is_some() { "https" } else { "http" };
        let broken = |error: tonic::transport::Error| net::describe(&error);
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(broken)?
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(self.timeout)
            .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))
            .map_err(broken)?;
        let Some(files) = &self.mtls else { return Ok(endpoint) };
        net::install_crypto();
        let identity = Identity::from_pem(read(&files.certificate)?, read(&files.key)?);
        let tls = match &files.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint.tls_config(tls.identity(identity)).map_err(broken)
    }
}

/// `None` where that cannot be told: reading says why.
fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
