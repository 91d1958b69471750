//! Docker: the runtime, and a fake of its engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::docker::{DockerConfig, DockerRuntime, Engine};
use ticket_activities::external::{EndpointLimits, Patience};
use ticket_activities::{ExternalState, FailureClass, Job, code};
use ticket_schemas::TaskType;
use tokio::sync::Notify;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::server::{Answer, Request, Server};
use crate::world::{World, completed, eventually, failed, kept_lines, logged};

pub(crate) struct DockerCandidate;

impl Candidate for DockerCandidate {
    fn task_type(&self) -> TaskType {
        TaskType::Execute
    }

    fn provider(&self) -> &'static str {
        "docker"
    }

    fn recognition(&self) -> Recognition {
        Recognition::Lookup
    }

    /// The client gives an error's status and text, and no header.
    fn hears_retry_after(&self) -> bool {
        false
    }

    fn steps(&self) -> &'static [Step] {
        &[Step::Prepare, Step::LookUp, Step::Create, Step::Start, Step::Watch, Step::Collect]
    }

    fn parameters(&self) -> Value {
        json!({ "runtime": "docker", "image": "busybox:1", "command": ["echo", "hello"] })
    }

    fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(FakeEngine::default())
    }

    fn driver(&self, address: &str, patience: Patience, limits: EndpointLimits) -> Driver {
        let config = DockerConfig {
            default_timeout: Duration::from_secs(600),
            cpu_limit: 1.0,
            memory_limit: 64 << 20,
            network_mode: "none".to_owned(),
            allowed_networks: Vec::new(),
            user: "65534:65534".to_owned(),
            pids_limit: 64,
            scratch_bytes: 1 << 20,
            pull: PullPolicy::IfNotPresent,
            login: None,
            grace: Duration::from_secs(1),
            clean_up: true,
            output_limit: 1000,
        };
        let engine = Engine::new(format!("tcp://{address}"), Arc::new(|_, _| ()));
        driver(DockerRuntime::new(engine, config), patience, limits)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running,
    Exited(i32),
}

#[derive(Debug, Clone)]
struct Container {
    name: String,
    labels: Value,
    state: State,
    /// Pieces of output: second, stream and bytes. The engine gets one each second; the parts of a line have the second of its first.
    written: Vec<(i64, u8, String)>,
}

#[derive(Default)]
struct Engines {
    /// By id.
    containers: BTreeMap<String, Container>,
    creates: BTreeMap<String, usize>,
    begins: BTreeMap<String, usize>,
    stops: usize,
    ends_with: Option<i32>,
    clock_ahead: i64,
    /// Its containers are on another engine than the one that answers now.
    replaced: bool,
    /// Whoever follows output of a container that runs gets what is there, and is hung up on.
    hangs_up: bool,
    /// So many times whoever follows output gets an error and none of it.
    refuses_to_follow: u32,
    /// From when on output was asked for, each time that it was followed.
    followed_since: Vec<i64>,
}

/// An engine whose containers run until they are told to end.
#[derive(Default)]
pub(crate) struct FakeEngine {
    state: Mutex<Engines>,
    changed: Notify,
}

impl FakeEngine {
    fn state(&self) -> MutexGuard<'_, Engines> {
        self.state.lock().expect("no test panics with it")
    }

    fn id(&self) -> &'static str {
        if self.state().replaced { "another engine" } else { "the engine" }
    }

    fn create(&self, request: &Request) -> Answer {
        let name = request.query["name"].clone();
        let body: Value = serde_json::from_slice(&request.body).expect("a container");
        let mut state = self.state();
        if state.containers.values().any(|container| container.name == name) {
            let message = format!("Conflict. The container name \"/{name}\" is already in use");
            return Answer::json(409, &json!({ "message": message }));
        }
        let id = format!("{:064x}", state.containers.len() + 1);
        let labels = body["Labels"].clone();
        *state.creates.entry(name.clone()).or_default() += 1;
        let written = vec![(0, 1, "hello\n".to_owned()), (1, 2, "warning\n".to_owned())];
        state.containers.insert(id.clone(), Container { name, labels, state: State::Created, written });
        Answer::json(201, &json!({ "Id": id, "Warnings": [] }))
    }

    fn start(&self, id: &str) -> Answer {
        let mut state = self.state();
        let ends_with = state.ends_with;
        let Some(container) = state.containers.get_mut(id) else { return no_such(id) };
        if container.state == State::Running {
            return Answer::empty(304);
        }
        // The real one runs what has ended once more, too.
        container.state = ends_with.map_or(State::Running, State::Exited);
        let name = container.name.clone();
        *state.begins.entry(name).or_default() += 1;
        Answer::empty(204)
    }

    fn inspect(&self, id: &str) -> Answer {
        let state = self.state();
        let Some(container) = state.containers.get(id) else { return no_such(id) };
        let now_ms = ticket_activities::now_ms() + state.clock_ahead * 1000;
        let started = chrono::DateTime::from_timestamp_millis(now_ms).expect("a time");
        let (status, running, exit_code) = match container.state {
            State::Created => ("created", false, 0),
            State::Running => ("running", true, 0),
            State::Exited(code) => ("exited", false, code),
        };
        Answer::json(
            200,
            &json!({ "Id": id, "Name": format!("/{}", container.name), "State": {
                "Status": status, "Running": running, "Paused": false, "Restarting": false, "OOMKilled": false,
                "Dead": false, "Pid": 1, "ExitCode": exit_code, "Error": "", "StartedAt": started.to_rfc3339(),
                "FinishedAt": started.to_rfc3339(),
            } }),
        )
    }

    async fn wait(&self, id: &str) -> Answer {
        loop {
            let changed = self.changed.notified();
            match self.state().containers.get(id).map(|container| container.state) {
                None => return no_such(id),
                Some(State::Running) => {}
                Some(State::Created) => return Answer::json(200, &json!({ "StatusCode": 0 })),
                Some(State::Exited(code)) => return Answer::json(200, &json!({ "StatusCode": code })),
            }
            changed.await;
        }
    }

    fn stop(&self, id: &str) -> Answer {
        let mut state = self.state();
        state.stops += 1;
        let Some(container) = state.containers.get_mut(id) else { return no_such(id) };
        if container.state != State::Running {
            return Answer::empty(304);
        }
        container.state = State::Exited(143);
        self.changed.notify_waiters();
        Answer::empty(204)
    }

    fn remove(&self, id: &str) -> Answer {
        match self.state().containers.remove(id) {
            Some(_) => Answer::empty(204),
            None => no_such(id),
        }
    }

    fn list(&self, request: &Request) -> Answer {
        let filters: Value = serde_json::from_str(&request.query["filters"]).expect("filters");
        let wanted: Vec<&str> = filters["label"].as_array().expect("labels").iter().filter_map(Value::as_str).collect();
        let state = self.state();
        let found = state.containers.iter().filter(|(_, container)| {
            wanted.iter().all(|label| {
                let (name, value) = label.split_once('=').expect("a label");
                container.labels[name] == value
            })
        });
        let found: Vec<Value> = found
            .map(|(id, container)| json!({ "Id": id, "Names": [container.name], "Labels": container.labels, "State": "running" }))
            .collect();
        Answer::json(200, &json!(found))
    }

    /// Its output, from a time on and with the time in front of each piece when that is asked for.
    fn logs(&self, id: &str, query: &BTreeMap<String, String>) -> Answer {
        let state = self.state();
        let Some(container) = state.containers.get(id) else { return no_such(id) };
        let asked = |name: &str| query.get(name).map_or("", String::as_str);
        let since = asked("since").parse().unwrap_or(0);
        let mut body = Vec::new();
        for (second, stream, text) in container.written.iter().filter(|(second, ..)| BEGAN + second >= since) {
            let time = format!("2026-03-16T09:{}:{:02}.000000000Z ", 30 + second / 60, second % 60);
            let time = if asked("timestamps") == "true" { time } else { String::new() };
            body.extend([*stream, 0, 0, 0]);
            body.extend(u32::try_from(time.len() + text.len()).expect("short").to_be_bytes());
            body.extend(time.as_bytes());
            body.extend(text.as_bytes());
        }
        Answer { status: 200, content_type: "application/vnd.docker.raw-stream", headers: Vec::new(), body }
    }

    /// Its output up to its end, which is waited for.
    async fn follow(&self, id: &str, query: &BTreeMap<String, String>) -> Answer {
        let since: Option<i64> = query.get("since").and_then(|since| since.parse().ok());
        {
            let mut state = self.state();
            state.followed_since.extend(since);
            if state.refuses_to_follow > 0 {
                state.refuses_to_follow -= 1;
                return Answer::json(500, &json!({ "message": "the log driver is busy" }));
            }
        }
        loop {
            let changed = self.changed.notified();
            let waits = {
                let state = self.state();
                let running = state.containers.get(id).is_some_and(|container| container.state == State::Running);
                running && !state.hangs_up
            };
            if !waits {
                return self.logs(id, query);
            }
            changed.await;
        }
    }

    /// Every container writes this.
    fn write(&self, stream: u8, text: &str) {
        let mut state = self.state();
        for Container { written, .. } in state.containers.values_mut() {
            let begun = written.iter().rev().find(|(_, other, _)| *other == stream);
            let begun = begun.filter(|(.., text)| !text.ends_with('\n')).map(|(second, ..)| *second);
            let second = begun.unwrap_or(i64::try_from(written.len()).expect("few pieces"));
            written.push((second, stream, text.to_owned()));
        }
    }
}

/// When containers begin to write: 2026-03-16T09:30:00Z.
const BEGAN: i64 = 1_773_653_400;

fn no_such(id: &str) -> Answer {
    Answer::json(404, &json!({ "message": format!("No such container: {id}") }))
}

/// The parts of a path, without the version in front.
fn parts(request: &Request) -> Vec<&str> {
    let parts = request.path.split('/').filter(|part| !part.is_empty());
    parts.skip_while(|part| part.starts_with("v1.")).collect()
}

/// Whether output is asked for as it comes. Nothing rests on it but the log.
fn is_followed(request: &Request) -> bool {
    request.query.get("follow").is_some_and(|follow| follow == "true")
}

impl Peer for FakeEngine {
    fn step(&self, request: &Request) -> Option<Step> {
        if is_followed(request) {
            return None;
        }
        match (request.method.as_str(), parts(request).as_slice()) {
            ("GET", ["version"] | ["images", .., "json"]) | ("POST", ["images", "create"]) => Some(Step::Prepare),
            ("GET", ["containers", "json"]) => Some(Step::LookUp),
            ("POST", ["containers", "create"]) => Some(Step::Create),
            ("POST", ["containers", _, "start"]) => Some(Step::Start),
            ("GET", ["containers", _, "json"]) | ("POST", ["containers", _, "wait"]) => Some(Step::Watch),
            ("POST", ["containers", _, "stop"]) => Some(Step::Stop),
            ("GET", ["containers", _, "logs"]) => Some(Step::Collect),
            _ => None,
        }
    }

    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            match (request.method.as_str(), parts(&request).as_slice()) {
                ("GET", ["version"]) => Answer::json(200, &json!({ "Version": "20.10.24", "ApiVersion": "1.41" })),
                ("GET", ["info"]) => Answer::json(200, &json!({ "ID": self.id() })),
                ("GET", ["images", .., "json"]) => Answer::json(200, &json!({ "Id": "sha256:0" })),
                ("GET", ["containers", "json"]) => self.list(&request),
                ("POST", ["containers", "create"]) => self.create(&request),
                ("POST", ["containers", id, "start"]) => self.start(id),
                ("GET", ["containers", id, "json"]) => self.inspect(id),
                ("POST", ["containers", id, "wait"]) => self.wait(id).await,
                ("POST", ["containers", id, "stop"]) => self.stop(id),
                ("GET", ["containers", id, "logs"]) if is_followed(&request) => self.follow(id, &request.query).await,
                ("GET", ["containers", id, "logs"]) => self.logs(id, &request.query),
                ("DELETE", ["containers", id]) => self.remove(id),
                _ => Answer::json(404, &json!({ "message": "page not found" })),
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
        self.state().containers.values().filter(|container| container.state == State::Running).count()
    }

    fn stops(&self) -> usize {
        self.state().stops
    }

    fn end_all(&self, exit_code: i32) {
        let mut state = self.state();
        state.ends_with = Some(exit_code);
        for container in state.containers.values_mut().filter(|container| container.state == State::Running) {
            container.state = State::Exited(exit_code);
        }
        self.changed.notify_waiters();
    }

    fn vanish(&self) {
        self.state().containers.clear();
        self.changed.notify_waiters();
    }

    fn set_clock(&self, ahead: i64) {
        self.state().clock_ahead = ahead;
    }
}

/// The container goes on where nobody can look.
#[tokio::test]
async fn a_container_of_another_engine_has_neither_vanished_nor_stopped() {
    for (mode, class) in
        [("AT_LEAST_ONCE", FailureClass::Retry { after_ms: None }), ("AT_MOST_ONCE", FailureClass::Permanent)]
    {
        let candidate: Arc<dyn Candidate> = Arc::new(DockerCandidate);
        let engine = Arc::new(FakeEngine::default());
        let peer: Arc<dyn Peer> = Arc::clone(&engine) as _;
        let server = Server::start(Arc::clone(&peer)).await;
        let world = World { candidate, peer, server };
        let mut job = world.job();
        job.time_left = Duration::from_secs(3);
        let mut ticket = (*job.ticket).clone();
        let qos = json!({ "delivery_mode": mode, "consistency": "EVENTUAL", "durability": "PERSISTENT" });
        ticket.qos = serde_json::from_value(qos).expect("qos");
        job.ticket = Arc::new(ticket);
        let attempt = world.begin(job);
        eventually("work runs", || world.peer.running() > 0).await;
        engine.state().replaced = true;
        world.peer.vanish();
        let failed = failed(attempt.outcome(mode).await, mode);
        assert_eq!((failed.code.as_str(), failed.class), (code::TIMEOUT, class), "{mode}");
        assert_eq!(failed.external_state, Some(ExternalState::Unknown), "{mode}");
        assert!(failed.message.contains("another engine"), "{mode}: {}", failed.message);
        assert_eq!(world.peer.creates().values().sum::<usize>(), 1, "{mode}");
    }
}

#[tokio::test]
async fn each_line_of_a_container_is_kept_once_over_broken_connections_and_lost_workers() {
    let folder = tempfile::tempdir().expect("folder");
    let candidate: Arc<dyn Candidate> = Arc::new(DockerCandidate);
    let engine = Arc::new(FakeEngine::default());
    engine.state().hangs_up = true;
    let peer: Arc<dyn Peer> = Arc::clone(&engine) as _;
    let server = Server::start(Arc::clone(&peer)).await;
    let world = World { candidate, peer, server };

    let job = logged(world.job(), folder.path(), None);
    let attempt = world.begin(job);
    let log = attempt.job.progress.log().clone();
    let seq = || log.told().map_or(0, |told| told.seq);
    eventually("what was written first is followed", || seq() == 2).await;
    engine.write(1, "half of ");
    engine.write(2, "a warning\n");
    eventually("a line of the other stream does not wait", || seq() == 3).await;
    engine.state().refuses_to_follow = 2;
    eventually("the connection is lost twice within a line", || engine.state().refuses_to_follow == 0).await;
    engine.write(1, "a line\n");
    eventually("a line that came in parts", || seq() == 4).await;
    engine.write(1, "50%\r");
    eventually("a part of the engine's line that is a line of the log", || seq() == 5).await;
    // It is read again several times by now, before the rest of it comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let recorded = (attempt.job.progress.get(), log.told());
    engine.write(1, "100%\n");
    engine.write(1, "after the last heartbeat\n");
    eventually("the lost worker has kept it", || seq() == 7).await;
    let next = attempt.job.clone();
    drop(attempt);
    engine.write(2, "while nobody looks\n");

    let next = Job { lost_workers: 1, recorded: recorded.0, ..logged(next, folder.path(), recorded.1) };
    world.peer.end_all(0);
    completed(world.begin(next).outcome("the next worker's attempt").await, "the attempt");
    world.was_done_once("the attempt");
    assert_eq!(
        kept_lines(folder.path()),
        [
            "1 stdout hello",
            "2 stderr warning",
            "3 stderr a warning",
            "4 stdout half of a line",
            "5 stdout 50%",
            "6 stdout 100%",
            "7 stdout after the last heartbeat",
            "8 stderr while nobody looks",
        ]
    );
    assert!(engine.state().followed_since.last().is_some_and(|since| *since > BEGAN), "not all is read again");
}
