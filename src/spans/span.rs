//! One span, as a value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use ticket_workflows::TraceContext;

use super::ids::Ids;

/// Longest text of an attribute, in bytes. Ids of producers are shorter.
const MAX_TEXT: usize = 256;

/// A span that is over.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    name: String,
    kind: SpanKind,
    ids: Option<Ids>,
    parent: Option<Ids>,
    remote: bool,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Span {
    /// The span whose context `own` is, within `parent`; it ends now.
    pub(crate) fn new(name: impl Into<String>, own: &TraceContext, parent: &TraceContext, began: SystemTime) -> Self {
        Self::between(name.into(), Ids::of(own), Ids::of(parent), (began, SystemTime::now()))
    }

    pub(super) fn between(
        name: String,
        own: Option<Ids>,
        parent: Option<Ids>,
        (began, ended): (SystemTime, SystemTime),
    ) -> Self {
        Self {
            name,
            kind: SpanKind::Internal,
            ids: own,
            parent,
            remote: false,
            began,
            // Clocks may be set back meanwhile.
            ended: ended.max(began),
            attributes: Vec::with_capacity(8),
            status: Status::Unset,
        }
    }

    pub(crate) fn kind(self, kind: SpanKind) -> Self {
        Self { kind, ..self }
    }

    /// Its parent is another process's span.
    pub(super) fn of_remote(self) -> Self {
        Self { remote: true, ..self }
    }

    /// Ids, codes and numbers only. A text that is empty is left out.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(text) if text.as_str().is_empty() => return self,
            Value::String(text) => {
                let text = text.as_str();
                text[..text.floor_char_boundary(MAX_TEXT)].to_owned().into()
            }
            other => other,
        };
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// What it tells of failed, for the reason that this code names.
    pub(crate) fn failed(self, code: Option<&str>) -> Self {
        match code {
            None => self,
            Some(code) => Self { status: Status::error(""), ..self.with("error.type", code.to_owned()) },
        }
    }

    /// As the exporter takes it; `None` when the trace is not sampled, or there is none.
    pub(super) fn data(self, scope: &InstrumentationScope) -> Option<SpanData> {
        let ids = self.ids.filter(|ids| ids.is_sampled())?;
        Some(SpanData {
            span_context: ids.exported(),
            parent_span_id: self.parent.map_or(SpanId::INVALID, Ids::span),
            parent_span_is_remote: self.remote,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.began,
            end_time: self.ended,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.status,
            instrumentation_scope: scope.clone(),
        })
    }
}

/// A time of the workflow or of a record.
pub(super) fn at_ms(epoch_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(epoch_ms).unwrap_or(0))
}
