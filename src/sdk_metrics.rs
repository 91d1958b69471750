//! The Temporal SDK's own metrics. Its exporter insists on a listener of its own; it gets one on loopback, and this
//! process's `/metrics` serves what it says together with ours (INC-51).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use temporalio_common::telemetry::metrics::CoreMeter;
use temporalio_common::telemetry::{PrometheusExporterOptions, start_prometheus_metric_exporter};
use tokio::task::AbortHandle;

/// How long reading them may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The exporter.
pub struct SdkMetrics {
    meter: Arc<dyn CoreMeter>,
    address: SocketAddr,
    http: reqwest::Client,
    listener: AbortHandle,
}

impl SdkMetrics {
    /// Starts the exporter.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub fn start() -> anyhow::Result<Self> {
        let options = PrometheusExporterOptions::builder()
            .socket_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .counters_total_suffix(true)
            .unit_suffix(true)
            .use_seconds_for_durations(true)
            .build();
        let started = start_prometheus_metric_exporter(options)?;
        Ok(Self {
            meter: started.meter,
            address: started.bound_addr,
            http: crate::net::client(TIMEOUT)?,
            listener: started.abort_handle,
        })
    }

    pub(crate) fn meter(&self) -> Arc<dyn CoreMeter> {
        Arc::clone(&self.meter)
    }

    /// The SDK's metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When the exporter does not answer.
    pub async fn render(&self) -> anyhow::Result<String> {
        let response = self.http.get(format!("http://{}/metrics", self.address)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }
}

impl Drop for SdkMetrics {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
