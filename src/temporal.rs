//! The engine: connection, namespace checks, and the worker, supervised.

mod versions;

use std::time::{Duration, SystemTime};

use temporalio_client::envconfig::LoadClientConfigProfileOptions;
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, GrpcCompression, NamespacedClient as _, Url,
};
use temporalio_common::protos::temporal::api::enums::v1::{IndexedValueType, TaskQueueType};
use temporalio_common::protos::temporal::api::operatorservice::v1::{
    AddSearchAttributesRequest, ListSearchAttributesRequest,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueue};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, DescribeTaskQueueRequest, DescribeTaskQueueResponse,
};
use temporalio_common::telemetry::TelemetryOptions;
use temporalio_common::worker::WorkerDeploymentVersion;
use temporalio_sdk::runtime::worker_tuner::{FixedSizeSlotSupplier, TunerHolder};
use temporalio_sdk::runtime::{PollerBehavior, RuntimeOptions};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use ticket_activities::Activities;
use ticket_workflows::{SearchAttribute, TicketWaiters, TicketWorkflow, search_attributes};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::config::{Config, Secret, SecretSource};
use crate::health::Health;
use crate::sdk_metrics::SdkMetrics;

pub use versions::{Ramp, Routing, named, pinned_to, version_status};

/// How long connecting may take before it counts as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at an API key that may change.
const API_KEY_INTERVAL: Duration = Duration::from_secs(2);
/// How long a set-up call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Between a worker's failure and its next start.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Heartbeats of executors are never held back longer than this: cancel requests arrive on their answers.
const MAX_HEARTBEAT_THROTTLE: Duration = Duration::from_secs(1);
/// The liveness entry of the worker.
pub const WORKER_LOOP: &str = "temporal_worker";

/// The SDK's runtime; its metrics go to `metrics`.
///
/// # Errors
/// When telemetry cannot be set up.
pub fn runtime(metrics: Option<&SdkMetrics>) -> anyhow::Result<Runtime> {
    let telemetry = TelemetryOptions::builder().maybe_metrics(metrics.map(SdkMetrics::meter)).build();
    let options = RuntimeOptions::builder().telemetry_options(telemetry).build().map_err(anyhow::Error::msg)?;
    Ok(Runtime::from_current_tokio(options)?)
}

/// Connects to the server named by the settings, or by the SDK's own variables and profiles.
///
/// # Errors
/// One sentence that names the address and what to do.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    let (mut connection, mut client) = sdk_options()?;
    if let Some(key) = &config.temporal.api_key {
        connection.api_key = Some(key.read().map_err(anyhow::Error::msg)?.expose().to_owned());
    }
    if let Some(address) = &config.temporal.address {
        connection.target = target(address, connection.tls_options.is_some() || connection.api_key.is_some())?;
    }
    if let Some(namespace) = &config.temporal.namespace {
        client.namespace.clone_from(namespace);
    }
    connection.identity = format!("worker-agents@{}", config.identity.agent_id);
    connection.connect_timeout = Some(CONNECT_TIMEOUT);
    connection.grpc_compression =
        if config.temporal.compressed { GrpcCompression::Gzip } else { GrpcCompression::None };
    let address = connection.target.clone();
    let connected = tokio::time::timeout(CONNECT_TIMEOUT * 2, Connection::connect(connection)).await;
    let connected = connected.map_err(anyhow::Error::from).and_then(|result| result.map_err(anyhow::Error::from));
    let connection = connected.map_err(|error| {
        anyhow::anyhow!("no Temporal server answered at {address} ({error}); check TEMPORAL_ADDRESS and the network")
    })?;
    Ok(Client::new(connection, client)?)
}

/// What the SDK's own variables and profiles say.
fn sdk_options() -> anyhow::Result<(ConnectionOptions, ClientOptions)> {
    ClientOptions::load_from_config(LoadClientConfigProfileOptions::default()).map_err(|error| {
        anyhow::anyhow!("the Temporal profile cannot be read: {error}; check TEMPORAL_* and temporal.toml")
    })
}

/// The secrets of the SDK's own variables and profiles, which must not be in logs.
///
/// # Errors
/// When a profile cannot be read.
pub fn sdk_secrets() -> anyhow::Result<Vec<SecretSource>> {
    let (connection, _) = sdk_options()?;
    Ok(secrets_of(&connection).map(|secret| SecretSource::of_text("TEMPORAL_*", secret)).collect())
}

/// The API key, the client's key, and what headers hold; of `Bearer …` the token.
fn secrets_of(connection: &ConnectionOptions) -> impl Iterator<Item = Secret> {
    let tls = connection.tls_options.as_ref().and_then(|tls| tls.client_tls_options.as_ref());
    let key = tls.map(|tls| String::from_utf8_lossy(&tls.client_private_key).into_owned());
    let headers = connection.headers.iter().flatten();
    let headers = headers.filter_map(|(_, value)| Some(value.split_whitespace().last()?.to_owned()));
    connection.api_key.clone().into_iter().chain(key).chain(headers).map(Secret::new)
}

/// Gives the connection each new API key, until stopped. Calls take it from their next one on.
pub async fn follow_api_key(key: Option<SecretSource>, client: Client, stop: CancellationToken) {
    let Some(key) = key.filter(SecretSource::changes) else { return };
    let mut known = None;
    let mut ticks = tokio::time::interval(API_KEY_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // What cannot be read now leaves the last one in force.
        let Ok(read) = key.read() else { continue };
        if known.as_ref() != Some(&read) {
            // The first one too: it may have changed since the connection was made.
            client.connection().set_api_key(Some(read.expose().to_owned()));
            if known.replace(read).is_some() {
                tracing::info!(setting = key.setting(), "temporal_api_key_renewed");
            }
        }
    }
}

/// The address as the client wants it.
///
/// # Errors
/// When it is none.
pub(crate) fn target(address: &str, tls: bool) -> anyhow::Result<Url> {
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("{}://{address}", if tls { "https" } else { "http" })
    };
    with_scheme
        .parse()
        .map_err(|error| anyhow::anyhow!("TEMPORAL_ADDRESS={address:?} is no address ({error}); expected host:port"))
}

/// What is wrong with the namespace's search attributes.
#[derive(Debug, Clone, Default)]
pub struct SearchAttributeFaults {
    /// It lacks these.
    pub missing: Vec<SearchAttribute>,
    /// It has these with another type.
    pub mistyped: Vec<SearchAttribute>,
}

/// Compares the namespace's search attributes with those of tickets.
///
/// # Errors
/// When the server cannot be asked, or the namespace does not exist.
pub async fn search_attribute_faults(client: &Client) -> Result<SearchAttributeFaults, tonic::Status> {
    let mut request = Request::new(ListSearchAttributesRequest { namespace: client.namespace() });
    request.set_timeout(CALL_TIMEOUT);
    let existing = client.connection().operator_service().list_search_attributes(request).await?;
    let existing = existing.into_inner().custom_attributes;
    let mut faults = SearchAttributeFaults::default();
    for wanted in search_attributes() {
        match existing.get(wanted.name) {
            None => faults.missing.push(wanted),
            Some(kind) if *kind != i32::from(indexed_type(&wanted)) => faults.mistyped.push(wanted),
            Some(_) => {}
        }
    }
    Ok(faults)
}

/// What the server says about the namespace.
#[derive(Debug, Clone)]
pub struct DescribedNamespace {
    /// How long closed workflows are remembered.
    pub retention: Option<Duration>,
    /// The server's time, when it (or a proxy before it) tells it in its answer.
    pub date: Option<SystemTime>,
}

/// Describes the namespace.
///
/// # Errors
/// When the server cannot be asked, or the namespace does not exist.
pub async fn describe_namespace(client: &Client) -> Result<DescribedNamespace, tonic::Status> {
    let request = DescribeNamespaceRequest { namespace: client.namespace(), ..DescribeNamespaceRequest::default() };
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    let answer = client.connection().workflow_service().describe_namespace(request).await?;
    let date = answer.metadata().get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let retention = answer.into_inner().config.and_then(|config| config.workflow_execution_retention_ttl);
    Ok(DescribedNamespace { retention: retention.and_then(|retention| retention.try_into().ok()), date })
}

/// When the server saw the newest poll of a worker, by its own clock; `of` one version, or of any. `None`: no such worker
/// polls.
///
/// # Errors
/// When the server cannot be asked.
pub async fn newest_poll(
    client: &Client,
    task_queue: &str,
    of: Option<&WorkerDeploymentVersion>,
) -> Result<Option<SystemTime>, tonic::Status> {
    Ok(newest_of(describe_task_queue(client, task_queue).await?, of))
}

/// As [`newest_poll`], of a description.
#[must_use]
pub fn newest_of(described: DescribeTaskQueueResponse, of: Option<&WorkerDeploymentVersion>) -> Option<SystemTime> {
    let wanted = |poller: &PollerInfo| of.is_none_or(|version| versions::polls_for(poller, version));
    let polls = described.pollers.into_iter().filter(wanted);
    polls.filter_map(|poller| SystemTime::try_from(poller.last_access_time?).ok()).max()
}

/// Describes the task queue: who polls it for workflow tasks, and where its tickets go.
///
/// # Errors
/// When the server cannot be asked.
pub async fn describe_task_queue(
    client: &Client,
    task_queue: &str,
) -> Result<DescribeTaskQueueResponse, tonic::Status> {
    let mut request = Request::new(DescribeTaskQueueRequest {
        namespace: client.namespace(),
        task_queue: Some(TaskQueue { name: task_queue.to_owned(), ..TaskQueue::default() }),
        task_queue_type: TaskQueueType::Workflow.into(),
        ..DescribeTaskQueueRequest::default()
    });
    request.set_timeout(CALL_TIMEOUT);
    Ok(client.connection().workflow_service().describe_task_queue(request).await?.into_inner())
}

/// Creates search attributes.
///
/// # Errors
/// When the server refuses.
pub async fn create_search_attributes(client: &Client, missing: &[SearchAttribute]) -> anyhow::Result<()> {
    let mut request = Request::new(AddSearchAttributesRequest {
        namespace: client.namespace(),
        search_attributes: missing
            .iter()
            .map(|attribute| (attribute.name.to_owned(), indexed_type(attribute).into()))
            .collect(),
    });
    request.set_timeout(CALL_TIMEOUT);
    client.connection().operator_service().add_search_attributes(request).await?;
    Ok(())
}

fn indexed_type(attribute: &SearchAttribute) -> IndexedValueType {
    match attribute.kind {
        "Datetime" => IndexedValueType::Datetime,
        _ => IndexedValueType::Keyword,
    }
}

/// Builds the worker: workflow and executors on one task queue.
///
/// # Errors
/// When the SDK refuses the options.
pub fn worker(runtime: &Runtime, client: &Client, config: &Config, activities: &Activities) -> anyhow::Result<Worker> {
    let mut options = worker_options(config);
    options
        .register_activities(activities.clone())
        .register_workflow::<TicketWorkflow>()?
        .register_workflow::<TicketWaiters>()?;
    Ok(Worker::new(runtime, client.clone(), options)?)
}

/// The worker without its workflow and activities: `MAX_CONCURRENT_TASKS` executor slots, eager starts, the version. A
/// bench holds its bare worker to the same.
#[must_use]
pub fn worker_options(config: &Config) -> WorkerOptions {
    let tasks = config.identity.max_concurrent_tasks;
    let tuner = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(WORKFLOW_SLOTS))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(tasks))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(LOCAL_ACTIVITY_SLOTS))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    WorkerOptions::new(config.temporal.task_queue.clone())
        .tuner(tuner)
        .max_cached_workflows(config.temporal.max_cached_workflows)
        .max_heartbeat_throttle_interval(MAX_HEARTBEAT_THROTTLE)
        .graceful_shutdown_period(config.http.shutdown_grace)
        .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(WORKFLOW_POLLERS))
        .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(ACTIVITY_POLLERS.min(tasks)))
        .maybe_deployment_options(config.temporal.deployment.clone())
        .build()
}

/// Workflow tasks at once. A ticket's workflow task takes a millisecond or two; its report runs within it.
const WORKFLOW_SLOTS: usize = 40;
/// Reports at once.
const LOCAL_ACTIVITY_SLOTS: usize = 40;
/// Concurrent polls.
const WORKFLOW_POLLERS: usize = 5;
/// As [`WORKFLOW_POLLERS`].
const ACTIVITY_POLLERS: usize = 5;

/// Runs the worker until stopped. One that ends by itself is started again, and `/health` says so meanwhile.
pub async fn run_supervised(
    build: impl Fn() -> anyhow::Result<Worker>,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let mut worker = build()?;
        let shutdown = worker.shutdown_handle();
        health.alive(WORKER_LOOP);
        health.ready(WORKER_LOOP);
        let stopping = stop.clone();
        let trigger = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            stopping.cancelled().await;
            shutdown();
        }));
        let result = worker.run().await;
        drop(trigger);
        if stop.is_cancelled() {
            return result.map_err(anyhow::Error::from);
        }
        let error = result.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
        tracing::error!(error, "temporal_worker_ended; it is started again");
        health.dead(WORKER_LOOP, error.clone());
        health.not_ready(WORKER_LOOP, error);
        if stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use temporalio_client::{ClientTlsOptions, TlsOptions};

    use super::*;

    #[test]
    fn what_the_sdk_is_told_by_its_own_variables_is_secret_too() {
        let tls = ClientTlsOptions::builder().client_cert(b"a certificate".to_vec());
        let tls = tls.client_private_key(b"a private key".to_vec()).build();
        let headers = [("authorization", "Bearer a-token"), ("x-key", "a-key"), ("x-empty", "")];
        let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let connection = ConnectionOptions::new(target("temporal:7233", true).expect("an address"))
            .api_key("an API key")
            .tls_options(TlsOptions::builder().client_tls_options(tls).build())
            .headers(headers)
            .build();
        let mut secrets: Vec<_> = secrets_of(&connection).map(|secret| secret.expose().to_owned()).collect();
        secrets.sort();
        assert_eq!(secrets, ["a private key", "a-key", "a-token", "an API key"]);
    }
}
