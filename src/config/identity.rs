//! Who this worker is, where it runs, and which tickets it takes.

use std::collections::BTreeSet;

use ticket_schemas::TaskType;
use uuid::Uuid;

use super::reader::Reader;

/// Identity and capabilities.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// `AGENT_ID`: the worker's own identity in results; a new random UUID unless set.
    pub agent_id: String,
    /// `ENVIRONMENT`: where this worker runs; some things are allowed in `development` only.
    pub environment: String,
    /// `SERVICE_VERSION`: the version that this worker says it has.
    pub service_version: String,
    /// The Kubernetes namespace that this worker runs in: `POD_NAMESPACE`, or `NAMESPACE` where that is not set or `default`.
    pub namespace: String,
    /// `CLUSTER`: the label of the cluster that this worker runs in.
    pub cluster: String,
    /// `SUPPORTED_TASK_TYPES`: others go to the DLQ.
    pub supported_task_types: BTreeSet<TaskType>,
    /// `BRIDGE_IGNORED_TASK_TYPES`: somebody else takes them from the same topic.
    pub ignored_task_types: BTreeSet<TaskType>,
    /// `MAX_CONCURRENT_TASKS`: attempts that run at once on this worker.
    pub max_concurrent_tasks: usize,
}

impl IdentityConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let agent_id = reader.text("AGENT_ID", &Uuid::new_v4().to_string(), "this worker's identity in results");
        if agent_id.len() > 200 || agent_id.chars().any(char::is_control) {
            reader.error("AGENT_ID: expected at most 200 bytes without control characters".to_owned());
        }
        Self {
            agent_id,
            environment: reader.text(
                "ENVIRONMENT",
                "production",
                "where this worker runs: production, staging, development",
            ),
            service_version: reader.text("SERVICE_VERSION", "1.0.0", "the version that this worker says it has"),
            namespace: namespace(reader),
            cluster: reader.text("CLUSTER", "local", "label of the cluster that this worker runs in"),
            supported_task_types: supported(reader),
            ignored_task_types: reader.words(
                "BRIDGE_IGNORED_TASK_TYPES",
                "",
                "task types that are passed over and counted, because another service takes them (INC-03); added by this product",
            ),
            max_concurrent_tasks: usize::try_from(reader.number(
                "MAX_CONCURRENT_TASKS",
                5,
                1,
                "attempts that run at once on this worker",
            ))
            .unwrap_or(usize::MAX),
        }
    }
}

/// What the cluster says of the pod counts more than what a values file says, unless it says nothing in particular.
fn namespace(reader: &mut Reader<'_>) -> String {
    let of_pod = reader.optional("POD_NAMESPACE", "namespace of this pod; wins over NAMESPACE unless it is default");
    let named = reader.text("NAMESPACE", "neural-hive", "Kubernetes namespace that this worker runs in");
    of_pod.filter(|namespace| namespace != "default").unwrap_or(named)
}

fn supported(reader: &mut Reader<'_>) -> BTreeSet<TaskType> {
    let types = reader.words(
        "SUPPORTED_TASK_TYPES",
        "BUILD,DEPLOY,TEST,VALIDATE,EXECUTE,COMPENSATE,QUERY,TRANSFORM",
        "task types taken from Kafka; a ticket of another type goes to the DLQ",
    );
    if types.is_empty() {
        reader.error("SUPPORTED_TASK_TYPES: at least one task type is needed".to_owned());
    }
    types
}
