//! A trace collector: OTLP over gRPC, made from the public protocol's generated code, in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// A span as it came, with texts in the place of bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: i32,
    pub(crate) failed: bool,
    pub(crate) nanos: u64,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector. Clones share what they have seen, and the faults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    resource: Arc<Mutex<BTreeMap<String, String>>>,
    headers: Arc<Mutex<BTreeMap<String, String>>>,
    calls: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    rejected: Arc<AtomicUsize>,
}

impl Collector {
    /// Serves on a port of its own until the runtime ends; the collector and its URL.
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let collector = Self::default();
        tokio::spawn(collector.clone().serve(listener));
        (collector, url)
    }

    pub(crate) async fn serve(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let service = TowerToHyperService::new(TraceServiceServer::new(self.clone()));
            tokio::spawn(async move {
                // A client may break its connection at any time.
                let _ = Builder::new(TokioExecutor::new())
                    .http2_only()
                    .serve_connection(TokioIo::new(connection), service)
                    .await;
            });
        }
    }

    /// Everything seen.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.spans.lock().expect("spans").clone()
    }

    /// What the last call said of the worker.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        self.resource.lock().expect("resource").clone()
    }

    /// The text headers of the last call.
    pub(crate) fn headers(&self) -> BTreeMap<String, String> {
        self.headers.lock().expect("headers").clone()
    }

    /// How often it was called, whatever it answered.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Fault: while set, it refuses every call.
    pub(crate) fn set_refusing(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Fault: while set, it answers no call.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Fault: it takes all but so many spans of every call.
    pub(crate) fn reject(&self, spans: usize) {
        self.rejected.store(spans, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Status::resource_exhausted("too much"));
        }
        let headers = request.metadata().clone().into_headers();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        *self.headers.lock().expect("headers") = headers.collect();
        for resource_spans in request.into_inner().resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            *self.resource.lock().expect("resource") = texts(resource.attributes);
            for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.lock().expect("spans").push(seen(span));
            }
        }
        let rejected_spans = i64::try_from(self.rejected.load(Ordering::Relaxed)).expect("few");
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: "not these".to_owned() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }))
    }
}

fn seen(span: Span) -> Seen {
    Seen {
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind,
        failed: span.status.is_some_and(|status| status.code == 2),
        nanos: span.end_time_unix_nano - span.start_time_unix_nano,
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
