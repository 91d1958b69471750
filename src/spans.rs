//! The spans of tickets: one trace for each, from the producer's span to the result (`docs/adr/0021-tracing.md`, INC-04).
//!
//! Owns which spans there are, their ids, names and attributes, and their way to the collector. Ids, codes and times go into a
//! span, never parameters, outputs or messages (INC-95). Never makes anything wait: a span is a value that is put into a bounded
//! queue when what it tells of is over. Called by the bridge, the activities (through their port) and the clients of peers.
//!
//! Without a collector nothing is made, and trace contexts are passed on as they came.

mod collector;
mod ids;
mod queue;
mod span;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::InstrumentationScope;
use ticket_workflows::TraceContext;

use crate::config::{Config, Sampling};
use crate::metrics::Metrics;
use collector::Collector;
use ids::Ids;
use queue::Queue;
pub(crate) use span::Span;
pub(crate) use ticket::{Consumed, Disposition};

/// How long spans that wait get at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes spans. Clones share the queue.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Making>>);

#[derive(Debug)]
struct Making {
    sampling: Sampling,
    scope: InstrumentationScope,
    queue: Queue,
}

impl Spans {
    /// What the settings ask for. Connects when the first spans are sent.
    ///
    /// # Errors
    /// When the collector's address or the authorities of its certificate cannot be used.
    pub fn of(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let tracing = &config.tracing;
        let Some(collector) = &tracing.collector else { return Ok(Self::default()) };
        let waiting = queue::Waiting::new(tracing.queue);
        let exporter = Collector::new(collector, &resource(config), waiting.clone(), Arc::clone(metrics))
            .context("the trace collector cannot be called; check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_CA_BUNDLE")?;
        tracing::info!(endpoint = collector.url, sampling = ?tracing.sampling, "traces_exported");
        Ok(Self(Some(Arc::new(Making {
            sampling: tracing.sampling,
            scope: InstrumentationScope::builder("worker-agents").with_version(env!("CARGO_PKG_VERSION")).build(),
            queue: Queue::new(exporter, waiting, tracing.delay, Arc::clone(metrics)),
        }))))
    }

    /// Whether there is a collector.
    pub(crate) fn are_made(&self) -> bool {
        self.0.is_some()
    }

    /// The context of a span within `parent`; `parent` itself where none is made.
    pub(crate) fn begin(&self, parent: &TraceContext) -> TraceContext {
        match Ids::of(parent) {
            Some(ids) if self.are_made() && ids.is_sampled() => ids.child().within(parent),
            _ => parent.clone(),
        }
    }

    /// Where a ticket stands in its trace: the context of the span of its whole life, which its workflow carries. The same one
    /// for the same start, whoever asks for it and however often. A ticket without a trace begins one.
    pub(crate) fn place(&self, producer: TraceContext, request_id: &str) -> TraceContext {
        if !self.are_made() {
            return producer;
        }
        let parent = Ids::of(&producer);
        let root = parent.unwrap_or_else(|| Ids::root(request_id));
        let sampled = self.takes(parent, root);
        // Of an unsampled ticket no span is made, so what is passed on is its producer's.
        let place = if sampled || parent.is_none() { root.ticket(request_id) } else { root };
        place.sampled(sampled).within(&producer)
    }

    /// Whether spans are made of a trace: as the producer decided, or as the settings say.
    fn takes(&self, parent: Option<Ids>, root: Ids) -> bool {
        let Some(making) = &self.0 else { return false };
        match parent {
            Some(parent) if making.sampling.parent_based => parent.is_sampled(),
            _ => root.falls_within(making.sampling.ratio),
        }
    }

    /// A span that is over. Its context is one that [`Spans::begin`] or [`Spans::place`] gave.
    pub(crate) fn end(&self, span: Span) {
        if let Some(making) = &self.0
            && let Some(data) = span.data(&making.scope)
        {
            making.queue.put(data);
        }
    }

    /// Sends what waits, for a bounded time. Nothing is sent afterwards.
    pub(crate) async fn finish(&self) {
        let Some(making) = self.0.clone() else { return };
        let finished = tokio::task::spawn_blocking(move || making.queue.finish(FLUSH_TIMEOUT)).await;
        match finished {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans did not reach the trace collector"),
            Err(error) => tracing::error!(%error, "sending the last spans broke"),
        }
    }
}

/// What every span says of this worker; of several with one key the last counts.
fn resource(config: &Config) -> opentelemetry_sdk::Resource {
    let identity = &config.identity;
    let own = [
        ("service.version", identity.service_version.as_str()),
        ("service.instance.id", identity.agent_id.as_str()),
        ("neural.hive.component", "worker-agent"),
        ("neural.hive.layer", "execucao"),
        ("neural.hive.domain", "task-execution"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "rust"),
    ];
    let given = config.tracing.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let attributes = own.into_iter().chain(given);
    let attributes = attributes.map(|(key, value)| opentelemetry::KeyValue::new(key.to_owned(), value.to_owned()));
    // The empty builder: the other one reads the environment by itself.
    opentelemetry_sdk::Resource::builder_empty().with_attributes(attributes).build()
}

#[cfg(test)]
mod tests;
