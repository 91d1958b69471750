//! A fake of a cluster's API server, with its Jobs, their pods and their logs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, SecondsFormat};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::candidate::{Peer, Step};
use crate::server::{Answer, Request};

pub(super) const NAMESPACE: &str = "jobs";
/// Version of every list. That of an object is too old to watch from.
const LIST_VERSION: &str = "7";

/// How the pod of a Job stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// It waits, for this reason.
    Waiting(&'static str, &'static str),
    Running,
    Exited(i32),
    /// Its node does not answer.
    Lost,
    /// Stopped: the pod is gone.
    Gone,
    /// A queue holds it back.
    Queued,
    /// The Job counts it as done, and somebody has removed its pod.
    CompleteWithoutPod,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    uid: String,
    pub(super) metadata: Value,
    suspended: bool,
    /// The Job is, its pod is not.
    removed: bool,
    /// Its pod has said that it has ended, and it has not.
    pub(super) is_late: bool,
    /// Pieces of its output, and when its node got each, in epoch seconds.
    written: Vec<(i64, String)>,
    pub(super) state: State,
}

/// What becomes of a Job that is to be stopped, other than that.
#[derive(Clone, Copy)]
pub(super) enum WhenStopped {
    /// Its command has just ended, with this code.
    Ends(i32),
    /// Somebody removes it and leaves its pod behind.
    IsRemoved,
}

#[derive(Default)]
pub(super) struct Jobs {
    /// By name.
    pub(super) jobs: BTreeMap<String, Job>,
    creates: BTreeMap<String, usize>,
    begins: BTreeMap<String, usize>,
    stops: usize,
    pub(super) when_stopped: Option<WhenStopped>,
    /// From when on logs were asked for, each time that one was followed.
    pub(super) followed_since: Vec<Option<String>>,
    /// Whoever follows the log of a pod that runs gets what is there, and is hung up on.
    pub(super) hangs_up: bool,
    /// So many times whoever follows a log gets an error and none of it.
    pub(super) refuses_to_follow: usize,
    /// Of so many answers the log is what the kubelet says in its place.
    pub(super) unreadable_logs: usize,
    ends_with: Option<i32>,
    pub(super) waits: Option<(&'static str, &'static str)>,
    clock_ahead: i64,
    uids: usize,
    /// Whether a queue holds back what is created.
    pub(super) is_queued: bool,
    /// What every Job holds besides, in the answers of lists.
    pub(super) padding: String,
    /// Jobs of the longest page of a list that was asked for in pages.
    pub(super) longest_page: usize,
    pub(super) trial: Option<Answer>,
}

/// A cluster whose pods run until they are told to end.
#[derive(Default)]
pub(crate) struct FakeCluster {
    state: Mutex<Jobs>,
    pub(super) changed: Notify,
}

impl FakeCluster {
    pub(super) fn state(&self) -> MutexGuard<'_, Jobs> {
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
            _ if state.is_queued => State::Queued,
            (Some((reason, message)), _) => State::Waiting(reason, message),
            (None, Some(code)) => State::Exited(code),
            (None, None) => State::Running,
        };
        *state.creates.entry(name.clone()).or_default() += 1;
        if !matches!(began, State::Waiting(..) | State::Queued) {
            *state.begins.entry(name.clone()).or_default() += 1;
        }
        let metadata = job["metadata"].clone();
        let at = ticket_activities::now_ms() / 1000 + state.clock_ahead;
        let written = ["hello\n", "warning\n"].map(|line| (at, line.to_owned())).into();
        let suspended = began == State::Queued;
        state
            .jobs
            .insert(name, Job { uid, metadata, suspended, removed: false, is_late: false, written, state: began });
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
        let mut state = self.state();
        let after = request.query.get("continue").cloned().unwrap_or_default();
        let limit = request.query.get("limit").map_or(usize::MAX, |limit| limit.parse().expect("a number"));
        let found = state.jobs.values().filter(|job| {
            !job.removed
                && labels.iter().all(|(name, value)| job.metadata["labels"][name] == **value)
                && fields.iter().all(|(name, value)| name == "metadata.name" && job.metadata["name"] == **value)
        });
        let mut found = found.filter(|job| after.is_empty() || job.metadata["name"].as_str() > Some(after.as_str()));
        let mut items: Vec<Value> = found.by_ref().take(limit).map(described).collect();
        let last = items.last().filter(|_| found.next().is_some()).map(|job| job["metadata"]["name"].clone());
        for job in &mut items {
            job["spec"]["padding"] = json!(state.padding);
        }
        let answer = Answer::json(
            200,
            &json!({
                "kind": "JobList", "metadata": { "resourceVersion": LIST_VERSION, "continue": last }, "items": items,
            }),
        );
        if last.is_some() && answer.body.len() < 32 * 1024 * 1024 {
            state.longest_page = state.longest_page.max(items.len());
        }
        answer
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
        !state.jobs.is_empty() && state.jobs.values().all(|job| matches!(job.state, State::Running | State::Queued))
    }

    /// The queue lets all run.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        let names: Vec<String> = state.jobs.keys().cloned().collect();
        for name in names {
            *state.begins.entry(name.clone()).or_default() += 1;
            let job = state.jobs.get_mut(&name).expect("it");
            (job.state, job.suspended) = (State::Running, false);
        }
        self.changed.notify_waiters();
    }

    /// The queue wants the room of all.
    pub(super) fn preempt(&self) {
        for job in self.state().jobs.values_mut() {
            (job.state, job.suspended) = (State::Gone, true);
        }
        self.changed.notify_waiters();
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
        job.metadata["annotations"]["neural-hive.io/stopped"] =
            patch["metadata"]["annotations"]["neural-hive.io/stopped"].clone();
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
    async fn log(&self, pod: &str, query: &BTreeMap<String, String>) -> Answer {
        let name = pod.trim_end_matches("-pod").to_owned();
        let (follow, since) = (query["follow"] == "true", query.get("sinceTime"));
        if follow {
            let mut state = self.state();
            state.followed_since.push(since.cloned());
            if state.refuses_to_follow > 0 {
                state.refuses_to_follow -= 1;
                return status(500, "InternalError", pod);
            }
        }
        let job = loop {
            let changed = self.changed.notified();
            let (job, hangs_up) = {
                let state = self.state();
                (state.jobs.get(&name).cloned(), state.hangs_up)
            };
            match job {
                Some(Job { state: State::Running, .. }) if follow && !hangs_up => {}
                Some(Job { state: State::Lost, .. }) if !follow => return status(500, "InternalError", pod),
                Some(Job { state: State::Waiting(..), .. }) => return status(400, "BadRequest", pod),
                Some(Job { state: State::Gone | State::Queued | State::CompleteWithoutPod, .. }) | None => {
                    return status(404, "NotFound", pod);
                }
                Some(job) => break job,
            }
            changed.await;
        };
        let unreadable = self.state().unreadable_logs;
        if unreadable > 0 {
            self.state().unreadable_logs = unreadable - 1;
            let body = b"unable to retrieve container logs for containerd://0abc".to_vec();
            return Answer { status: 200, content_type: "text/plain", headers: Vec::new(), body };
        }
        let since = since.map(|since| DateTime::parse_from_rfc3339(since).expect("a time").timestamp());
        let (mut body, mut begins) = (String::new(), true);
        for (at, piece) in &job.written {
            if since.is_none_or(|since| *at >= since) {
                // The parts of a line have the stamp of its first.
                body += &if begins { format!("{} {piece}", stamp(*at)) } else { piece.clone() };
            }
            begins = piece.ends_with('\n');
        }
        Answer { status: 200, content_type: "text/plain", headers: Vec::new(), body: body.into_bytes() }
    }

    /// Every pod writes this, a second after what it wrote before.
    pub(super) fn write(&self, text: &str) {
        for job in self.state().jobs.values_mut() {
            let at = job.written.last().map_or(0, |(at, _)| at + 1);
            job.written.push((at, text.to_owned()));
        }
    }
}

/// A time as the cluster writes it.
fn stamp(at: i64) -> String {
    DateTime::from_timestamp(at, 1).expect("a time").to_rfc3339_opts(SecondsFormat::Nanos, true)
}

fn described(job: &Job) -> Value {
    let condition = |kind: &str| json!([{ "type": kind, "status": "True", "reason": "", "message": "" }]);
    let conditions = match job.state {
        _ if job.is_late => json!([]),
        State::Exited(0) | State::CompleteWithoutPod => condition("Complete"),
        State::Exited(_) => condition("Failed"),
        State::Lost => condition("FailureTarget"),
        State::Gone | State::Queued => condition("Suspended"),
        State::Waiting(..) | State::Running => json!([]),
    };
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": job.metadata,
        "spec": { "template": {}, "suspend": job.suspended }, "status": { "conditions": conditions },
    })
}

fn pod(name: &str, job: &Job) -> Option<Value> {
    let began = job.written.first().map(|(at, _)| stamp(*at));
    let (phase, state) = match &job.state {
        State::Waiting(reason, message) => ("Pending", json!({ "waiting": { "reason": reason, "message": message } })),
        State::Running | State::Lost => ("Running", json!({ "running": { "startedAt": began } })),
        State::Exited(code) => {
            let (phase, reason) = if *code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
            (phase, json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": began } }))
        }
        State::Gone | State::Queued | State::CompleteWithoutPod => return None,
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
                ("GET", ["pods", pod, "log"]) => self.log(pod, &request.query).await,
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
