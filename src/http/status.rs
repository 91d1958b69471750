//! `GET /api/v1/status`: what the worker is, and has to do.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::Api;
use super::caller::Caller;
use super::problem::GuardedProblems;

/// What the worker is, and has to do (`contracts/engine.md §8`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Status {
    /// `AGENT_ID`.
    agent_id: String,
    /// `WORKER`.
    agent_type: String,
    /// Task types that it takes.
    capabilities: Vec<String>,
    /// Attempts that run on it.
    active_tasks: i64,
    /// Attempts that may run on it at once.
    max_concurrent_tasks: usize,
    /// Whether it is in the Service Registry.
    registered: bool,
    /// Seconds since its start.
    uptime_seconds: u64,
    /// Where it runs.
    telemetry: Telemetry,
    /// The SPIFFE id that the caller has proved.
    #[schema(required = true)]
    authenticated_spiffe_id: Option<String>,
}

/// Where the worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Telemetry {
    /// Kubernetes namespace.
    namespace: String,
    /// `CLUSTER`.
    cluster: String,
    /// `SERVICE_VERSION`.
    version: String,
}

/// What the worker is, and has to do.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "worker",
    responses((status = 200, description = "The status", body = Status), GuardedProblems),
    security(("bearer" = []))
)]
pub(super) async fn status(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Json<Status> {
    let identity = api.identity();
    Json(Status {
        agent_id: identity.agent_id.clone(),
        agent_type: "WORKER".to_owned(),
        capabilities: identity.supported_task_types.iter().map(|it| it.as_str().to_owned()).collect(),
        active_tasks: api.metrics().active_tasks.get(),
        max_concurrent_tasks: identity.max_concurrent_tasks,
        registered: api.is_registered(),
        uptime_seconds: api.uptime().as_secs(),
        telemetry: Telemetry {
            namespace: identity.namespace.clone(),
            cluster: identity.cluster.clone(),
            version: identity.service_version.clone(),
        },
        authenticated_spiffe_id: caller.spiffe_id().map(str::to_owned),
    })
}
