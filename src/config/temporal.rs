//! The engine. Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_TLS_*`, …) and `temporal.toml` profiles work as in every
//! SDK; here are those that this product reads itself.

use temporalio_common::worker::{VersioningBehavior, WorkerDeploymentOptions, WorkerDeploymentVersion};

use super::reader::Reader;
use super::secrets::{SecretSource, Shown, secret_names};

/// Longest name and longest build id that a server takes, unless its `limit.maxIDLength` is below 1000.
const MAX_VERSION_PART: usize = 480;

/// Temporal settings.
#[derive(Debug, Clone)]
pub struct TemporalConfig {
    /// `TEMPORAL_ADDRESS`, or `TEMPORAL_HOST`:`TEMPORAL_PORT`; `None`: what the SDK's profile says.
    pub address: Option<String>,
    /// `TEMPORAL_NAMESPACE`; `None`: what the SDK's profile says.
    pub namespace: Option<String>,
    /// `TEMPORAL_API_KEY`, its file, or Vault; `None`: what the SDK's profile says.
    pub api_key: Option<SecretSource>,
    /// `TEMPORAL_TASK_QUEUE`.
    pub task_queue: String,
    /// `TEMPORAL_UI_URL`: for links.
    pub ui_url: Option<String>,
    /// `TEMPORAL_MAX_CACHED_WORKFLOWS`: sticky cache of this worker.
    pub max_cached_workflows: usize,
    /// `TEMPORAL_GRPC_COMPRESSION`: whether calls are compressed. Worth it where bytes cost more than the server's CPU.
    pub compressed: bool,
    /// `TEMPORAL_DEPLOYMENT_NAME`, `TEMPORAL_WORKER_BUILD_ID` and `TEMPORAL_VERSIONING_BEHAVIOR`: the worker's version.
    /// `None`: it has none.
    pub deployment: Option<WorkerDeploymentOptions>,
}

impl TemporalConfig {
    /// A ticket's page in the Temporal UI, when `TEMPORAL_UI_URL` is set.
    #[must_use]
    pub fn ticket_url(&self, ticket_id: &str) -> Option<String> {
        let base = self.ui_url.as_deref()?.trim_end_matches('/');
        let namespace = self.namespace.as_deref().unwrap_or("default");
        Some(format!("{base}/namespaces/{namespace}/workflows/{}", ticket_workflows::workflow_id(ticket_id)))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let address = reader.optional("TEMPORAL_ADDRESS", "host:port of the Temporal frontend");
        if let Some(address) = &address
            && let Err(error) = crate::temporal::target(address, false)
        {
            reader.error(format!("{error:#}"));
        }
        let host = reader.optional("TEMPORAL_HOST", "host of the Temporal frontend, when TEMPORAL_ADDRESS is not set");
        let port = reader.number("TEMPORAL_PORT", 7233, 1, "port of the Temporal frontend, with TEMPORAL_HOST");
        if !reader.boolean("ENABLE_TEMPORAL_ACTIVITIES", true, "Temporal is the engine; false has no effect") {
            reader.warn(
                "ENABLE_TEMPORAL_ACTIVITIES=false has no effect: Temporal is the engine of this worker".to_owned(),
            );
        }
        Self {
            address: address.or_else(|| host.map(|host| format!("{host}:{port}"))),
            namespace: reader.optional("TEMPORAL_NAMESPACE", "namespace of all tickets"),
            api_key: reader.secret(
                &secret_names!("TEMPORAL_API_KEY", "API key for Temporal", ", which then is called with TLS"),
                Shown::Hidden,
            ),
            task_queue: reader.text("TEMPORAL_TASK_QUEUE", "worker-agents", "task queue of workflows and executors"),
            ui_url: reader.optional("TEMPORAL_UI_URL", "base URL of the Temporal UI, for links; added by this product"),
            max_cached_workflows: usize::try_from(reader.number(
                "TEMPORAL_MAX_CACHED_WORKFLOWS",
                200,
                1,
                "workflows kept in memory by this worker; added by this product",
            ))
            .unwrap_or(usize::MAX),
            compressed: reader
                .one_of(
                    "TEMPORAL_GRPC_COMPRESSION",
                    &[("none", false), ("gzip", true)],
                    "none",
                    "none, or gzip: fewer bytes, about a fifth more server CPU for a start; added by this product",
                )
                .unwrap_or_default(),
            deployment: deployment(reader),
        }
    }
}

/// The worker's version, which needs a name and a build id.
fn deployment(reader: &mut Reader<'_>) -> Option<WorkerDeploymentOptions> {
    let name = version_part(
        reader,
        "TEMPORAL_DEPLOYMENT_NAME",
        &['.', ':'],
        "Worker Deployment of this worker, with TEMPORAL_WORKER_BUILD_ID; unset: no version; added by this product",
    );
    let build_id = version_part(
        reader,
        "TEMPORAL_WORKER_BUILD_ID",
        &[],
        "which build of the deployment this worker is; added by this product",
    );
    let behavior = reader.one_of(
        "TEMPORAL_VERSIONING_BEHAVIOR",
        &[("auto_upgrade", VersioningBehavior::AutoUpgrade), ("pinned", VersioningBehavior::Pinned)],
        "auto_upgrade",
        "auto_upgrade: open tickets move to the current version; pinned: they end on theirs; added by this product",
    );
    match (name, build_id) {
        (Some(name), Some(build_id)) => {
            let version = WorkerDeploymentVersion::builder().deployment_name(name).build_id(build_id).build();
            let options = WorkerDeploymentOptions::new(version).use_worker_versioning(true);
            Some(options.maybe_default_versioning_behavior(behavior).build())
        }
        (None, None) => {
            if behavior == Some(VersioningBehavior::Pinned) {
                reader.warn(
                    "TEMPORAL_VERSIONING_BEHAVIOR=pinned has no effect without TEMPORAL_DEPLOYMENT_NAME and \
                     TEMPORAL_WORKER_BUILD_ID"
                        .to_owned(),
                );
            }
            None
        }
        _ => {
            reader.error(
                "TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID belong together: set both, or neither for a \
                 worker without a version"
                    .to_owned(),
            );
            None
        }
    }
}

/// A name that the server takes as a part of a version's.
fn version_part(reader: &mut Reader<'_>, name: &'static str, forbidden: &[char], help: &'static str) -> Option<String> {
    let text = reader.optional(name, help)?;
    if text.len() > MAX_VERSION_PART || text.starts_with("__") || text.contains(forbidden) {
        let without: String = forbidden.iter().map(|character| format!(", without {character:?}")).collect();
        reader.error(format!(
            "{name}={text:?}: expected at most {MAX_VERSION_PART} bytes, not beginning with \"__\"{without}"
        ));
    }
    Some(text)
}
