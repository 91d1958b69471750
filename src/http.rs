//! The worker's HTTP surface: `/health`, `/ready`, `/metrics`; the metrics again on a second port (INC-51).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::sdk_metrics::SdkMetrics;

/// What the handlers read.
#[derive(Clone)]
pub struct Surface {
    /// Liveness and readiness.
    pub health: Health,
    /// Ours.
    pub metrics: Arc<Metrics>,
    /// The SDK's.
    pub sdk_metrics: Arc<SdkMetrics>,
    /// `AGENT_ID`.
    pub agent_id: String,
}

/// The main port.
pub fn router(surface: Surface) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(surface)
}

/// The metrics port: nothing but metrics, at `/metrics` and `/`.
pub fn metrics_router(surface: Surface) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/", get(metrics)).with_state(surface)
}

/// Binds a listener.
///
/// # Errors
/// One sentence that names the address and the setting.
pub async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!(
            "{address} cannot be listened on ({error}); free the port or set {setting} to another (0: any free one)"
        )
    })
}

/// Serves until stopped.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 503 once a loop that must live is dead (INC-17).
async fn health(State(surface): State<Surface>) -> Response {
    let (ok, checks) = surface.health.liveness();
    let status = if ok { "healthy" } else { "unhealthy" };
    let body = json!({ "status": status, "agent_id": surface.agent_id, "checks": checks });
    (code(ok), Json(body)).into_response()
}

/// A real 503 while not ready (INC-49).
async fn ready(State(surface): State<Surface>) -> Response {
    let (ok, checks) = surface.health.readiness();
    (code(ok), Json(json!({ "ready": ok, "checks": checks }))).into_response()
}

async fn metrics(State(surface): State<Surface>) -> Response {
    let mut text = surface.metrics.render();
    match surface.sdk_metrics.render().await {
        Ok(sdk) => text.push_str(&sdk),
        Err(error) => tracing::warn!(%error, "the SDK's metrics could not be read"),
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn code(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
