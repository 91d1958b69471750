//! The service's gRPC API (`contracts/execution-ticket-service.md §5`), of the same tickets and with the same faults.

use std::io;
use std::sync::atomic::Ordering;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use platform_proto::ticket_service::ticket_service_server::{TicketService, TicketServiceServer};
use platform_proto::ticket_service::{
    ExecutionTicketProto, GenerateTokenRequest, GenerateTokenResponse, GetTicketRequest, GetTicketResponse,
    ListTicketsRequest, ListTicketsResponse, UpdateTicketStatusRequest, UpdateTicketStatusResponse,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{NotUpdated, TicketStandIn, lock};
use crate::dev::accept;

/// Most tickets of one list, and those of a list that names no number.
const MOST_LISTED: usize = 1_000;
const LISTED: usize = 100;

impl TicketStandIn {
    /// Serves the gRPC API until `stop`, which cuts every connection.
    ///
    /// # Errors
    /// When the listener breaks.
    pub fn serve_grpc(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let this = self.clone();
        async move {
            accept::each(listener, stop, |connection| {
                let service = TowerToHyperService::new(TicketServiceServer::new(this.clone()));
                async move {
                    let builder = Builder::new(TokioExecutor::new()).http2_only();
                    // A client may break its connection at any time.
                    let _ = builder.serve_connection(TokioIo::new(connection), service).await;
                }
            })
            .await
        }
    }

    /// Notes the trace of a call; what it comes to before anybody looks at it.
    fn called<T>(&self, request: &Request<T>, ticket_id: &str) -> Result<(), Status> {
        if let Some(Ok(trace)) = request.metadata().get("traceparent").map(|trace| trace.to_str()) {
            self.note_trace(ticket_id.to_owned(), trace);
        }
        if self.unavailable.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the service was made unavailable"));
        }
        Ok(())
    }
}

fn told(ticket: &Value) -> ExecutionTicketProto {
    let text = |name: &str| ticket[name].as_str().unwrap_or_default().to_owned();
    ExecutionTicketProto {
        ticket_id: text("ticket_id"),
        plan_id: text("plan_id"),
        intent_id: text("intent_id"),
        task_id: text("task_id"),
        task_type: text("task_type"),
        description: text("description"),
        status: text("status"),
        priority: text("priority"),
        created_at: ticket["created_at"].as_i64().unwrap_or_default(),
    }
}

fn not_found() -> Status {
    Status::not_found("Ticket not found")
}

#[tonic::async_trait]
impl TicketService for TicketStandIn {
    async fn get_ticket(&self, request: Request<GetTicketRequest>) -> Result<Response<GetTicketResponse>, Status> {
        self.called(&request, &request.get_ref().ticket_id)?;
        let ticket = self.ticket(&request.get_ref().ticket_id).ok_or_else(not_found)?;
        Ok(Response::new(GetTicketResponse { ticket: Some(told(&ticket)) }))
    }

    async fn list_tickets(
        &self,
        request: Request<ListTicketsRequest>,
    ) -> Result<Response<ListTicketsResponse>, Status> {
        self.called(&request, "")?;
        let ListTicketsRequest { plan_id, status, offset, limit } = request.into_inner();
        let wanted = |ticket: &&Value| {
            [("plan_id", &plan_id), ("status", &status)]
                .into_iter()
                .all(|(name, wanted)| wanted.is_empty() || ticket[name] == **wanted)
        };
        let mut tickets: Vec<_> = lock(&self.tickets).values().filter(wanted).map(told).collect();
        tickets.sort_by_key(|ticket| std::cmp::Reverse(ticket.created_at));
        let total = i32::try_from(tickets.len()).unwrap_or(i32::MAX);
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(LISTED).min(MOST_LISTED);
        let tickets = tickets.into_iter().skip(usize::try_from(offset).unwrap_or(0)).take(limit).collect();
        Ok(Response::new(ListTicketsResponse { tickets, total }))
    }

    async fn update_ticket_status(
        &self,
        request: Request<UpdateTicketStatusRequest>,
    ) -> Result<Response<UpdateTicketStatusResponse>, Status> {
        self.called(&request, &request.get_ref().ticket_id)?;
        let UpdateTicketStatusRequest { ticket_id, status, error_message } = request.into_inner();
        let error_message = if error_message.is_empty() { Value::Null } else { json!(error_message) };
        let body = json!({ "status": status, "error_message": error_message });
        match self.update(ticket_id, body) {
            Ok(ticket) => Ok(Response::new(UpdateTicketStatusResponse { ticket: Some(told(&ticket)) })),
            Err(NotUpdated::Unknown) => Err(not_found()),
            Err(NotUpdated::NoStatus) => Err(Status::unknown(format!("'{status}' is not a valid TicketStatus"))),
        }
    }

    async fn generate_token(
        &self,
        request: Request<GenerateTokenRequest>,
    ) -> Result<Response<GenerateTokenResponse>, Status> {
        self.called(&request, &request.get_ref().ticket_id)?;
        Err(Status::unimplemented("this stand-in gives out no tokens: nothing verifies them"))
    }
}
