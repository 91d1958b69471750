//! The collector: OTLP over gRPC, with the platform's own headers. What it does not take is lost and counted; nothing waits for
//! it, and its absence is told once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient as Grpc;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use ticket_activities::border;
use tokio::runtime::Handle;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};

use super::queue::Waiting;
use crate::config::{CollectorConfig, Headers, SecretSource, header_pairs};
use crate::dead_letters::shown;
use crate::events::{CollectorAnswers, CollectorAway};
use crate::metrics::Metrics;
use crate::net;

/// The exporter. The queue calls it from a thread of its own, one batch at a time.
#[derive(Debug)]
pub(super) struct Collector {
    client: Grpc<Channel>,
    timeout: Duration,
    headers: Option<SecretSource>,
    resource: ResourceAttributesWithSchema,
    /// The runtime whose connection and clock a call needs.
    runtime: Handle,
    waiting: Waiting,
    away: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Collector {
    /// The collector that the settings name.
    pub(super) fn new(
        config: &CollectorConfig,
        resource: &Resource,
        waiting: Waiting,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            client: Grpc::new(endpoint(config)?.connect_lazy()),
            timeout: config.timeout,
            headers: config.headers.clone(),
            resource: resource.into(),
            runtime: Handle::current(),
            waiting,
            away: AtomicBool::new(false),
            metrics,
        })
    }

    async fn send(&self, batch: Vec<SpanData>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let headers = self.headers().map_err(Status::failed_precondition)?;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let mut request = Request::new(ExportTraceServiceRequest { resource_spans });
        // The product's own have the last word.
        for (name, value) in headers {
            request.metadata_mut().insert(name, value);
        }
        request.set_timeout(self.timeout);
        request.metadata_mut().insert("x-neural-hive-source", MetadataValue::from_static("worker-agents"));
        request.metadata_mut().insert("x-neural-hive-component", MetadataValue::from_static("worker-agent"));
        let (mut grpc, timeout) = (self.client.clone(), self.timeout);
        let call = async move { tokio::time::timeout(timeout, border("otlp.export", grpc.export(request))).await };
        match self.runtime.spawn(call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Status::deadline_exceeded(format!("nothing came within {} ms", timeout.as_millis()))),
            // The runtime ends.
            Err(error) => Err(Status::cancelled(error.to_string())),
        }
    }

    /// Those of the settings, as they are now.
    fn headers(&self) -> Result<Headers, String> {
        let Some(source) = &self.headers else { return Ok(Headers::default()) };
        header_pairs(source.read()?.expose()).map_err(|error| format!("{}: {error}", source.setting()))
    }

    fn count(&self, outcome: &str, spans: u64) {
        self.metrics.trace_spans.with_label_values(&[outcome]).inc_by(spans);
    }

    fn is_away(&self, error: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            self.metrics.emit(CollectorAway { error });
        }
    }
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let answer = self.send(batch).await;
        self.waiting.leave(spans);
        match answer {
            Ok(answer) => {
                let refused = answer.into_inner().partial_success.unwrap_or_default();
                let lost = u64::try_from(refused.rejected_spans).unwrap_or(0).min(spans as u64);
                self.count("exported", spans as u64 - lost);
                self.count("failed", lost);
                if lost > 0 {
                    self.is_away(&format!("it refuses spans: {}", shown(&refused.error_message, net::SAID_CHARS)));
                } else if self.away.swap(false, Ordering::Relaxed) {
                    self.metrics.emit(CollectorAnswers);
                }
                Ok(())
            }
            Err(status) => {
                let said = net::said(&status);
                self.count("failed", spans as u64);
                self.is_away(&said);
                Err(OTelSdkError::InternalFailure(said))
            }
        }
    }
}

fn endpoint(config: &CollectorConfig) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(config.url.clone())?
        .connect_timeout(config.timeout)
        .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))?;
    if !config.url.starts_with("https://") {
        return Ok(endpoint);
    }
    net::install_crypto();
    let read = |path: &String| std::fs::read(path).with_context(|| path.clone());
    let mut tls = match &config.peer.ca_bundle {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some(pair) = &config.peer.outgoing.certificate {
        tls = tls.identity(Identity::from_pem(read(&pair.certificate)?, read(&pair.key)?));
    }
    Ok(endpoint.tls_config(tls)?)
}
