//! Client of the Execution Ticket Service (`contracts/execution-ticket-service.md`): statuses and look-ups over HTTP or gRPC,
//! the creation of tickets over HTTP.
//!
//! No credentials are sent, the service takes none. It is away at times, so a call that got no answer keeps others from
//! waiting for their time-out too: they fail at once for a few seconds.

mod answer;
mod grpc;
mod http;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::future::BoxFuture;
use opentelemetry::trace::SpanKind;
use serde_json::Value;
use ticket_activities::{Created, TicketService, TicketServiceError, trace};
use ticket_schemas::{Ticket, TicketStatus};
use ticket_workflows::{StatusUpdate, TraceContext};
use tokio::time::Instant;

use crate::config::TicketServiceConfig;
use crate::metrics::Metrics;
use crate::spans::{Span, Spans};
use answer::{Answer, NoAnswer};
use grpc::GrpcTransport;
use http::HttpTransport;

/// How long nobody is sent to a service that gave no answer. Thousands of tickets may owe it an update.
const QUIET: Duration = Duration::from_secs(3);
/// Longest pause that the service may ask for.
const MOST_QUIET: Duration = Duration::from_secs(60);
/// Longest error text sent, in bytes.
const MAX_ERROR_BYTES: usize = 4_000;

/// The client.
pub struct TicketServiceClient {
    transport: Transport,
    metrics: Arc<Metrics>,
    spans: Spans,
    quiet_until: Mutex<Option<Instant>>,
}

/// How the service is reached.
#[derive(Debug)]
enum Transport {
    Http(HttpTransport),
    /// Without `http` no ticket is created through the service.
    Grpc {
        statuses: Box<GrpcTransport>,
        http: Option<HttpTransport>,
    },
}

impl Transport {
    fn http(&self) -> Option<&HttpTransport> {
        match self {
            Self::Http(http) => Some(http),
            Self::Grpc { http, .. } => http.as_ref(),
        }
    }
}

impl TicketServiceClient {
    /// The client that the settings ask for; `None` when they name no service.
    ///
    /// # Errors
    /// When the HTTP client cannot be built, or the gRPC address cannot be used.
    pub fn of(config: &TicketServiceConfig, metrics: Arc<Metrics>, spans: Spans) -> anyhow::Result<Option<Self>> {
        let http = config.url.as_deref().map(|url| HttpTransport::new(url, config)).transpose()?;
        let statuses = config.grpc_address.as_deref().map(|address| GrpcTransport::new(address, config.timeout));
        let statuses = statuses
            .transpose()
            .context("the ticket service cannot be called; check EXECUTION_TICKET_SERVICE_GRPC_ADDRESS")?;
        let transport = match (statuses, http) {
            (Some(statuses), http) => Transport::Grpc { statuses: Box::new(statuses), http },
            (None, Some(http)) => Transport::Http(http),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { transport, metrics, spans, quiet_until: Mutex::default() }))
    }

    /// Makes a call and counts it. `counted`: the metric's name of it.
    async fn call(
        &self,
        counted: &str,
        ask: impl AsyncFnOnce(&TraceContext) -> Result<Answer, NoAnswer>,
    ) -> Result<Answer, TicketServiceError> {
        if let Some(left) = self.quiet_for() {
            return Err(TicketServiceError::Unavailable {
                reason: "it gave no answer a moment ago, so it is not asked now".to_owned(),
                after: Some(left),
            });
        }
        let (parent, began) = (trace::current(), SystemTime::now());
        let context = self.spans.begin(&parent);
        let answer = ask(&context).await;
        let error = match &answer {
            Ok(answer) => answer.error(),
            Err(_) => Some("unavailable"),
        };
        let status = if error.is_none() { "success" } else { "error" };
        self.metrics.ticket_api_calls.with_label_values(&[counted, status]).inc();
        let span = Span::new(format!("execution_ticket_service.{counted}"), &context, &parent, began);
        self.spans.end(span.kind(SpanKind::Client).failed(error));
        answer.map_err(|error| {
            if error.silent {
                let quiet = error.after.unwrap_or(QUIET).min(MOST_QUIET);
                *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + quiet);
            }
            TicketServiceError::Unavailable {
                reason: error.reason,
                after: error.after.map(|after| after.min(MOST_QUIET)),
            }
        })
    }

    fn quiet_for(&self) -> Option<Duration> {
        let until = (*self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    async fn set(&self, update: &StatusUpdate, within: Duration) -> Result<(), TicketServiceError> {
        check(&update.ticket_id)?;
        let ask = async |trace: &TraceContext| match &self.transport {
            Transport::Http(http) => http.set(update, trace, within).await,
            Transport::Grpc { statuses, .. } => statuses.set(update, trace, within).await,
        };
        match self.call("update_ticket_status", ask).await? {
            Answer::Good(_) => {
                self.metrics.ticket_status_updates.with_label_values(&[update.status.as_str()]).inc();
                Ok(())
            }
            Answer::UnknownTicket => Err(TicketServiceError::UnknownTicket { ticket_id: update.ticket_id.clone() }),
            Answer::Refused(reason) => Err(TicketServiceError::Refused { reason }),
            Answer::Broken(reason) => Err(TicketServiceError::Unavailable { reason, after: None }),
        }
    }

    async fn look(&self, ticket_id: &str, within: Duration) -> Result<Option<TicketStatus>, TicketServiceError> {
        check(ticket_id)?;
        let ask = async |trace: &TraceContext| match &self.transport {
            Transport::Http(http) => http.look(ticket_id, trace, within).await,
            Transport::Grpc { statuses, .. } => statuses.look(ticket_id, trace, within).await,
        };
        match self.call("get_ticket", ask).await? {
            Answer::Good(status) => {
                let status = status.as_deref().unwrap_or_default().parse().map_err(|error| {
                    let reason = format!("its ticket has no status that is known: {error}");
                    TicketServiceError::Unavailable { reason, after: None }
                })?;
                Ok(Some(status))
            }
            Answer::UnknownTicket => Ok(None),
            Answer::Refused(reason) => Err(TicketServiceError::Refused { reason }),
            Answer::Broken(reason) => Err(TicketServiceError::Unavailable { reason, after: None }),
        }
    }

    async fn make(&self, ticket: &Ticket, within: Duration) -> Result<Created, TicketServiceError> {
        let Some(http) = self.transport.http() else {
            let reason = "it creates tickets over HTTP alone; set EXECUTION_TICKET_SERVICE_URL".to_owned();
            return Err(TicketServiceError::Unavailable { reason, after: None });
        };
        let ask = async |trace: &TraceContext| http.make(ticket, trace, within).await;
        match self.call("create_ticket", ask).await? {
            Answer::Good(_) => Ok(Created::New),
            Answer::Refused(reason) => Err(TicketServiceError::Refused { reason }),
            Answer::UnknownTicket => Err(TicketServiceError::Unavailable {
                reason: "it does not serve POST /api/v1/tickets/; check EXECUTION_TICKET_SERVICE_URL".to_owned(),
                after: None,
            }),
            // What it answers to an id that it has already, among other things: look.
            Answer::Broken(reason) => match self.look(ticket.ticket_id.as_str(), within).await? {
                Some(_) => Ok(Created::AlreadyThere),
                None => Err(TicketServiceError::Unavailable { reason, after: None }),
            },
        }
    }
}

impl TicketService for TicketServiceClient {
    fn set_status<'a>(
        &'a self,
        update: &'a StatusUpdate,
        within: Duration,
    ) -> BoxFuture<'a, Result<(), TicketServiceError>> {
        Box::pin(self.set(update, within))
    }

    fn status<'a>(
        &'a self,
        ticket_id: &'a str,
        within: Duration,
    ) -> BoxFuture<'a, Result<Option<TicketStatus>, TicketServiceError>> {
        Box::pin(self.look(ticket_id, within))
    }

    fn create<'a>(
        &'a self,
        ticket: &'a Ticket,
        within: Duration,
    ) -> BoxFuture<'a, Result<Created, TicketServiceError>> {
        Box::pin(self.make(ticket, within))
    }
}

/// A ticket id has to stand in a path. Its characters need no escape; two ids are no names of anything there.
fn check(ticket_id: &str) -> Result<(), TicketServiceError> {
    if matches!(ticket_id, "." | "..") || !ticket_schemas::TicketId::is_valid(ticket_id) {
        let reason = format!("the ticket id {ticket_id:?} cannot stand in a path");
        return Err(TicketServiceError::Refused { reason });
    }
    Ok(())
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR_BYTES)]
}

/// An answer's body as far as an operator needs it.
fn excerpt(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let detail = value.and_then(|value| {
        value.get("detail").map(|detail| detail.as_str().map_or_else(|| detail.to_string(), str::to_owned))
    });
    let text = detail.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
