//! The worker's HTTP surface: probes and metrics for whoever reaches the port, `/api/v1` for callers who may use it, and
//! probes and metrics again on a second port (INC-51).
//!
//! It never decides what a ticket does: it asks Temporal how one stands, and carries orders to it (`crate::orders`). Every
//! operation of the API names the permission that it takes (`operations`), and is described by its own types.

mod access;
mod api;
mod caller;
mod connections;
mod given;
mod probes;
mod problem;
mod rate;
mod status;
mod svids;
mod tasks;
mod tickets;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::{AllowList, Permission};
pub use api::Api;
pub use connections::serve;

use access::guarded;
use problem::{Kind, Problem};

use crate::health::Health;
use crate::metrics::Metrics;
use crate::sdk_metrics::SdkMetrics;

/// Where the OpenAPI document is.
const DOCUMENT: &str = "/api/v1/openapi.json";

/// What probes and scrapes read.
#[derive(Clone)]
pub struct Surface {
    /// Liveness and readiness.
    pub health: Health,
    /// Ours.
    pub metrics: Arc<Metrics>,
    /// The SDK's.
    pub sdk_metrics: Arc<SdkMetrics>,
}

/// The main port.
pub fn router(api: &Api) -> Router {
    let (router, document) = operations(api).split_for_parts();
    let document = Arc::new(document);
    let described = move || async move { Json(&*document).into_response() };
    router
        .route(DOCUMENT, get(described))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(given::MOST_BODY))
        .with_state(api.clone())
}

/// The metrics port: metrics, at `/metrics` and `/`, and the probes, which callers of the API cannot crowd out here.
pub fn metrics_router(api: &Api) -> Router {
    Router::new()
        .route("/metrics", get(probes::metrics))
        .route("/", get(probes::metrics))
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api.clone())
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

/// Every operation, with the permission that it takes.
fn operations(api: &Api) -> OpenApiRouter<Api> {
    let open = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(probes::health))
        .routes(routes!(probes::ready))
        .routes(routes!(probes::metrics));
    [
        (Permission::Status, routes!(status::status)),
        (Permission::Cancel, routes!(tasks::cancel_task)),
        (Permission::Submit, routes!(tasks::announce_task)),
        (Permission::Read, routes!(tasks::task)),
        (Permission::Cancel, routes!(tasks::delete_task)),
        (Permission::Read, routes!(tickets::ticket)),
        (Permission::Cancel, routes!(tickets::cancel)),
        (Permission::Pause, routes!(tickets::pause)),
        (Permission::Resume, routes!(tickets::resume)),
        (Permission::Retry, routes!(tickets::retry)),
        (Permission::ExtendDeadline, routes!(tickets::extend_deadline)),
        (Permission::SkipDependency, routes!(tickets::skip_dependency)),
        (Permission::ResumeCompensation, routes!(tickets::resume_compensation)),
        (Permission::SkipCompensation, routes!(tickets::skip_compensation)),
    ]
    .into_iter()
    .fold(open, |all, (permission, operations)| all.routes(guarded(api, permission, operations)))
}

/// What the operations' own descriptions do not say.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "worker-agents", description = "How the worker and its tickets stand, and orders to tickets."),
    components(schemas(Problem)),
    modifiers(&Bearer)
)]
struct Document;

/// How callers prove who they are.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of HTTP_API_TOKEN, or a JWT-SVID for HTTP_API_AUDIENCE."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchPath, format!("nothing is at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchMethod, format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests;
