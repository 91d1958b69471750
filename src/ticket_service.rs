//! Client of the Execution Ticket Service over HTTP (`contracts/execution-ticket-service.md`): statuses, look-ups, and the
//! creation of tickets.
//!
//! No credentials are sent, the service takes none. It is away at times, so a call that got no answer keeps others from
//! waiting for their time-out too: they fail at once for a few seconds.

mod answer;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::future::BoxFuture;
use opentelemetry::trace::SpanKind;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use ticket_activities::{Created, TicketService, TicketServiceError, border, trace};
use ticket_schemas::{Ticket, TicketStatus};
use ticket_workflows::StatusUpdate;
use tokio::time::Instant;

use crate::config::TicketServiceConfig;
use crate::metrics::Metrics;
use crate::net;
use crate::spans::{Span, Spans};
use answer::{Answer, read};

/// How long nobody is sent to a service that gave no answer. Thousands of tickets may owe it an update.
const QUIET: Duration = Duration::from_secs(3);
/// Longest pause that the service may ask for.
const MOST_QUIET: Duration = Duration::from_secs(60);
/// Longest error text sent, in bytes.
const MAX_ERROR_BYTES: usize = 4_000;

/// The client.
pub struct TicketServiceClient {
    http: reqwest::Client,
    base: String,
    timeout: Duration,
    metrics: Arc<Metrics>,
    spans: Spans,
    quiet_until: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct StatusOf {
    status: TicketStatus,
}

impl TicketServiceClient {
    /// The client that the settings ask for; `None` when they name no service.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn of(config: &TicketServiceConfig, metrics: Arc<Metrics>, spans: Spans) -> anyhow::Result<Option<Self>> {
        let Some(url) = config.url.as_deref() else { return Ok(None) };
        Ok(Some(Self {
            http: net::peer_client_within_origin(config.timeout)
                .context("the ticket service's client cannot be made")?,
            base: url.trim_end_matches('/').to_owned(),
            timeout: config.timeout,
            metrics,
            spans,
            quiet_until: Mutex::default(),
        }))
    }

    fn request(&self, method: Method, path: &str, within: Duration) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1/tickets/{path}", self.base)).timeout(within.min(self.timeout))
    }

    /// Makes a call and counts it. `counted`: the metric's name of it.
    async fn call(&self, counted: &str, request: RequestBuilder) -> Result<Answer, TicketServiceError> {
        if let Some(left) = self.quiet_for() {
            return Err(TicketServiceError::Unavailable {
                reason: "it gave no answer a moment ago, so it is not asked now".to_owned(),
                after: Some(left),
            });
        }
        let (parent, began) = (trace::current(), SystemTime::now());
        let context = self.spans.begin(&parent);
        let request = net::traced(request, &context);
        let answer = read(border("ticket_service.ask", request.send()).await).await;
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
        let id = segment(&update.ticket_id)?;
        let error_message = update.error_message.as_deref().map(bounded);
        let body = json!({
            "status": update.status.as_str(),
            "error_message": error_message,
            "actual_duration_ms": update.actual_duration_ms,
        });
        let request = self.request(Method::PATCH, &format!("{id}/status"), within).json(&body);
        match self.call("update_ticket_status", request).await? {
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
        let request = self.request(Method::GET, segment(ticket_id)?, within);
        match self.call("get_ticket", request).await? {
            Answer::Good(ticket) => {
                let ticket: StatusOf = serde_json::from_value(ticket).map_err(|error| {
                    let reason = format!("its ticket has no status that is known: {error}");
                    TicketServiceError::Unavailable { reason, after: None }
                })?;
                Ok(Some(ticket.status))
            }
            Answer::UnknownTicket => Ok(None),
            Answer::Refused(reason) => Err(TicketServiceError::Refused { reason }),
            Answer::Broken(reason) => Err(TicketServiceError::Unavailable { reason, after: None }),
        }
    }

    async fn make(&self, ticket: &Ticket, within: Duration) -> Result<Created, TicketServiceError> {
        let request = self.request(Method::POST, "", within).json(&ticket.to_json());
        match self.call("create_ticket", request).await? {
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

/// A ticket id as a part of a path. Its characters need no escape; two ids are no names of anything there.
fn segment(ticket_id: &str) -> Result<&str, TicketServiceError> {
    if matches!(ticket_id, "." | "..") || !ticket_schemas::TicketId::is_valid(ticket_id) {
        let reason = format!("the ticket id {ticket_id:?} cannot stand in a path");
        return Err(TicketServiceError::Refused { reason });
    }
    Ok(ticket_id)
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
