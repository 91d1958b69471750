//! Kubernetes: the runtime, and a fake of its API server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::kubernetes::{Access, Amounts, Cluster, KubernetesConfig, KubernetesRuntime};
use ticket_activities::external::{Patience, Provider as _};
use ticket_activities::{ExternalState, FailureClass, code};
use ticket_schemas::TaskType;
use tokio::sync::Notify;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::server::{Answer, Request, Server};
use crate::world::{World, completed, eventually, failed};

const NAMESPACE: &str = "jobs";
/// Lines that every pod writes.
const LINES: [&str; 2] = ["hello", "warning"];
/// Version of every list. That of an object is too old to watch from.
const LIST_VERSION: &str = "7";

pub(crate) struct KubernetesCandidate {
    /// Whether pods are tried before their Jobs.
    pub(crate) trial: bool,
}

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
        driver(runtime(address, KubernetesConfig { trial: self.trial, ..config() }), patience)
    }
}

fn config() -> KubernetesConfig {
    let amounts = |request: &str, limit: &str| Amounts { request: request.to_owned(), limit: limit.to_owned() };
    KubernetesConfig {
        default_timeout: Duration::from_secs(600),
        cpu: amounts("100m", "1"),
        memory: amounts("64Mi", "64Mi"),
        service_account: "executor".to_owned(),
        allowed_service_accounts: Vec::new(),
        scratch: "16Mi".to_owned(),
        pull: PullPolicy::IfNotPresent,
        pull_secret: None,
        trial: true,
        ttl: Duration::from_secs(3600),
        grace: Duration::from_secs(1),
        clean_up: true,
        poll_interval: Duration::from_millis(50),
        output_limit: 1000,
    }
}

fn runtime(address: &str, config: KubernetesConfig) -> KubernetesRuntime {
    let access = Access::Kubeconfig(kubeconfig(address));
    KubernetesRuntime::new(Cluster::new(access, NAMESPACE.to_owned(), Arc::new(|_, _| ())), config)
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
    /// Its node does not answer.
    Lost,
    /// Stopped: the pod is gone.
    Gone,
}

#[derive(Debug, Clone)]
struct Job {
    uid: String,
    metadata: Value,
    suspended: bool,
    /// The Job is, its pod is not.
    removed: bool,
    /// When it wrote its lines, as its node has it, in milliseconds.
    wrote_at: i64,
    state: State,
}

/// What becomes of a Job that is to be stopped, other than that.
#[derive(Clone, Copy)]
enum WhenStopped {
    /// Its command has just ended, with this code.
    Ends(i32),
    /// Somebody removes it and leaves its pod behind.
    IsRemoved,
}

#[derive(Default)]
struct Jobs {
    /// By name.
    jobs: BTreeMap<String, Job>,
    creates: BTreeMap<String, usize>,
    begins: BTreeMap<String, usize>,
    stops: usize,
    when_stopped: Option<WhenStopped>,
    /// Logs that are followed.
    follows: usize,
    /// Of so many answers the log is what the kubelet says in its place.
    unreadable_logs: usize,
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
        let wrote_at = ticket_activities::now_ms() + state.clock_ahead * 1000;
        state.jobs.insert(name, Job { uid, metadata, suspended: false, removed: false, wrote_at, state: began });
        Answer::json(201, &job)
    }

    fn jobs(&self, request: &Request) -> Answer {
        let pairs = |name: &str| request.query.get(name).into_iter().flat_map(|all| all.split(','));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').expect("a name and a value");
            (name.to_owned(), value.to_owned())
        };
        let labels: Vec<_> = pairs("labelSelector").map(pair).collect();
        let fields: Vec<_> = pairs("fieldSelector").map(pair).collect();
        let state = self.state();
        let found = state.jobs.values().filter(|job| {
            !job.removed
                && labels.iter().all(|(name, value)| job.metadata["labels"][name] == **value)
                && fields.iter().all(|(name, value)| name == "metadata.name" && job.metadata["name"] == **value)
        });
        let items: Vec<Value> = found.map(described).collect();
        Answer::json(
            200,
            &json!({ "kind": "JobList", "metadata": { "resourceVersion": LIST_VERSION }, "items": items }),
        )
    }

    fn pods(&self, request: &Request) -> Answer {
        let name = request.query["labelSelector"].split_once('=').expect("a label").1.to_owned();
        let state = self.state();
        let items: Vec<Value> = state.jobs.get(&name).and_then(|job| pod(&name, job)).into_iter().collect();
        Answer::json(
            200,
            &json!({ "kind": "PodList", "metadata": { "resourceVersion": LIST_VERSION }, "items": items }),
        )
    }

    fn only_runs(&self) -> bool {
        let state = self.state();
        !state.jobs.is_empty() && state.jobs.values().all(|job| job.state == State::Running)
    }

    /// Tells that something has changed, once something has.
    async fn watch(&self, request: &Request) -> Answer {
        if request.query["resourceVersion"] != LIST_VERSION {
            return status(410, "Expired", "");
        }
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
        let when_stopped = state.when_stopped;
        let Some(job) = state.jobs.get_mut(name) else { return status(404, "NotFound", name) };
        assert_eq!((&patch["metadata"]["uid"], &patch["spec"]["suspend"]), (&json!(job.uid), &json!(true)));
        job.suspended = true;
        match when_stopped {
            Some(WhenStopped::Ends(code)) => job.state = State::Exited(code),
            Some(WhenStopped::IsRemoved) => job.removed = true,
            None if matches!(job.state, State::Exited(_)) => {}
            None => job.state = State::Gone,
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
        self.state().follows += usize::from(follow);
        let wrote_at = loop {
            let changed = self.changed.notified();
            let job = self.state().jobs.get(&name).cloned();
            match job {
                Some(Job { state: State::Running, .. }) if follow => {}
                Some(Job { state: State::Lost, .. }) if !follow => return status(500, "InternalError", pod),
                Some(Job { state: State::Waiting(..), .. }) => return status(400, "BadRequest", pod),
                Some(Job { state: State::Gone, .. }) | None => return status(404, "NotFound", pod),
                Some(job) => break job.wrote_at,
            }
            changed.await;
        };
        let unreadable = self.state().unreadable_logs;
        if unreadable > 0 {
            self.state().unreadable_logs = unreadable - 1;
            let body = b"unable to retrieve container logs for containerd://0abc".to_vec();
            return Answer { status: 200, content_type: "text/plain", headers: Vec::new(), body };
        }
        let at = chrono::DateTime::from_timestamp_millis(wrote_at).expect("a time");
        let body: String =
            LINES.iter().map(|line| format!("{}.000000001Z {line}\n", at.format("%Y-%m-%dT%H:%M:%S"))).collect();
        Answer { status: 200, content_type: "text/plain", headers: Vec::new(), body: body.into_bytes() }
    }
}

fn described(job: &Job) -> Value {
    let condition = |kind: &str| json!([{ "type": kind, "status": "True", "reason": "", "message": "" }]);
    let conditions = match job.state {
        State::Exited(0) => condition("Complete"),
        State::Exited(_) => condition("Failed"),
        State::Lost => condition("FailureTarget"),
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
        State::Running | State::Lost => ("Running", json!({ "running": {} })),
        State::Exited(0) => ("Succeeded", json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })),
        State::Exited(code) => ("Failed", json!({ "terminated": { "exitCode": code, "reason": "Error" } })),
        State::Gone => return None,
    };
    let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.uid });
    let mut pod = json!({
        "metadata": { "name": format!("{name}-pod"), "ownerReferences": [owner] },
        "status": { "phase": phase, "containerStatuses": [{
            "name": "executor", "image": "busybox:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }] },
    });
    if job.state == State::Lost {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["status"]["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "away" }]);
    }
    Some(pod)
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
            ("GET", ["jobs"]) if !is_watch && request.query.contains_key("labelSelector") => Some(Step::LookUp),
            ("POST", ["jobs"]) => Some(Step::Create),
            ("GET", ["jobs"] | ["pods"]) => Some(Step::Watch),
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
                ("GET", _) if request.query.contains_key("watch") => self.watch(&request).await,
                ("GET", ["jobs"]) => self.jobs(&request),
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
    (World { candidate: Arc::new(KubernetesCandidate { trial: true }), peer, server }, cluster)
}

#[tokio::test]
async fn inc_85_a_job_is_created_watched_and_read() {
    let (world, _) = world(|cluster| cluster.end_all(0)).await;
    let done = completed(world.begin(world.job()).outcome("the attempt").await, "the attempt");
    let output = &done.report.output;
    assert_eq!(
        (&output["stdout"], &output["stderr"]),
        (&json!("hello\nwarning\n"), &json!("")),
        "once, however often it is read"
    );
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

/// What a rule says that takes pods of Jobs only.
const BARE_PODS: &str = "admission webhook \"validate.kyverno.svc\" denied the request: bare pods are not allowed";

fn forbidden(message: &str) -> Answer {
    Answer::json(403, &json!({ "kind": "Status", "reason": "Forbidden", "message": message, "code": 403 }))
}

#[tokio::test]
async fn quota_and_admission_are_told_apart_before_anything_is_created() {
    let later = FailureClass::Unavailable { after_ms: None };
    for (message, class) in [
        ("pods \"x\" is forbidden: exceeded quota: q", later),
        ("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", FailureClass::Permanent),
        (BARE_PODS, later),
    ] {
        let (world, _) = world(|cluster| cluster.state().trial = Some(forbidden(message))).await;
        let failed = failed(world.begin(world.job()).outcome(message).await, message);
        assert_eq!((failed.code.as_str(), failed.class), (code::PROVIDER_REFUSED, class), "{failed:?}");
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

#[tokio::test]
async fn a_job_is_created_without_a_trial_where_a_rule_takes_no_pod_that_stands_alone() {
    let (world, _) = world(|cluster| {
        cluster.state().trial = Some(forbidden(BARE_PODS));
        cluster.end_all(0);
    })
    .await;
    let world = World { candidate: Arc::new(KubernetesCandidate { trial: false }), ..world };
    completed(world.begin(world.job()).outcome("the attempt").await, "the attempt");
    assert_eq!(world.server.seen(Step::Prepare), 0);
}

#[tokio::test]
async fn a_job_that_nothing_happens_to_is_watched_and_not_polled() {
    let (world, _) = world(|_| ()).await;
    let attempt = world.begin(world.job());
    eventually("work runs", || world.peer.running() > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A look at the Job and one at its pods, a watch of each.
    assert!(world.server.seen(Step::Watch) < 12, "{}", world.server.seen(Step::Watch));
    drop(attempt);
}

#[tokio::test]
async fn a_lost_node_ends_the_attempt_soon_with_what_was_followed_of_its_log() {
    let (world, cluster) = world(|_| ()).await;
    let attempt = world.begin(world.job());
    eventually("its log is followed", || cluster.state().follows > 0).await;
    let lost_at = Instant::now();
    cluster.state().jobs.values_mut().for_each(|job| job.state = State::Lost);
    cluster.changed.notify_waiters();
    let failed = failed(attempt.outcome("the attempt").await, "the attempt");
    assert!(lost_at.elapsed() < Duration::from_secs(15), "{:?}", lost_at.elapsed());
    assert_eq!(
        (failed.code.as_str(), failed.external_state),
        (code::INFRASTRUCTURE, Some(ExternalState::Unknown)),
        "{failed:?}"
    );
    assert_eq!(failed.report.output["stdout"], json!("hello\nwarning\n"), "{failed:?}");
    assert_eq!(failed.report.metadata["stdout_incomplete"], json!(true), "{failed:?}");
}

#[tokio::test]
async fn what_the_kubelet_says_in_the_place_of_a_log_is_no_output_and_the_log_is_asked_for_again() {
    let (world, _) = world(|cluster| {
        cluster.state().unreadable_logs = 2;
        cluster.end_all(0);
    })
    .await;
    let done = completed(world.begin(world.job()).outcome("the attempt").await, "the attempt");
    assert_eq!(done.report.output["stdout"], json!("hello\nwarning\n"));
    assert_eq!(done.report.metadata.get("stdout_incomplete"), None);
}

#[tokio::test]
async fn a_job_that_is_removed_without_its_pod_is_not_said_to_have_stopped() {
    let (world, cluster) = world(|cluster| cluster.state().when_stopped = Some(WhenStopped::IsRemoved)).await;
    let attempt = world.begin(world.job());
    eventually("its log is followed", || cluster.state().follows > 0).await;
    attempt.job.stop.cancel();
    let failed = failed(attempt.outcome("the attempt").await, "the attempt");
    assert_eq!(
        (failed.code.as_str(), failed.external_state),
        (code::CANCELLED, Some(ExternalState::Unknown)),
        "{failed:?}"
    );
    assert_eq!(world.peer.running(), 1);
}

#[tokio::test]
async fn a_command_that_ends_as_it_is_stopped_is_judged_by_its_end() {
    let (world, cluster) = world(|cluster| cluster.state().when_stopped = Some(WhenStopped::Ends(0))).await;
    let attempt = world.begin(world.job());
    eventually("its log is followed", || cluster.state().follows > 0).await;
    attempt.job.stop.cancel();
    completed(attempt.outcome("the attempt").await, "the attempt");
}

#[tokio::test]
async fn jobs_that_have_ended_are_kept_where_settings_say_so_and_those_that_were_stopped_are_not() {
    let (world, cluster) = world(|_| ()).await;
    let stopped = world.begin(world.job());
    eventually("work runs", || world.peer.running() > 0).await;
    stopped.job.stop.cancel();
    failed(stopped.outcome("the first attempt").await, "the first attempt");
    world.peer.end_all(0);
    let mut second = world.job();
    second.attempt = 2;
    completed(world.begin(second).outcome("the second attempt").await, "the second attempt");

    let address = world.server.address.to_string();
    let keeps = runtime(&address, KubernetesConfig { clean_up: false, ..config() });
    let left = keeps.leftovers().await.expect("an answer");
    assert_eq!(left.len(), 1, "the cluster removes what has ended by itself");
    keeps.clean_up(&left[0].handle).await.expect("removed");
    assert!(cluster.state().jobs.values().all(|job| job.state == State::Exited(0)));
    assert_eq!(runtime(&address, config()).leftovers().await.expect("an answer").len(), 1);
}
