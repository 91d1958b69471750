//! The service over HTTP: everything.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use ticket_activities::border;
use ticket_schemas::Ticket;
use ticket_workflows::{StatusUpdate, TraceContext};

use super::answer::{Answer, NoAnswer, read};
use super::bounded;
use crate::config::TicketServiceConfig;
use crate::net;

/// The service at one base URL.
#[derive(Debug)]
pub(super) struct HttpTransport {
    client: reqwest::Client,
    base: String,
    timeout: Duration,
}

impl HttpTransport {
    pub(super) fn new(url: &str, config: &TicketServiceConfig) -> anyhow::Result<Self> {
        let client = net::peer_client_within_origin(config.timeout, &config.peer)
            .context("the ticket service's client cannot be made")?;
        Ok(Self { client, base: url.trim_end_matches('/').to_owned(), timeout: config.timeout })
    }

    pub(super) async fn set(
        &self,
        update: &StatusUpdate,
        trace: &TraceContext,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        let body = json!({
            "status": update.status.as_str(),
            "error_message": update.error_message.as_deref().map(bounded),
            "actual_duration_ms": update.actual_duration_ms,
        });
        let path = format!("{}/status", update.ticket_id);
        self.ask(self.request(Method::PATCH, &path, within).json(&body), trace).await
    }

    pub(super) async fn look(
        &self,
        ticket_id: &str,
        trace: &TraceContext,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        self.ask(self.request(Method::GET, ticket_id, within), trace).await
    }

    pub(super) async fn make(
        &self,
        ticket: &Ticket,
        trace: &TraceContext,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        self.ask(self.request(Method::POST, "", within).json(&ticket.to_json()), trace).await
    }

    fn request(&self, method: Method, path: &str, within: Duration) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1/tickets/{path}", self.base)).timeout(within.min(self.timeout))
    }

    async fn ask(&self, request: RequestBuilder, trace: &TraceContext) -> Result<Answer, NoAnswer> {
        read(border("ticket_service.ask", net::traced(request, trace).send()).await).await
    }
}
