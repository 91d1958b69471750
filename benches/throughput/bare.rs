//! The bare loop of the same SDK: a workflow with one activity, started by raw gRPC. It decodes nothing, reports
//! nothing and writes no log line. Its start carries as many bytes and the same search attributes as the product's, ids
//! as distinct as tickets have them: what they cost is the server's, whoever sends them. A figure's
//! `bare_without_search_attributes` says how much.

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
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads, SearchAttributes, WorkflowType};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::{ActivityOptions, Runtime, Worker, WorkflowContext, WorkflowResult};
use ticket_workflows::{INTENT_ID, PLAN_ID, TICKET_ID};
use tokio::sync::{Notify, Semaphore};
use tonic::{Code, Request};
use uuid::Uuid;
use worker_agents::config::Config;
use worker_agents::temporal;

use crate::history::{self, PayloadSizes};
use crate::meter::{Meter, Sample};

/// The name that the macro gives the workflow.
const WORKFLOW_TYPE: &str = "BareWorkflow";
/// Its task queue.
const TASK_QUEUE: &str = "bench-bare";

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

/// The activity of the bare workflow.
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

/// The bare workflow. Its name is its workflow type.
#[workflow]
#[derive(Default)]
pub struct BareWorkflow;

#[workflow_methods]
impl BareWorkflow {
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
    search_attributes: Option<SearchAttributes>,
}

impl BareStarter {
    pub(crate) fn new(client: Client, task_queue: &str, sizes: PayloadSizes) -> Self {
        let input = format!("\"{}\"", "x".repeat(text_of(sizes.input))).into_bytes();
        Self { client, task_queue: task_queue.to_owned(), input, search_attributes: None }
    }

    /// Starts with these search attributes.
    pub(crate) fn with(mut self, search_attributes: Option<&SearchAttributes>) -> Self {
        self.search_attributes = search_attributes.cloned();
        self
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
            search_attributes: self.search_attributes.clone().map(of_its_own),
            ..StartWorkflowExecutionRequest::default()
        };
        let mut service = self.client.connection().workflow_service();
        let mut answer = service.start_workflow_execution(Request::new(request.clone())).await;
        // The server closes connections that are five minutes old, under calls as well. The same request starts nothing twice.
        if answer.as_ref().is_err_and(|status| status.code() == Code::Cancelled) {
            answer = service.start_workflow_execution(Request::new(request)).await;
        }
        answer?;
        Ok(asked.elapsed())
    }

    /// `count` starts, `in_flight` at once, each from a task of its own; their durations.
    pub(crate) async fn starts(&self, count: usize, in_flight: usize) -> anyhow::Result<Vec<Duration>> {
        stream::iter(0..count)
            .map(|_| {
                let starter = self.clone();
                let task = tokio::spawn(async move { starter.start(new_id()).await });
                async { task.await? }
            })
            .buffer_unordered(in_flight)
            .try_collect()
            .await
    }
}

/// The bare loop: a worker and its starter.
pub(crate) struct Bare {
    client: Client,
    config: Config,
    runtime: Runtime,
    sizes: PayloadSizes,
    progress: &'static Progress,
}

impl Bare {
    /// A loop held to the product's pollers, slots, cache and payload sizes. There is one in a process.
    pub(crate) fn new(config: &Config, client: &Client, sizes: PayloadSizes) -> anyhow::Result<Self> {
        let mut config = config.clone();
        TASK_QUEUE.clone_into(&mut config.temporal.task_queue);
        let progress = Progress { sizes, free: Semaphore::new(0), ended: AtomicUsize::new(0), changed: Notify::new() };
        Ok(Self {
            client: client.clone(),
            config,
            // Without metrics.
            runtime: temporal::runtime(None)?,
            sizes,
            progress: PROGRESS.get_or_init(|| progress),
        })
    }

    /// A starter of its workflows.
    pub(crate) fn starter(&self) -> BareStarter {
        BareStarter::new(self.client.clone(), TASK_QUEUE, self.sizes)
    }

    /// Workflows a second, `open` at once, from the first start to the last workflow's end. `open` others go before.
    pub(crate) async fn end_to_end(
        &self,
        starter: &BareStarter,
        meter: &Meter,
        open: usize,
        count: usize,
    ) -> anyhow::Result<Sample> {
        self.with_worker(async {
            self.run(starter, open, open).await?;
            meter.rate(count, self.run(starter, open, count)).await
        })
        .await
    }

    /// The history of one workflow.
    pub(crate) async fn one_history(&self) -> anyhow::Result<Vec<HistoryEvent>> {
        let workflow_id = new_id();
        self.with_worker(async {
            self.starter().start(workflow_id.clone()).await?;
            history::of_closed(&self.client, &workflow_id).await
        })
        .await
    }

    /// Runs a worker beside `work`.
    async fn with_worker<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let answer = "x".repeat(text_of(self.sizes.activity_result));
        let mut options = temporal::worker_options(&self.config);
        options.register_activities(BareActivities { answer }).register_workflow::<BareWorkflow>()?;
        let mut worker = Worker::new(&self.runtime, self.client.clone(), options)?;
        let shutdown = worker.shutdown_handle();
        let work = async {
            let done = tokio::time::timeout(PATIENCE, work).await;
            shutdown();
            done.context("not every workflow ended")?
        };
        let (ran, done) = tokio::join!(worker.run(), work);
        ran?;
        done
    }

    async fn run(&self, starter: &BareStarter, open: usize, count: usize) -> anyhow::Result<()> {
        let progress = self.progress;
        progress.free.forget_permits(usize::MAX);
        progress.free.add_permits(open);
        let before = progress.ended.load(Ordering::SeqCst);
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..count {
            progress.free.acquire().await?.forget();
            let starter = starter.clone();
            starts.spawn(async move { starter.start(new_id()).await });
        }
        while progress.ended.load(Ordering::SeqCst) < before + count {
            progress.changed.notified().await;
        }
        for started in starts.join_all().await {
            started?;
        }
        Ok(())
    }
}

/// With ids that no other workflow has: an index takes longer for each value that is new.
fn of_its_own(mut attributes: SearchAttributes) -> SearchAttributes {
    for name in [TICKET_ID.name(), PLAN_ID.name(), INTENT_ID.name()] {
        if let Some(value) = attributes.indexed_fields.get_mut(name) {
            value.data = format!("\"{}\"", Uuid::new_v4()).into_bytes();
        }
    }
    attributes
}

fn new_id() -> String {
    format!("bare-{}", Uuid::new_v4())
}
