//! Records the histories of `tests/histories/examples` and `tests/histories/red` from the dev server, those that are not
//! there: a recorded history is never changed. `cargo test --test replay -- --ignored record`
#![cfg(feature = "dev-stack")]

use std::time::Duration;

use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, WorkflowExecuteUpdateOptions,
    WorkflowFetchHistoryOptions, WorkflowHandle, WorkflowStartOptions, WorkflowTerminateOptions,
};
use temporalio_common::UntypedWorkflow;
use temporalio_common::data_converters::{PayloadConverter, RawValue};
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::{History, HistoryEvent};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use ticket_workflows::TicketWorkflow;
use worker_agents::dev::temporal::TemporalDevServer;

use crate::dev_server;
use crate::everything::Everything;
use crate::history::root;
use crate::parcel::{self, deprecated, old, patched, plain, slower};

const TASK_QUEUE: &str = "examples";
const PATIENCE: Duration = Duration::from_secs(60);

type Code = fn(&mut WorkerOptions);

macro_rules! code {
    ($($workflow:ty),+) => {
        |options| {
            options.register_activities(parcel::Activities);
            $(options.register_workflow::<$workflow>().expect("registered");)+
        }
    };
}

struct Recorder {
    client: Client,
    runtime: Runtime,
}

impl Recorder {
    async fn new(server: &TemporalDevServer) -> Self {
        let url = Url::parse(&format!("http://{}", server.address())).expect("an address");
        let connection = Connection::connect(ConnectionOptions::new(url).build()).await.expect("connected");
        let client = Client::new(connection, ClientOptions::new("default").build()).expect("a client");
        Self { client, runtime: worker_agents::temporal::runtime(None).expect("a runtime") }
    }

    /// Runs a worker of this code until `work` is done.
    async fn with<T>(&self, code: Code, work: impl Future<Output = T>) -> T {
        let mut options = WorkerOptions::new(TASK_QUEUE).build();
        code(&mut options);
        let mut worker = Worker::new(&self.runtime, self.client.clone(), options).expect("a worker");
        let shutdown = worker.shutdown_handle();
        let work = async {
            let done = tokio::time::timeout(PATIENCE, work).await.expect("done in time");
            shutdown();
            done
        };
        let (ran, done) = tokio::join!(worker.run(), work);
        ran.expect("the worker ran");
        done
    }

    async fn start(&self, workflow_type: &str, id: &str, input: &str) -> WorkflowHandle<Client, UntypedWorkflow> {
        let input = RawValue::from_value(&input.to_owned(), &PayloadConverter::default());
        let options = WorkflowStartOptions::new(TASK_QUEUE, id).build();
        self.client.start_workflow(UntypedWorkflow::new(workflow_type), input, options).await.expect("started")
    }

    /// The history of the run, once it has such an event.
    async fn history(&self, handle: &WorkflowHandle<Client, UntypedWorkflow>, until: EventType) -> Vec<HistoryEvent> {
        loop {
            let history = handle.fetch_history(WorkflowFetchHistoryOptions::default());
            let events = history.into_events().await.expect("a history");
            if events.iter().any(|event| event.event_type() == until) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn complete(&self, code: Code, file: &str) {
        let id = file.replace(['/', '.'], "-");
        let handle = self.start("Parcel", &id, "a parcel").await;
        let events = self.with(code, self.history(&handle, EventType::WorkflowExecutionCompleted)).await;
        write(file, events);
    }
}

fn write(file: &str, events: Vec<HistoryEvent>) {
    let path = root().join(file);
    if path.exists() {
        println!("{file} is there already");
        return;
    }
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, serde_json::to_vec(&History { events }).expect("JSON")).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes what is missing in tests/histories/examples and tests/histories/red"]
async fn record() {
    let server = TemporalDevServer::start(dev_server::options()).await.expect("a server");
    let recorder = Recorder::new(&server).await;
    recorder.complete(code!(old::Parcel), "examples/parcel-old.json").await;
    recorder.complete(code!(patched::Parcel), "examples/parcel-patched.json").await;
    recorder.complete(code!(deprecated::Parcel), "examples/parcel-deprecated.json").await;
    recorder.complete(code!(plain::Parcel), "examples/parcel-plain.json").await;
    recorder.complete(code!(slower::Parcel), "red/parcel-other-timer.json").await;
    record_everything(&recorder).await;
    record_stuck_parcel(&recorder).await;
    record_stuck_ticket(&recorder).await;
    server.stop().await;
}

async fn record_everything(recorder: &Recorder) {
    let handle = recorder.start("Everything", "everything", "a parcel").await;
    let events = recorder
        .with(code!(Everything), async {
            recorder.history(&handle, EventType::TimerStarted).await;
            let typed: WorkflowHandle<Client, Everything> = recorder.client.get_workflow_handle("everything");
            let options = WorkflowExecuteUpdateOptions::default();
            typed.execute_update(Everything::tell, "go on".to_owned(), options).await.expect("an answer");
            recorder.history(&handle, EventType::WorkflowExecutionContinuedAsNew).await
        })
        .await;
    write("examples/everything.json", events);
}

/// Old code until the label dries, then code that lacks the patch: each workflow task fails. The old code gets it on.
async fn record_stuck_parcel(recorder: &Recorder) {
    let handle = recorder.start("Parcel", "parcel-stuck", "a parcel").await;
    recorder.with(code!(old::Parcel), recorder.history(&handle, EventType::TimerStarted)).await;
    let events = recorder.with(code!(plain::Parcel), recorder.history(&handle, EventType::WorkflowTaskFailed)).await;
    write("red/parcel-stuck.json", events);
    let events = recorder.with(code!(old::Parcel), recorder.history(&handle, EventType::WorkflowExecutionCompleted));
    write("examples/parcel-recovered.json", events.await);
}

/// A ticket whose input is none: each workflow task fails.
async fn record_stuck_ticket(recorder: &Recorder) {
    let handle = recorder.start("TicketWorkflow", "ticket-stuck", "no ticket").await;
    let events = recorder.with(code!(TicketWorkflow), recorder.history(&handle, EventType::WorkflowTaskFailed)).await;
    write("red/ticket-stuck.json", events);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
}
