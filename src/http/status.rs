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
    /// By what it proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    /// The SPIFFE id that the caller has proved.
    #[schema(required = true)]
    authenticated_spiffe_id: Option<String>,
}

/// By what the worker proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Identity {
    /// How the Service Registry is called.
    service_registry: String,
    /// Whether a SPIFFE Workload API says who the worker is.
    spiffe: bool,
    /// Whom it says; null while no X.509-SVID counts.
    #[schema(required = true)]
    spiffe_id: Option<String>,
    /// Seconds until that expires.
    #[schema(required = true)]
    expires_in_seconds: Option<i64>,
    /// What is missing of the identity, and what to do.
    #[schema(required = true)]
    missing: Option<String>,
}

impl Identity {
    fn of(api: &Api) -> Self {
        let standing = api.standing();
        Self {
            service_registry: api.registry_connection().to_owned(),
            spiffe: standing.is_some(),
            spiffe_id: standing.as_ref().and_then(|standing| Some(standing.spiffe_id.as_ref()?.to_string())),
            expires_in_seconds: standing.as_ref().and_then(|standing| standing.expires_in),
            missing: standing.and_then(|standing| standing.missing),
        }
    }
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
        identity: Some(Identity::of(&api)),
        authenticated_spiffe_id: caller.spiffe_id().map(ToString::to_string),
    })
}
