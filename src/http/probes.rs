//! `/health`, `/ready`, `/metrics`: for probes and Prometheus, open to whoever reaches a port.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use ticket_activities::now_ms;
use utoipa::ToSchema;

use super::api::Api;
use crate::health::Check;
use crate::vault::{Held, Standing};

/// Whether the process lives (`contracts/engine.md §8`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Health {
    /// `healthy` or `unhealthy`.
    status: String,
    /// `AGENT_ID`.
    agent_id: String,
    /// Now, epoch milliseconds.
    timestamp: i64,
    /// The loops of the process by their names, and Vault.
    checks: HealthChecks,
}

/// The loops of the process by their names, and Vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct HealthChecks {
    /// Vault.
    vault: VaultCheck,
    /// Loops that must live.
    #[serde(flatten)]
    loops: BTreeMap<String, Check>,
}

/// How Vault stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct VaultCheck {
    /// Whether secrets come from it.
    enabled: bool,
    /// `disabled` when they do not; else `not_initialized`, `healthy` or `unhealthy`. The process lives in each case.
    status: String,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl VaultCheck {
    fn of(vault: Option<&Held>) -> Self {
        let (status, error) = match vault.map(Held::standing) {
            None => ("disabled", None),
            Some(Standing::Unasked) => ("not_initialized", None),
            Some(Standing::Good) => ("healthy", None),
            Some(Standing::Failing(error)) => ("unhealthy", Some(error)),
        };
        Self { enabled: vault.is_some(), status: status.to_owned(), error }
    }
}

/// Whether the worker takes tickets (`contracts/engine.md §8`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Ready {
    /// Whether it does.
    ready: bool,
    /// What that takes, by name, and how much it has to do.
    checks: ReadyChecks,
}

/// What readiness takes, by name, and how much the worker has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct ReadyChecks {
    /// Whether it is in the Service Registry; readiness does not depend on that.
    registered: bool,
    /// Attempts that run on it.
    active_tasks: i64,
    /// Attempts that may run on it at once.
    max_concurrent: usize,
    /// What must pass.
    #[serde(flatten)]
    named: BTreeMap<String, Check>,
}

/// Whether the process lives. 503 once a loop that must live is dead (INC-17).
#[utoipa::path(
    get,
    path = "/health",
    tag = "probes",
    responses(
        (status = 200, description = "All loops live", body = Health),
        (status = 503, description = "A loop is dead", body = Health)
    )
)]
pub(super) async fn health(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let (ok, loops) = api.surface().health.liveness();
    let health = Health {
        status: if ok { "healthy" } else { "unhealthy" }.to_owned(),
        agent_id: api.identity().agent_id.clone(),
        timestamp: now_ms(),
        checks: HealthChecks { vault: VaultCheck::of(api.vault()), loops },
    };
    (code(ok), Json(health))
}

/// Whether the worker takes tickets. A real 503 while it does not (INC-49).
#[utoipa::path(
    get,
    path = "/ready",
    tag = "probes",
    responses(
        (status = 200, description = "All checks pass", body = Ready),
        (status = 503, description = "Some do not", body = Ready)
    )
)]
pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Ready>) {
    let (ready, named) = api.surface().health.readiness();
    let checks = ReadyChecks {
        registered: api.is_registered(),
        active_tasks: api.metrics().active_tasks.get(),
        max_concurrent: api.identity().max_concurrent_tasks,
        named: named.into_iter().map(|(name, check)| (name.to_owned(), check)).collect(),
    };
    (code(ready), Json(Ready { ready, checks }))
}

/// The worker's metrics and those of the Temporal SDK.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "probes",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let surface = api.surface();
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
