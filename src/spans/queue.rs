//! Spans on their way to the collector: a bounded queue, sent by a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _};

use crate::metrics::Metrics;

/// Most spans of one call; the platform's figure.
const BATCH: usize = 512;

/// Spans that are queued or being sent. The processor's own count of what it drops cannot be read, so the queue is never
/// allowed to be full. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    count: Arc<AtomicUsize>,
    most: usize,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Self {
        Self { count: Arc::default(), most }
    }

    /// Takes a place; whether there was one.
    fn enter(&self) -> bool {
        let enter = |count| (count < self.most).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Spans have been sent, or given up.
    pub(super) fn leave(&self, spans: usize) {
        self.count.fetch_sub(spans, Ordering::AcqRel);
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    processor: BatchSpanProcessor,
    waiting: Waiting,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// A queue whose spans wait for others no longer than `delay`.
    pub(super) fn new(
        exporter: impl SpanExporter + 'static,
        waiting: Waiting,
        delay: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        // Everything that the builder would take from the environment otherwise.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(waiting.most)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(delay)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { processor, waiting, metrics }
    }

    /// Takes the span, or drops it when too many wait.
    pub(super) fn put(&self, span: SpanData) {
        if self.waiting.enter() {
            self.processor.on_end(span);
        } else {
            self.metrics.trace_spans.with_label_values(&["dropped"]).inc();
        }
    }

    /// Sends what waits, and ends. Blocks, at most for `within`.
    pub(super) fn finish(&self, within: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(within)
    }
}
