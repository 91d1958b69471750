//! The bare loop of the same SDK: a workflow with one activity, started by raw gRPC. It decodes nothing, reports
//! nothing, writes no log line and no search attribute; its payloads are as large as the product's.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the macros expand to undocumented public marker types"
)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads, WorkflowType};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::{ActivityOptions, Runtime, Worker, WorkflowContext, WorkflowResult};
use tokio::sync::{Notify, Semaphore};
use tonic::Request;
use uuid::Uuid;
use worker_agents::config::Config;
use worker_agents::temporal;

use crate::history::PayloadSizes;

/// The name that the macro gives the workflow.
const WORKFLOW_TYPE: &str = "Bare";

/// Longest time one run may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What workflows tell the loop: there is no cheaper way to see one end, a long poll of its history costs 70 ms.
struct Progress {
    sizes: PayloadSizes,
    free: Semaphore,
    ended: AtomicUsize,
    changed: Notify,
}

static PROGRESS: OnceLock<Progress> = OnceLock::new();

impl Progress {
    fn workflow_ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.free.add_permits(1);
        self.changed.notify_one();
    }
}

pub struct BareActivities {
    answer: String,
}

#[activities]
impl BareActivities {
    #[activity]
    pub async fn run(
        self: std::sync::Arc<Self>,
        _ctx: ActivityContext,
        _input: String,
    ) -> Result<String, ActivityError> {
        Ok(self.answer.clone())
    }
}

#[workflow]
#[derive(Default)]
pub struct Bare;

#[workflow_methods]
impl Bare {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, mut input: String) -> WorkflowResult<String> {
        let sizes = PROGRESS.get().map(|progress| progress.sizes).unwrap_or_default();
        input.truncate(text_of(sizes.activity_input));
        let options = ActivityOptions::start_to_close_timeout(Duration::from_secs(60));
        let mut answer = ctx.execute_activity(BareActivities::run, input, options).await?;
        answer.truncate(text_of(sizes.result));
        // Never replayed: the cache holds more than are ever open.
        if let Some(progress) = PROGRESS.get().filter(|_| !ctx.is_replaying()) {
            progress.workflow_ended();
        }
        Ok(answer)
    }
}

/// Length of the text whose JSON form takes `bytes`.
fn text_of(bytes: usize) -> usize {
    bytes.saturating_sub(2)
}

/// Starts bare workflows.
#[derive(Clone)]
pub(crate) struct BareStarter {
    client: Client,
    task_queue: String,
    input: Vec<u8>,
}

impl BareStarter {
    pub(crate) fn new(client: Client, task_queue: &str, sizes: PayloadSizes) -> Self {
        let input = format!("\"{}\"", "x".repeat(text_of(sizes.input))).into_bytes();
        Self { client, task_queue: task_queue.to_owned(), input }
    }

    /// One start; its duration.
    pub(crate) async fn start(&self, workflow_id: String) -> anyhow::Result<Duration> {
        let asked = Instant::now();
        let input = Payload {
            metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
            data: self.input.clone(),
            ..Payload::default()
        };
        let request = StartWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            workflow_id,
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.to_owned() }),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            input: Some(Payloads { payloads: vec![input] }),
            identity: self.client.identity(),
            request_id: Uuid::new_v4().to_string(),
            ..StartWorkflowExecutionRequest::default()
        };
        self.client.connection().workflow_service().start_workflow_execution(Request::new(request)).await?;
        Ok(asked.elapsed())
    }

    /// `count` starts, `in_flight` at once, each from a task of its own; their durations.
    pub(crate) async fn starts(&self, count: usize, in_flight: usize) -> anyhow::Result<Vec<Duration>> {
        stream::iter(0..count)
            .map(|_| {
                let starter = self.clone();
                let task = tokio::spawn(async move { starter.start(format!("bare-{}", Uuid::new_v4())).await });
                async { task.await? }
            })
            .buffer_unordered(in_flight)
            .try_collect()
            .await
    }
}

/// The bare worker: the product's pollers, slots and cache.
pub(crate) fn worker(
    runtime: &Runtime,
    client: &Client,
    config: &Config,
    sizes: PayloadSizes,
) -> anyhow::Result<Worker> {
    let in_flight = usize::try_from(config.bridge.max_concurrent_tickets)?;
    let progress =
        Progress { sizes, free: Semaphore::new(in_flight), ended: AtomicUsize::new(0), changed: Notify::new() };
    anyhow::ensure!(PROGRESS.set(progress).is_ok(), "there is one bare worker");
    let answer = "x".repeat(text_of(sizes.activity_result));
    let mut options = temporal::worker_options(config);
    options.register_activities(BareActivities { answer }).register_workflow::<Bare>()?;
    Ok(Worker::new(runtime, client.clone(), options)?)
}

/// One workflow, outside of any measurement; returns when it was started.
pub(crate) async fn one(starter: &BareStarter, workflow_id: &str) -> anyhow::Result<()> {
    let progress = PROGRESS.get().context("the bare worker does not run")?;
    // Given back by its end.
    progress.free.acquire().await?.forget();
    starter.start(workflow_id.to_owned()).await?;
    Ok(())
}

/// Workflows a second, from the first start to the last workflow's end.
pub(crate) async fn end_to_end(starter: &BareStarter, count: usize) -> anyhow::Result<f64> {
    let progress = PROGRESS.get().context("the bare worker does not run")?;
    let before = progress.ended.load(Ordering::SeqCst);
    let mut starts = tokio::task::JoinSet::new();
    let clock = Instant::now();
    for _ in 0..count {
        progress.free.acquire().await?.forget();
        let starter = starter.clone();
        starts.spawn(async move { starter.start(format!("bare-{}", Uuid::new_v4())).await });
        while let Some(started) = starts.try_join_next() {
            started??;
        }
    }
    tokio::time::timeout(PATIENCE, async {
        while progress.ended.load(Ordering::SeqCst) < before + count {
            progress.changed.notified().await;
        }
    })
    .await
    .context("not every workflow ended")?;
    let took = clock.elapsed();
    while let Some(started) = starts.join_next().await {
        started??;
    }
    Ok(count as f64 / took.as_secs_f64())
}
