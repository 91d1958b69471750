//! The engine. Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_*`, …) and
//! `temporal.toml` profiles work as in every SDK; here are those that this product reads itself.

use super::reader::Reader;

/// Temporal settings.
#[derive(Debug, Clone)]
pub struct TemporalConfig {
    /// `TEMPORAL_ADDRESS`, or `TEMPORAL_HOST`:`TEMPORAL_PORT`; `None`: what the SDK's profile says.
    pub address: Option<String>,
    /// `TEMPORAL_NAMESPACE`; `None`: what the SDK's profile says.
    pub namespace: Option<String>,
    /// `TEMPORAL_TASK_QUEUE`.
    pub task_queue: String,
    /// `TEMPORAL_UI_URL`: for links.
    pub ui_url: Option<String>,
    /// `TEMPORAL_MAX_CACHED_WORKFLOWS`: sticky cache of this worker.
    pub max_cached_workflows: usize,
    /// `TEMPORAL_GRPC_COMPRESSION`: whether calls are compressed. Worth it where bytes cost more than the server's CPU.
    pub compressed: bool,
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
        }
    }
}
