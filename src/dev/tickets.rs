//! An Execution Ticket Service without one to install: its HTTP and gRPC APIs as `contracts/execution-ticket-service.md` says,
//! in this process, in memory. A development and test tool.
//!
//! It does not read tickets from Kafka: it knows those that were created or [`TicketStandIn::know`]n, and, when it is told
//! to, takes any ticket that somebody updates as one that it has read.

mod grpc;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

/// The statuses that its database takes.
const STATUSES: [&str; 6] = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "COMPENSATING", "COMPENSATED"];

/// Created tickets that wait to be published.
const MOST_UNPUBLISHED: usize = 1_000;

/// An in-process ticket service. Clones share one store and one set of faults.
#[derive(Debug, Clone, Default)]
pub struct TicketStandIn {
    tickets: Arc<Mutex<BTreeMap<String, Value>>>,
    updates: Arc<Mutex<Vec<(String, Value)>>>,
    traces: Arc<Mutex<Vec<(String, String)>>>,
    unavailable: Arc<AtomicBool>,
    knowing_all: Arc<AtomicBool>,
    publisher: Arc<Mutex<Option<Sender<Value>>>>,
}

/// Why a ticket was not updated.
enum NotUpdated {
    /// That is no status.
    NoStatus,
    /// Its ticket is not known.
    Unknown,
}

type Answer = (StatusCode, Json<Value>);

impl TicketStandIn {
    /// One that knows no ticket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It has read this ticket, which has the given status.
    pub fn know(&self, ticket_id: &str, status: &str) {
        let ticket = json!({ "ticket_id": ticket_id, "status": status, "error_message": null });
        lock(&self.tickets).insert(ticket_id.to_owned(), ticket);
    }

    /// Every ticket that is updated counts as read.
    pub fn know_all(&self) {
        self.knowing_all.store(true, Ordering::Relaxed);
    }

    /// The tickets that are created from now on, for whoever publishes them: the service does, sooner or later.
    #[must_use]
    pub fn created(&self) -> Receiver<Value> {
        let (sender, receiver) = channel(MOST_UNPUBLISHED);
        *lock(&self.publisher) = Some(sender);
        receiver
    }

    /// Fault: while set, every call answers 503.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// The bodies of a ticket's updates that were taken, oldest first.
    #[must_use]
    pub fn updates(&self, ticket_id: &str) -> Vec<Value> {
        lock(&self.updates).iter().filter(|(id, _)| id == ticket_id).map(|(_, body)| body.clone()).collect()
    }

    /// The `traceparent` of each call about a ticket that had one, oldest first.
    #[must_use]
    pub fn traceparents(&self, ticket_id: &str) -> Vec<String> {
        let about = |path: &str| path.split('/').any(|segment| segment == ticket_id);
        lock(&self.traces).iter().filter(|(path, _)| about(path)).map(|(_, trace)| trace.clone()).collect()
    }

    /// The ticket, if the service knows it: as it was created, with its present status.
    #[must_use]
    pub fn ticket(&self, ticket_id: &str) -> Option<Value> {
        lock(&self.tickets).get(ticket_id).cloned()
    }

    fn note_trace(&self, path: String, trace: &str) {
        lock(&self.traces).push((path, trace.to_owned()));
    }

    /// Any status may follow any other; an error that is not given again is cleared; durations are discarded.
    fn update(&self, ticket_id: String, body: Value) -> Result<Value, NotUpdated> {
        if !body["status"].as_str().is_some_and(|status| STATUSES.contains(&status)) {
            return Err(NotUpdated::NoStatus);
        }
        let mut tickets = lock(&self.tickets);
        if self.knowing_all.load(Ordering::Relaxed) {
            tickets.entry(ticket_id.clone()).or_insert_with(|| json!({ "ticket_id": ticket_id }));
        }
        let ticket = tickets.get_mut(&ticket_id).ok_or(NotUpdated::Unknown)?;
        ticket["status"] = body["status"].clone();
        ticket["error_message"] = body["error_message"].clone();
        let ticket = ticket.clone();
        lock(&self.updates).push((ticket_id, body));
        Ok(ticket)
    }

    /// Serves the HTTP API until `stop`.
    ///
    /// # Errors
    /// When the listener breaks.
    pub fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let router = Router::new()
            .route("/api/v1/tickets", post(slash).get(slash))
            .route("/api/v1/tickets/", post(create))
            .route("/api/v1/tickets/{ticket_id}", get(ticket))
            .route("/api/v1/tickets/{ticket_id}/status", patch(set_status))
            .fallback(async || detail(StatusCode::NOT_FOUND, json!("Not Found")))
            .layer(middleware::from_fn_with_state(self.clone(), faults))
            .with_state(self.clone());
        async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn detail(status: StatusCode, detail: Value) -> Answer {
    (status, Json(json!({ "detail": detail })))
}

async fn faults(State(service): State<TicketStandIn>, request: Request, next: Next) -> Response {
    if let Some(Ok(trace)) = request.headers().get("traceparent").map(HeaderValue::to_str) {
        service.note_trace(request.uri().path().to_owned(), trace);
    }
    if service.unavailable.load(Ordering::Relaxed) {
        return detail(StatusCode::SERVICE_UNAVAILABLE, json!("the service was made unavailable")).into_response();
    }
    next.run(request).await
}

async fn slash() -> Redirect {
    Redirect::temporary("/api/v1/tickets/")
}

async fn ticket(State(service): State<TicketStandIn>, Path(ticket_id): Path<String>) -> Answer {
    match lock(&service.tickets).get(&ticket_id) {
        Some(ticket) => (StatusCode::OK, Json(ticket.clone())),
        None => detail(StatusCode::NOT_FOUND, json!("Ticket not found")),
    }
}

/// As the service does, a duplicate is an internal error.
async fn create(State(service): State<TicketStandIn>, Json(mut ticket): Json<Value>) -> Answer {
    let id = ticket["ticket_id"].as_str().map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let Some(fields) = ticket.as_object_mut() else {
        return detail(StatusCode::UNPROCESSABLE_ENTITY, json!([{ "type": "dict_type", "loc": ["body"] }]));
    };
    fields.insert("ticket_id".to_owned(), json!(id));
    fields.entry("status").or_insert_with(|| json!("PENDING"));
    let mut tickets = lock(&service.tickets);
    if tickets.contains_key(&id) {
        return detail(StatusCode::INTERNAL_SERVER_ERROR, json!("Failed to create ticket"));
    }
    tickets.insert(id, ticket.clone());
    if let Some(publisher) = lock(&service.publisher).as_ref() {
        // As with the service itself, nobody learns of a publication that fails.
        if publisher.try_send(ticket.clone()).is_err() {
            tracing::warn!("the ticket service does not publish a ticket: too many wait for that");
        }
    }
    (StatusCode::CREATED, Json(ticket))
}

async fn set_status(
    State(service): State<TicketStandIn>,
    Path(ticket_id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let status = body["status"].clone();
    match service.update(ticket_id, body) {
        Ok(ticket) => (StatusCode::OK, Json(ticket)),
        Err(NotUpdated::Unknown) => detail(StatusCode::NOT_FOUND, json!("Ticket not found")),
        Err(NotUpdated::NoStatus) => {
            let wrong = json!([{ "type": "enum", "loc": ["body", "status"], "input": status }]);
            detail(StatusCode::UNPROCESSABLE_ENTITY, wrong)
        }
    }
}
