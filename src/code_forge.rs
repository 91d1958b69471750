//! Client of Code Forge (`contracts/executors.md`, Code Forge generation): the calls that activities ask for.
//!
//! No credentials are sent, the service takes none, and no redirect is followed. A call is made once: what its fault means is
//! decided by the protocol of external work (`docs/adr/0024-external-work.md`).

mod answer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::future::BoxFuture;
use opentelemetry::trace::SpanKind;
use reqwest::header::CONNECTION;
use reqwest::{Method, RequestBuilder};
use ticket_activities::execute::code_forge::{CodeForge, Generation, GenerationRequest, RequestId};
use ticket_activities::external::Fault;
use ticket_activities::{border, trace};
use ticket_workflows::TraceContext;

use crate::config::CodeForgeConfig;
use crate::metrics::Metrics;
use crate::net;
use crate::spans::{Span, Spans};

/// Longest call: less than the protocol waits for one, which would drop it before it is counted.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a connection, the name's resolution and a proxy included: twice what a resolver takes to ask again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The client.
pub struct CodeForgeClient {
    client: reqwest::Client,
    base: String,
    metrics: Arc<Metrics>,
    spans: Spans,
}

/// A call that is under way.
struct Call {
    parent: TraceContext,
    context: TraceContext,
    began: SystemTime,
}

impl CodeForgeClient {
    /// The client that the settings ask for. Connects with the first call.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(config: &CodeForgeConfig, metrics: Arc<Metrics>, spans: Spans) -> anyhow::Result<Self> {
        let client = net::peer_client_connecting(CONNECT_TIMEOUT, CALL_TIMEOUT, &config.peer)
            .context("the client of Code Forge cannot be made")?;
        Ok(Self { client, base: config.url.trim_end_matches('/').to_owned(), metrics, spans })
    }

    /// Each has a connection of its own: a call that is lost with one that the service closes because it was idle would be in
    /// doubt for nothing.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1/{path}", self.base)).header(CONNECTION, "close")
    }

    fn begin(&self) -> Call {
        let parent = trace::current();
        Call { context: self.spans.begin(&parent), parent, began: SystemTime::now() }
    }

    /// Counts a call and makes its span. `method`: the metric's name of it. A service that refuses the ticket, or that knows no
    /// such request, is there and has answered.
    fn end<T>(&self, call: &Call, method: &str, span: &str, answer: Result<T, Fault>) -> Result<T, Fault> {
        let error = answer.as_ref().err().map(error_type);
        let answered = matches!(answer, Ok(_) | Err(Fault::TicketRefused { .. } | Fault::Vanished { .. }));
        let status = if answered { "success" } else { "error" };
        self.metrics.code_forge_calls.with_label_values(&[method, status]).inc();
        let span = Span::new(span, &call.context, &call.parent, call.began);
        self.spans.end(span.kind(SpanKind::Client).failed(error));
        answer
    }
}

impl CodeForge for CodeForgeClient {
    fn generate<'a>(&'a self, request: &'a GenerationRequest) -> BoxFuture<'a, Result<RequestId, Fault>> {
        Box::pin(async move {
            let call = self.begin();
            let asking = net::traced(self.request(Method::POST, "generate").json(request), &call.context);
            let response = border("code_forge.generate", asking.send()).await;
            self.end(&call, "generate", "code_forge.submit_generation", answer::taken(response).await)
        })
    }

    fn generation<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<Generation, Fault>> {
        Box::pin(async move {
            let call = self.begin();
            let asking = net::traced(self.request(Method::GET, &format!("generate/{id}")), &call.context);
            let response = border("code_forge.generation", asking.send()).await;
            self.end(&call, "status", "code_forge.get_generation_status", answer::stands(response).await)
        })
    }
}

/// What spans say of a call that failed.
fn error_type(fault: &Fault) -> &'static str {
    match fault {
        Fault::Unavailable { .. } | Fault::Deferred { .. } => "unavailable",
        Fault::Errored { .. } | Fault::Lost { .. } => "lost",
        Fault::Malformed { .. } => "malformed",
        Fault::Vanished { .. } => "unknown_request",
        _ => "refused",
    }
}
