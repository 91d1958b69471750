//! Kubernetes: the runtime, and a fake of its API server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::kubernetes::{Access, Amounts, Cluster, KubernetesConfig, KubernetesRuntime};
use ticket_activities::external::Patience;
use ticket_activities::{ExternalState, FailureClass, code};
use ticket_schemas::TaskType;
use tokio::sync::Notify;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::server::{Answer, Request, Server};
use crate::world::{World, completed, eventually, failed};

const NAMESPACE: &str = "jobs";
/// Lines that every pod writes.
const LINES: [&str; 2] = ["hello", "warning"];

pub(crate) struct KubernetesCandidate;

impl Candidate for KubernetesCandidate {
    fn task_type(&self) -> TaskType {
        TaskType::Execute
    }

    fn provider(&self) -> &'static str {
        "k8s"
    }

    fn recognition(&self) -> Recognition {
        Recognition::Lookup
    }

    fn hears_retry_after(&self) -> bool {
        true
    }

    fn steps(&self) -> &'static [Step] {
        &[Step::Prepare, Step::LookUp, Step::Create, Step::Watch, Step::Collect]
    }

    fn parameters(&self) -> Value {
        json!({ "runtime": "k8s", "image": "busybox:1", "command": ["echo", "hello"] })
    }

    fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(FakeCluster::default())
    }

    fn driver(&self, address: &str, patience: Patience) -> Driver {
        let amounts = |request: &str, limit: &str| Amounts { request: request.to_owned(), limit: limit.to_owned() };
        let config = KubernetesConfig {
            default_timeout: Duration::from_secs(600),
            cpu: amounts("100m", "1"),
            memory: amounts("64Mi", "64Mi"),
            service_account: "executor".to_owned(),
            allowed_service_accounts: Vec::new(),
            scratch: "16Mi".to_owned(),
            pull: PullPolicy::IfNotPresent,
            pull_secret: None,
            ttl: Duration::from_secs(3600),
            grace: Duration::from_secs(1),
            clean_up: true,
            poll_interval: Duration::from_millis(50),
            output_limit: 1000,
        };
        let access = Access::Kubeconfig(kubeconfig(address));
        let cluster = Cluster::new(access, NAMESPACE.to_owned(), Arc::new(|_, _| ()));
        driver(KubernetesRuntime::new(cluster, config), patience)
    }
}

/// A kubeconfig for the API at `address`; ports are not used again while it may be read.
fn kubeconfig(address: &str) -> std::path::PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kubeconfig-{}", address.replace(':', "-")));
    std::fs::write(&path, config.to_string()).expect("a kubeconfig");
    path
}

/// How the pod of a Job stands.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// It waits, for this reason.
    Waiting(&'static str, &'static str),
    Running,
    Exited(i32),
    /// Stopped: the pod is gone.
    Gone,
}

#[derive(Debug, Clone)]
struct Job {
    uid: String,
    metadata: Value,
    suspended: bool,
    state: State,
}

#[derive(Default)]
struct Jobs {
    /// By name.
    jobs: BTreeMap<String, Job>,
    creates: BTreeMap<String, usize>,
    begins: BTreeMap<String, usize>,
    stops: usize,
    ends_with: Option<i32>,
    waits: Option<(&'static str, &'static str)>,
    clock_ahead: i64,
    uids: usize,
    trial: Option<Answer>,
}

/// A cluster whose pods run until they are told to end.
#[derive(Default)]
pub(crate) struct FakeCluster {
    state: Mutex<Jobs>,
    changed: Notify,
}

impl FakeCluster {
    fn state(&self) -> MutexGuard<'_, Jobs> {
        self.state.lock().expect("no test panics with it")
    }

    fn create(&self, request: &Request) -> Answer {
        let mut job: Value = serde_json::from_slice(&request.body).expect("a Job");
        let name = job["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut state = self.state();
        if state.jobs.contains_key(&name) {
            return status(409, "AlreadyExists", &name);
        }
        state.uids += 1;
        let uid = format!("uid-{}", state.uids);
        job["metadata"]["uid"] = json!(uid);
        job["metadata"]["resourceVersion"] = json!("1");
        let began = match (state.waits, state.ends_with) {
            (Some((reason, message)), _) => State::Waiting(reason, message),
            (None, Some(code)) => State::Exited(code),
            (None, None) => State::Running,
        };
        *state.creates.entry(name.clone()).or_default() += 1;
        if !matches!(began, State::Waiting(..)) {
            *state.begins.entry(name.clone()).or_default() += 1;
        }
        let metadata = job["metadata"].clone();
        state.jobs.insert(name, Job { uid, metadata, suspended: false, state: began });
        Answer::json(201, &job)
    }

    fn job(&self, name: &str) -> Answer {
        match self.state().jobs.get(name) {
            Some(job) => Answer::json(200, &described(job)),
            None => status(404, "NotFound", name),
        }
    }

    fn jobs(&self, request: &Request) -> Answer {
        let selected: Vec<(&str, &str)> =
            request.query["labelSelector"].split(',').map(|label| label.split_once('=').expect("a label")).collect();
        let state = self.state();
        let found = state.jobs.values().filter(|job| {
            selected.iter().all(|(name, value)| job.metadata["labels"][*name] == **value)
        });
        let items: Vec<Value> = found.map(described).collect();
        Answer::json(200, &json!({ "kind": "JobList", "metadata": { "resourceVersion": "1" }, "items": items }))
    }

    fn pods(&self, request: &Request) -> Answer {
        let name = request.query["labelSelector"].split_once('=').expect("a label").1.to_owned();
        let state = self.state();
        let items: Vec<Value> = state.jobs.get(&name).and_then(|job| pod(&name, job)).into_iter().collect();
        Answer::json(200, &json!({ "kind": "PodList", "metadata": { "resourceVersion": "1" }, "items": items }))
    }

    fn only_runs(&self) -> bool {
        let state = self.state();
        !state.jobs.is_empty() && state.jobs.values().all(|job| job.state == State::Running)
    }

    /// Tells that something has changed, once something has.
    async fn watch(&self) -> Answer {
        let changed = self.changed.notified();
        // What changed between the look and this is told at once, as the version that was seen would have it.
        if self.only_runs() {
            changed.await;
        }
        let event = json!({ "type": "MODIFIED", "object": {} }).to_string() + "\n";
        Answer { status: 200, content_type: "application/json", headers: Vec::new(), body: event.into_bytes() }
    }

    fn suspend(&self, name: &str, request: &Request) -> Answer {
        let patch: Value = serde_json::from_slice(&request.body).expect("a patch");
        let mut state = self.state();
        state.stops += 1;
        let Some(job) = state.jobs.get_mut(name) else { return status(404, "NotFound", name) };
        assert_eq!((&patch["metadata"]["uid"], &patch["spec"]["suspend"]), (&json!(job.uid), &json!(true)));
        job.suspended = true;
        if !matches!(job.state, State::Exited(_)) {
            job.state = State::Gone;
        }
        let answer = Answer::json(200, &described(job));
        self.changed.notify_waiters();
        answer
    }

    fn delete(&self, name: &str) -> Answer {
        match self.state().jobs.remove(name) {
            Some(job) => Answer::json(200, &described(&job)),
            None => status(404, "NotFound", name),
        }
    }

    /// The log; one that is followed ends with its pod.
    async fn log(&self, pod: &str, follow: bool) -> Answer {
        let name = pod.trim_end_matches("-pod").to_owned();
        loop {
            let changed = self.changed.notified();
            match self.state().jobs.get(&name).map(|job| job.state.clone()) {
                Some(State::Running) if follow => {}
                Some(State::Running | State::Exited(_)) => break,
                Some(State::Waiting(..)) => return status(400, "BadRequest", pod),
                Some(State::Gone) | None => return status(404, "NotFound", pod),
            }
            changed.await;
        }
        let now_ms = ticket_activities::now_ms() + self.state().clock_ahead * 1000;
        let now = chrono::DateTime::from_timestamp_millis(now_ms - now_ms % 1000).expect("a time");
        let body: String = LINES.iter().map(|line| format!("{}.000000001Z {line}\n", now.format("%Y-%m-%dT%H:%M:%S"))).collect();
        Answer { status: 200, content_type: "text/plain", headers: Vec::new(), body: body.into_bytes() }
    }
}

fn described(job: &Job) -> Value {
    let condition = |kind: &str| json!([{ "type": kind, "status": "True", "reason": "", "message": "" }]);
    let conditions = match job.state {
        State::Exited(0) => condition("Complete"),
        State::Exited(_) => condition("Failed"),
        State::Gone => condition("Suspended"),
        State::Waiting(..) | State::Running => json!([]),
    };
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": job.metadata,
        "spec": { "template": {}, "suspend": job.suspended }, "status": { "conditions": conditions },
    })
}

fn pod(name: &str, job: &Job) -> Option<Value> {
    let (phase, state) = match &job.state {
        State::Waiting(reason, message) => ("Pending", json!({ "waiting": { "reason": reason, "message": message } })),
        State::Running => ("Running", json!({ "running": {} })),
        State::Exited(0) => ("Succeeded", json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })),
        State::Exited(code) => ("Failed", json!({ "terminated": { "exitCode": code, "reason": "Error" } })),
        State::Gone => return None,
    };
    let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.uid });
    Some(json!({
        "metadata": { "name": format!("{name}-pod"), "ownerReferences": [owner] },
        "status": { "phase": phase, "containerStatuses": [{
            "name": "executor", "image": "busybox:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }] },
    }))
}

fn status(status: u16, reason: &str, name: &str) -> Answer {
    let message = format!("jobs.batch {name:?}: {reason}");
    Answer::json(
        status,
        &json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": message,
                 "code": status, "details": { "name": name, "kind": "jobs" } }),
    )
}

/// The parts of a path below the namespace.
fn parts(request: &Request) -> Vec<&str> {
    request.path.split('/').skip_while(|part| *part != NAMESPACE).skip(1).collect()
}

impl Peer for FakeCluster {
    fn step(&self, request: &Request) -> Option<Step> {
        let is_watch = request.query.contains_key("watch");
        let follows = request.query.get("follow").is_some_and(|follow| follow == "true");
        match (request.method.as_str(), parts(request).as_slice()) {
            ("POST", ["pods"]) => Some(Step::Prepare),
            ("GET", ["jobs"]) if !is_watch => Some(Step::LookUp),
            ("POST", ["jobs"]) => Some(Step::Create),
            ("GET", ["jobs"] | ["jobs", _] | ["pods"]) => Some(Step::Watch),
            ("PATCH", ["jobs", _]) => Some(Step::Stop),
            ("GET", ["pods", _, "log"]) if !follows => Some(Step::Collect),
            // A log is followed for what a lost pod would take with it; whatever it comes to is no matter.
            _ => None,
        }
    }

    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            match (request.method.as_str(), parts(&request).as_slice()) {
                ("POST", ["pods"]) => {
                    assert_eq!(request.query["dryRun"], "All", "no pod is created");
                    let taken = || Answer::json(201, &json!({ "kind": "Pod", "spec": { "containers": [] } }));
                    self.state().trial.clone().unwrap_or_else(taken)
                }
                ("POST", ["jobs"]) => self.create(&request),
                ("GET", _) if request.query.contains_key("watch") => self.watch().await,
                ("GET", ["jobs"]) => self.jobs(&request),
                ("GET", ["jobs", name]) => self.job(name),
                ("GET", ["pods"]) => self.pods(&request),
                ("GET", ["pods", pod, "log"]) => self.log(pod, request.query["follow"] == "true").await,
                ("PATCH", ["jobs", name]) => self.suspend(name, &request),
                ("DELETE", ["jobs", name]) => self.delete(name),
                _ => Answer::json(404, &json!({ "message": "the server could not find the requested resource" })),
            }
        })
    }

    fn creates(&self) -> BTreeMap<String, usize> {
        self.state().creates.clone()
    }

    fn begins(&self) -> BTreeMap<String, usize> {
        self.state().begins.clone()
    }

    fn running(&self) -> usize {
        self.state().jobs.values().filter(|job| job.state == State::Running).count()
    }

    fn stops(&self) -> usize {
        self.state().stops
    }

    fn end_all(&self, exit_code: i32) {
        let mut state = self.state();
        state.ends_with = Some(exit_code);
        for job in state.jobs.values_mut().filter(|job| job.state == State::Running) {
            job.state = State::Exited(exit_code);
        }
        self.changed.notify_waiters();
    }

    fn vanish(&self) {
        self.state().jobs.clear();
        self.changed.notify_waiters();
    }

    fn set_clock(&self, ahead: i64) {
        self.state().clock_ahead = ahead;
    }
}

async fn world(prepared: impl FnOnce(&FakeCluster)) -> (World, Arc<FakeCluster>) {
    let cluster = Arc::new(FakeCluster::default());
    prepared(&cluster);
    let peer: Arc<dyn Peer> = Arc::clone(&cluster) as _;
    let server = Server::start(Arc::clone(&peer)).await;
    (World { candidate: Arc::new(KubernetesCandidate), peer, server }, cluster)
}

#[tokio::test]
async fn inc_85_a_job_is_created_watched_and_read() {
    let (world, _) = world(|cluster| cluster.end_all(0)).await;
    let done = completed(world.begin(world.job()).outcome("the attempt").await, "the attempt");
    let output = &done.report.output;
    assert_eq!((&output["stdout"], &output["stderr"]), (&json!("hello\nwarning\n"), &json!("")), "once, however often it is read");
    assert_eq!(output["exit_code"], json!(0));
    let name = output["job_name"].as_str().expect("a name");
    assert!(name.starts_with("t-ac36f7e1-5276-5dd7-8937-0b54fce5af5b-1-"), "{name}");
    assert_eq!(output["pod_name"], json!(format!("{name}-pod")));
    assert_eq!(done.report.metadata["runtime"], json!("k8s"));
}

#[tokio::test]
async fn an_image_that_is_not_to_be_had_ends_the_attempt_within_seconds_and_stops_the_job() {
    let (world, _) = world(|cluster| {
        cluster.state().waits = Some(("ErrImagePull", "failed to resolve reference: busybox:1: not found"));
    })
    .await;
    let failed = failed(world.begin(world.job()).outcome("the attempt").await, "the attempt");
    assert_eq!((failed.code.as_str(), failed.class), (code::IMAGE_NOT_AVAILABLE, FailureClass::Permanent));
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped), "{failed:?}");
    assert_eq!(world.peer.stops(), 1);
}

#[tokio::test]
async fn quota_and_admission_are_told_apart_before_anything_is_created() {
    for (message, code, class) in [
        ("pods \"x\" is forbidden: exceeded quota: q", code::PROVIDER_REFUSED, FailureClass::Unavailable { after_ms: None }),
        ("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", code::PROVIDER_REFUSED, FailureClass::Permanent),
    ] {
        let (world, _) = world(|cluster| {
            cluster.state().trial = Some(Answer::json(
                403,
                &json!({ "kind": "Status", "reason": "Forbidden", "message": message, "code": 403 }),
            ));
        })
        .await;
        let failed = failed(world.begin(world.job()).outcome(message).await, message);
        assert_eq!((failed.code.as_str(), failed.class), (code, class), "{failed:?}");
        assert_eq!((failed.external_state, world.peer.creates().len()), (None, 0), "{failed:?}");
    }
}

#[tokio::test]
async fn a_job_of_the_name_that_is_another_tickets_is_neither_taken_nor_stopped() {
    let (world, cluster) = world(|_| ()).await;
    let first = world.begin(world.job());
    eventually("work runs", || world.peer.running() > 0).await;
    let name = world.peer.creates().keys().next().expect("a Job").clone();
    cluster.state().jobs.get_mut(&name).expect("it").metadata["annotations"]["neural-hive.io/run-id"] = json!("other");
    let second = failed(world.begin(world.job()).outcome("the second").await, "the second");
    assert_eq!((second.code.as_str(), second.external_state), (code::PROVIDER_REFUSED, None), "{second:?}");
    assert!(second.message.contains(&name), "{second:?}");
    assert_eq!((world.peer.running(), world.peer.stops()), (1, 0));
    drop(first);
}
