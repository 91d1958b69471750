//! A small language for what happens to tickets over hours and days: `world().ticket("b").depends_on("a").run().await`.
//!
//! The workflow, the activities, the start protocol and the server are the real ones; the server skips time whenever
//! nothing runs. Only the executor is scripted, and results are kept instead of published.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage;
use temporalio_common::protos::temporal::api::testservice::v1::{SleepRequest, UnlockTimeSkippingRequest};
use temporalio_common::protos::temporal::api::update::v1::outcome::Value as Answer;
use temporalio_common::protos::temporal::api::update::v1::{Input, Meta, Request as UpdateRequest, WaitPolicy};
use temporalio_common::protos::temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest;
use ticket_activities::{
    Activities, ActivityParts, AttemptEnd, Drain, Executor, ExecutorRegistry, Job, Observer, PublishError, Recognition,
    ResultSink,
};
use ticket_schemas::{ExecutionStatus, TaskType, decode_json_ticket};
use ticket_workflows::payload::encoded;
use ticket_workflows::{
    Completed, Evidence, ExecutionReport, Failed, FailureClass, ORDER_UPDATE, Order, Outcome, RecordPosition, Report,
    TraceContext, Verb, workflow_id,
};
use tokio::sync::Notify;
use tonic::Request;
use worker_agents::bridge::decision::Decision;
use worker_agents::bridge::{Provenance, Starter};
use worker_agents::config::{Config, MapSource, Origin};
use worker_agents::dev::temporal::free_port;
use worker_agents::temporal;

/// Real time that a scenario may take. Machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// An hour.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A scenario without tickets.
pub(crate) fn world() -> Scenario {
    Scenario { settings: Vec::new(), steps: Vec::new() }
}

/// What happens, in order.
pub(crate) struct Scenario {
    settings: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
}

enum Step {
    Record(Planned),
    Order { after: Duration, name: &'static str, verb: Verb },
}

#[derive(Default)]
struct Planned {
    name: &'static str,
    after: Duration,
    dependencies: Vec<&'static str>,
    deadline: Option<Duration>,
    max_retries: u32,
    answers: VecDeque<Outcome>,
    unheard: bool,
}

impl Scenario {
    /// A setting of the worker.
    pub(crate) fn setting(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// A ticket. What follows is about it.
    pub(crate) fn ticket(mut self, name: &'static str) -> Self {
        self.steps.push(Step::Record(Planned { name, ..Planned::default() }));
        self
    }

    /// Its record comes so long after the one before.
    pub(crate) fn after(self, time: Duration) -> Self {
        self.with(|ticket| ticket.after = time)
    }

    pub(crate) fn depends_on(self, name: &'static str) -> Self {
        self.with(|ticket| ticket.dependencies.push(name))
    }

    /// Its `sla.deadline`, from its creation on.
    pub(crate) fn deadline_in(self, time: Duration) -> Self {
        self.with(|ticket| ticket.deadline = Some(time))
    }

    pub(crate) fn retries(self, most: u32) -> Self {
        self.with(|ticket| ticket.max_retries = most)
    }

    /// The next attempt fails and is worth no other.
    pub(crate) fn fails_with(self, code: &str) -> Self {
        let failed = Failed::permanent(code, "as the scenario says");
        self.with(|ticket| ticket.answers.push_back(failed.into()))
    }

    /// The next attempt fails; another one is worth while, after `wait` when the provider said so.
    pub(crate) fn stumbles(self, code: &str, wait: Option<Duration>) -> Self {
        let after_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let failed = Failed::new(code, FailureClass::Retry { after_ms }, "as the scenario says");
        self.with(|ticket| ticket.answers.push_back(failed.into()))
    }

    /// It is named, and no record of it ever comes.
    pub(crate) fn never_comes(self) -> Self {
        self.with(|ticket| ticket.unheard = true)
    }

    /// An operator orders something of a ticket, so long after the step before.
    pub(crate) fn order(mut self, after: Duration, name: &'static str, verb: Verb) -> Self {
        self.steps.push(Step::Order { after, name, verb });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Planned)) -> Self {
        match self.steps.last_mut() {
            Some(Step::Record(ticket)) => change(ticket),
            _ => panic!("a ticket comes first"),
        }
        self
    }

    fn tickets(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().filter_map(|step| match step {
            Step::Record(ticket) => Some(ticket),
            Step::Order { .. } => None,
        })
    }

    /// Runs all of it, to the last result.
    pub(crate) async fn run(self) -> Ended {
        let server = Server::start();
        let config = config(&server, &self.settings);
        let client = server.connect(&config).await;
        temporal::create_search_attributes(&client, &ticket_workflows::search_attributes()).await.expect("created");

        let kept = Kept::default();
        let answers = self.tickets().map(|ticket| (ticket.name.to_owned(), ticket.answers.clone())).collect();
        let activities = Activities::new(ActivityParts {
            registry: ExecutorRegistry::new().register(TaskType::Execute, "local", Scripted(Mutex::new(answers))),
            results: Arc::new(kept.clone()),
            observer: Arc::new(Nobody),
            drain: Drain::default(),
            agent_id: "scenario".to_owned(),
        });
        let runtime = temporal::runtime(None).expect("runtime");
        let mut worker = temporal::worker(&runtime, &client, &config, &activities).expect("worker");
        let shutdown = worker.shutdown_handle();
        let story = async {
            let told = tokio::time::timeout(PATIENCE, self.tell(&client, &config, &kept)).await;
            shutdown();
            told.unwrap_or_else(|_| panic!("only these tickets ended: {:?}", kept.names()))
        };
        let (ran, ended) = tokio::join!(worker.run(), story);
        ran.expect("the worker runs");
        ended
    }

    async fn tell(&self, client: &Client, config: &Config, kept: &Kept) -> Ended {
        let starter = Starter::new(
            client.clone(),
            config.temporal.task_queue.clone(),
            config.identity.agent_id.clone(),
            config.bridge.policy.clone(),
        );
        let mut clock = client.connection().test_service();
        for (offset, step) in self.steps.iter().enumerate() {
            let after = match step {
                Step::Record(ticket) => ticket.after,
                Step::Order { after, .. } => *after,
            };
            if !after.is_zero() {
                let sleep = Request::new(SleepRequest { duration: after.try_into().ok() });
                clock.unlock_time_skipping_with_sleep(sleep).await.expect("time passes");
            }
            let now = clock.get_current_time(Request::new(())).await.expect("time").into_inner().time.expect("time");
            let now = SystemTime::try_from(now).expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("now");
            match step {
                Step::Record(ticket) if ticket.unheard => {}
                Step::Record(ticket) => ticket.start(&starter, offset, now).await,
                Step::Order { name, verb, .. } => order(client, name, verb.clone()).await,
            }
        }
        clock.unlock_time_skipping(Request::new(UnlockTimeSkippingRequest {})).await.expect("unlocked");
        let real = Instant::now();
        kept.wait_for(self.tickets().filter(|ticket| !ticket.unheard).count()).await;
        Ended { reports: kept.take(), real: real.elapsed() }
    }
}

/// Gives an order, which is taken.
async fn order(client: &Client, name: &str, verb: Verb) {
    let order = Order { verb, by: "operator".to_owned(), why: "the scenario says so".to_owned() };
    let input = Input {
        name: ORDER_UPDATE.to_owned(),
        args: Some(Payloads { payloads: vec![encoded(&order).expect("encoded")] }),
        ..Input::default()
    };
    let request = UpdateWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id(name), run_id: String::new() }),
        wait_policy: Some(WaitPolicy { lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into() }),
        request: Some(UpdateRequest {
            meta: Some(Meta { update_id: uuid::Uuid::new_v4().to_string(), identity: client.identity() }),
            input: Some(input),
            ..UpdateRequest::default()
        }),
        ..UpdateWorkflowExecutionRequest::default()
    };
    let answer = client.connection().workflow_service().update_workflow_execution(Request::new(request)).await;
    match answer.expect("an answer").into_inner().outcome.and_then(|outcome| outcome.value) {
        Some(Answer::Success(_)) => {}
        other => panic!("the order to {name} was not taken: {other:?}"),
    }
}

impl Planned {
    /// Starts its workflow, as the bridge does.
    async fn start(&self, starter: &Starter, offset: usize, now: Duration) {
        let ticket = decode_json_ticket(self.json(now).to_string().as_bytes()).expect("a ticket");
        let offset = i64::try_from(offset).expect("few");
        let position = RecordPosition { topic: "execution.tickets".to_owned(), partition: 0, offset };
        let provenance = Provenance { position, written_at_ms: None, redrive: false, trace: TraceContext::default() };
        let decision = starter.start(&ticket, &provenance).await;
        assert!(matches!(decision, Decision::Started { .. }), "{decision:?}");
    }

    fn json(&self, now: Duration) -> Value {
        let ms = |time: Duration| i64::try_from(time.as_millis()).expect("a time");
        let mut sla = json!({ "timeout_ms": 60_000, "max_retries": self.max_retries });
        // A deadline of its own, far away: the default one is no matter of most scenarios.
        sla["deadline"] = json!(ms(now + self.deadline.unwrap_or(10_000 * HOUR)));
        json!({
            "ticket_id": self.name, "plan_id": "plan", "intent_id": "intent", "decision_id": "decision",
            "task_id": self.name, "task_type": "EXECUTE", "description": self.name, "status": "PENDING",
            "dependencies": self.dependencies, "priority": "NORMAL", "risk_band": "low",
            "security_level": "INTERNAL", "sla": sla, "parameters": { "command": "true" }, "created_at": ms(now),
        })
    }
}

/// How a scenario went.
pub(crate) struct Ended {
    reports: BTreeMap<String, Report>,
    /// Real time from the last record to the last result.
    pub(crate) real: Duration,
}

impl Ended {
    /// What was reported of a ticket.
    pub(crate) fn report(&self, name: &str) -> &Report {
        self.reports.get(name).unwrap_or_else(|| panic!("{name} has no result"))
    }

    /// The ticket completed.
    pub(crate) fn completed(&self, name: &str) -> &Self {
        let report = self.report(name);
        assert_eq!(report.result.status, ExecutionStatus::Completed, "{name}: {:?}", report.result.error_message);
        self
    }

    /// The ticket failed, with this code.
    pub(crate) fn failed(&self, name: &str, code: &str) -> &Self {
        let report = self.report(name);
        assert_eq!(report.result.status, ExecutionStatus::Failed, "{name}");
        assert_eq!(report.error_code.as_deref(), Some(code), "{name}: {:?}", report.result.error_message);
        self
    }

    /// How long the ticket waited for others.
    pub(crate) fn parked(&self, name: &str) -> Duration {
        Duration::from_millis(self.report(name).sla.dependency_ms)
    }

    /// How long the ticket waited between attempts.
    pub(crate) fn between_attempts(&self, name: &str) -> Duration {
        Duration::from_millis(self.report(name).sla.times.retry_wait_ms)
    }

    /// Attempts of the ticket.
    pub(crate) fn attempts(&self, name: &str) -> u64 {
        self.report(name).result.result.metadata["attempt_count"].as_u64().expect("a count")
    }
}

fn config(server: &Server, settings: &[(&'static str, &'static str)]) -> Config {
    let address = server.address();
    let mut source = MapSource::from([
        ("ENVIRONMENT", "development"),
        ("TEMPORAL_ADDRESS", address.as_str()),
        ("TEMPORAL_NAMESPACE", "default"),
        ("SHUTDOWN_GRACE_SECONDS", "1"),
    ]);
    for (name, value) in settings {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source).expect("settings")
}

/// The server that skips time, a child of this process.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/temporal-test-server/bin/temporal-test-server");
        let port = free_port().expect("port");
        let child = Command::new(&binary).arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", binary.display()));
        Self { child, port }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connects once it answers. It skips no time before it is told to.
    async fn connect(&self, config: &Config) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match temporal::connect(config).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Answers each ticket's attempts as its scenario says, and completes them when it says nothing more.
struct Scripted(Mutex<BTreeMap<String, VecDeque<Outcome>>>);

impl Executor for Scripted {
    type Params = Value;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, _params: Value, job: Job) -> Outcome {
        let mut answers = self.0.lock().expect("no panic");
        if let Some(answer) = answers.get_mut(job.ticket.ticket_id.as_str()).and_then(VecDeque::pop_front) {
            return answer;
        }
        let evidence = Evidence::new("a scenario", "done").expect("evidence");
        let mut report = ExecutionReport::default();
        report.output.insert("made_by".to_owned(), json!(job.ticket.ticket_id));
        Outcome::Completed(Completed { evidence, report })
    }
}

/// Results, by ticket.
#[derive(Clone, Default)]
struct Kept(Arc<(Mutex<BTreeMap<String, Report>>, Notify)>);

impl Kept {
    async fn wait_for(&self, count: usize) {
        loop {
            let changed = self.0.1.notified();
            if self.0.0.lock().expect("no panic").len() >= count {
                return;
            }
            changed.await;
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.0.lock().expect("no panic").keys().cloned().collect()
    }

    fn take(&self) -> BTreeMap<String, Report> {
        std::mem::take(&mut self.0.0.lock().expect("no panic"))
    }
}

impl ResultSink for Kept {
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let ticket_id = report.result.ticket_id.as_str().to_owned();
            let earlier = self.0.0.lock().expect("no panic").insert(ticket_id.clone(), report.clone());
            // Copies are equal; two different results are what must never happen.
            assert!(earlier.is_none_or(|earlier| earlier == *report), "{ticket_id} has two results");
            self.0.1.notify_one();
            Ok(())
        })
    }
}

struct Nobody;

impl Observer for Nobody {
    fn attempt_started(&self, _: &str, _: &'static str, _: u32) {}
    fn attempt_ended(&self, _: &AttemptEnd<'_>) {}
    fn ticket_reported(&self, _: &Report) {}
}
