//! The calls: faults first, then the store, in the codes of the contract.

use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use futures::stream::{BoxStream, StreamExt as _, unfold};
use platform_proto::service_registry::agent_change_event::EventType;
use platform_proto::service_registry::service_registry_server::ServiceRegistry;
use platform_proto::service_registry::{
    AgentChangeEvent, AgentType, DeregisterRequest, DeregisterResponse, DiscoverRequest, DiscoverResponse,
    GetAgentRequest, GetAgentResponse, HeartbeatRequest, HeartbeatResponse, ListAgentsRequest, ListAgentsResponse,
    NotifyAgentRequest, NotifyAgentResponse, RegisterRequest, RegisterResponse, WatchAgentsRequest,
};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::store::event;
use super::{ServiceRegistryStandIn, now};

type Answer<T> = Result<Response<T>, Status>;

impl ServiceRegistryStandIn {
    /// What a call comes to before anybody looks at it.
    async fn faults(&self) -> Result<(), Status> {
        if self.0.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match *self.0.refusal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(code) => Err(Status::new(code, "it has been told to answer so")),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl ServiceRegistry for ServiceRegistryStandIn {
    async fn register(&self, request: Request<RegisterRequest>) -> Answer<RegisterResponse> {
        self.faults().await?;
        let registered = self.store().register(request.into_inner(), now());
        let agent = registered.map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        self.0.registrations.fetch_add(1, Ordering::Relaxed);
        let answer = RegisterResponse {
            agent_id: agent.agent_id.clone(),
            registration_token: format!("token-{}", agent.agent_id),
            registered_at: agent.registered_at,
        };
        self.tell([event(EventType::Registered, agent, now())]);
        Ok(Response::new(answer))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        self.faults().await?;
        let HeartbeatRequest { agent_id, telemetry } = request.into_inner();
        let taken = self.store().heartbeat(&agent_id, telemetry, now());
        let (agent, changed) = taken.map_err(|refused| Status::not_found(refused.to_string()))?;
        let answer = HeartbeatResponse { status: agent.status, last_seen: agent.last_seen };
        let what = if changed { EventType::StatusChanged } else { EventType::Updated };
        self.tell([event(what, agent, now())]);
        Ok(Response::new(answer))
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Answer<DeregisterResponse> {
        self.faults().await?;
        let agent_id = request.into_inner().agent_id;
        let id = Uuid::parse_str(&agent_id).map_err(|error| Status::internal(error.to_string()))?;
        let removed = self.store().deregister(id);
        let answer = DeregisterResponse { success: removed.is_some() };
        self.tell(removed.map(|agent| event(EventType::Deregistered, agent, now())));
        Ok(Response::new(answer))
    }

    async fn discover_agents(&self, request: Request<DiscoverRequest>) -> Answer<DiscoverResponse> {
        self.faults().await?;
        let agents = self.store().discover(request.get_ref(), now());
        Ok(Response::new(DiscoverResponse { agents, ranked: true }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Answer<GetAgentResponse> {
        self.faults().await?;
        let agent_id = request.into_inner().agent_id;
        match self.store().get(&agent_id, now()) {
            Some(agent) => Ok(Response::new(GetAgentResponse { agent: Some(agent) })),
            None => Err(Status::not_found(format!("Agente {agent_id} não encontrado"))),
        }
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        self.faults().await?;
        let request = request.get_ref();
        let agents = self.store().list(request.agent_type(), &request.filters, now());
        Ok(Response::new(ListAgentsResponse { agents }))
    }

    type WatchAgentsStream = BoxStream<'static, Result<AgentChangeEvent, Status>>;

    async fn watch_agents(&self, request: Request<WatchAgentsRequest>) -> Answer<Self::WatchAgentsStream> {
        self.faults().await?;
        let of = request.get_ref().agent_type();
        let events = unfold(self.0.events.subscribe(), |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((Ok(event), events)),
                    // A watcher that cannot keep up misses some.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let wanted = move |event: &Result<AgentChangeEvent, Status>| {
            let kind = event.as_ref().ok().and_then(|event| event.agent.as_ref()).map(|agent| agent.agent_type());
            std::future::ready(of == AgentType::Unspecified || kind == Some(of))
        };
        let mut events = events.filter(wanted).boxed().peekable();
        // A server in Python sends the headers with the first message.
        Pin::new(&mut events).peek().await;
        Ok(Response::new(events.boxed()))
    }

    async fn notify_agent(&self, request: Request<NotifyAgentRequest>) -> Answer<NotifyAgentResponse> {
        self.faults().await?;
        let agent_id = request.into_inner().agent_id;
        let known = self.store().get(&agent_id, now()).is_some();
        // Nothing of an agent listens for it.
        let error = if known { String::new() } else { format!("Agente {agent_id} não encontrado") };
        Ok(Response::new(NotifyAgentResponse { success: known, error }))
    }
}
