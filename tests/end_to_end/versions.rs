//! Workers of a Worker Deployment: which version runs a ticket, what becomes of open ones when another is made current,
//! and what is told about it (`docs/adr/0017-versions.md`). Versions are read from the histories.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temporalio_client::tonic::Request;
use temporalio_client::{Connection, ConnectionOptions, Url};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use temporalio_common::protos::temporal::api::taskqueue::v1::{TaskQueue, TaskQueueVersioningInfo};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeTaskQueueRequest;

use worker_agents::dev::temporal::{TemporalDevOptions, TemporalDevServer};

use crate::world::{PATIENCE, WORKER, Worker, World, cli, command_lines, eventually, temporal_options};

/// The workers of one deployment. Its name is the test's id.
struct Fleet<'a> {
    world: &'a World,
    behavior: &'static str,
}

impl Fleet<'_> {
    fn settings<'s>(&'s self, build_id: &'s str) -> [(&'static str, &'s str); 3] {
        [
            ("TEMPORAL_DEPLOYMENT_NAME", &self.world.id),
            ("TEMPORAL_WORKER_BUILD_ID", build_id),
            ("TEMPORAL_VERSIONING_BEHAVIOR", self.behavior),
        ]
    }

    async fn worker(&self, build_id: &str) -> Worker {
        let worker = self.world.worker(&self.settings(build_id)).await;
        worker.wait_ready().await;
        worker
    }

    /// Makes a version current, and waits until its tickets go there.
    async fn make_current(&self, build_id: &str) {
        self.route(&["set-current-version", "--build-id", build_id]).await;
        self.routed(|routing| routing.current_deployment_version.is_some_and(|current| current.build_id == build_id))
            .await;
    }

    /// A command about the deployment's routing, which works once a worker of the version has polled.
    async fn route(&self, arguments: &[&str]) {
        eventually(&format!("{arguments:?}"), || {
            let done = Command::new(cli())
                .args(["worker", "deployment"])
                .args(arguments)
                .args(["--deployment-name", &self.world.id, "--yes", "--address", &self.world.temporal])
                .env_clear()
                .output()
                .expect("the CLI runs");
            done.status.success().then_some(())
        })
        .await;
    }

    /// Waits until the task queue has heard of a routing.
    async fn routed(&self, wanted: impl Fn(TaskQueueVersioningInfo) -> bool) {
        let target = Url::parse(&format!("http://{}", self.world.temporal)).expect("URL");
        let connection = Connection::connect(ConnectionOptions::new(target).build()).await.expect("connected");
        let request = DescribeTaskQueueRequest {
            namespace: "default".to_owned(),
            task_queue: Some(TaskQueue { name: self.world.id.clone(), ..TaskQueue::default() }),
            task_queue_type: TaskQueueType::Workflow.into(),
            ..DescribeTaskQueueRequest::default()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = connection.workflow_service().describe_task_queue(Request::new(request.clone())).await;
            if asked.expect("described").into_inner().versioning_info.is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "the task queue hears of no such routing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The state of a version: `draining`, …
    fn status(&self, build_id: &str) -> String {
        let arguments = ["worker", "deployment", "describe-version", "--deployment-name", &self.world.id];
        let described = self.world.temporal_cli(&[&arguments[..], &["--build-id", build_id]].concat());
        described["drainageInfo"]["drainageStatus"].as_str().unwrap_or_default().to_owned()
    }
}

/// A server that looks every second whether a version is drained, and not every few minutes.
async fn server_that_looks_often(folder: &Path) -> TemporalDevServer {
    let program = folder.join("temporal");
    let settings = ["VersionDrainageStatusVisibilityGracePeriod", "VersionDrainageStatusRefreshInterval"]
        .map(|name| format!("--dynamic-config-value 'matching.wv.{name}=\"1s\"'"));
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" {}\n", cli().display(), settings.join(" "));
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("made a program");
    let options = TemporalDevOptions { cli: program, ..temporal_options(0) };
    TemporalDevServer::start(options).await.expect("Temporal")
}

/// Builds that took the steps of a workflow, in their order.
fn builds(world: &World, workflow_id: &str) -> Vec<String> {
    let history = world.temporal_cli(&["workflow", "show", "--workflow-id", workflow_id]);
    let events = history["events"].as_array().expect("events").clone();
    let steps = events.iter().filter(|event| event["eventType"] == "EVENT_TYPE_WORKFLOW_TASK_COMPLETED");
    steps
        .map(|event| {
            let step = &event["workflowTaskCompletedEventAttributes"];
            step["deploymentVersion"]["buildId"].as_str().unwrap_or("none").to_owned()
        })
        .collect()
}

fn builds_of(world: &World, name: &str) -> Vec<String> {
    builds(world, &format!("ticket-{}", world.ticket_id(name)))
}

/// Versioning behaviors of those who took the steps of a ticket; workers without a version have none.
fn behaviors(world: &World, name: &str) -> BTreeSet<String> {
    let history = world.history(name);
    let steps = history.iter().map(|event| &event["workflowTaskCompletedEventAttributes"]["versioningBehavior"]);
    steps.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A ticket that depends on another of this test.
fn dependent(world: &World, name: &str, on: &str) -> Value {
    let mut ticket = world.ticket(name, "true");
    ticket["dependencies"] = json!([world.ticket_id(on)]);
    ticket
}

/// Waits until a ticket is on the waiting list of another, and that list has taken its first step.
async fn on_the_list_of(world: &World, name: &str) -> String {
    let list = format!("waiters-{}", world.ticket_id(name));
    let query = format!("WorkflowId = '{list}'");
    let count = || world.temporal_cli(&["workflow", "count", "--query", &query])["count"].clone();
    eventually("the waiting list is there", || (count() == "1").then_some(())).await;
    eventually("it has taken its first step", || (!builds(world, &list).is_empty()).then_some(())).await;
    list
}

/// Ends a worker as a roll-out does.
async fn stop(mut worker: Worker) {
    worker.signal("-TERM");
    let status = tokio::task::spawn_blocking(move || worker.child.wait().expect("ended")).await.expect("join");
    assert!(status.success(), "{status}");
}

/// `doctor` with the settings of a worker.
fn doctor(world: &World, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(WORKER)
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .env("KAFKA_BOOTSTRAP_SERVERS", world.kafka.bootstrap_servers())
        .env("KAFKA_SCHEMA_REGISTRY_URL", &world.registry_url)
        .env("TEMPORAL_ADDRESS", &world.temporal)
        .env("TEMPORAL_TASK_QUEUE", &world.id)
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("the command runs")
}

/// What `doctor` finds out about the version.
fn version_check(world: &World, settings: &[(&str, &str)]) -> Value {
    let output = doctor(world, settings, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["check"] == "worker_version").expect("the check").clone()
}

/// What `/ready` shows of the start-up checks.
async fn shown(worker: &Worker) -> String {
    let (status, body) = worker.get("/ready").await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    body["checks"]["startup_checks"]["detail"].as_str().unwrap_or_default().to_owned()
}

fn only(one: &str) -> BTreeSet<String> {
    BTreeSet::from([one.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn with_auto_upgrade_a_parked_ticket_moves_to_the_current_version_and_back() {
    let world = World::new().await;
    let fleet = Fleet { world: &world, behavior: "auto_upgrade" };
    let one = fleet.worker("one").await;
    fleet.make_current("one").await;
    for (name, on) in [("parked", "later"), ("meanwhile", "both-run")] {
        world.publish(&dependent(&world, name, on)).await;
    }
    on_the_list_of(&world, "both-run").await;
    let list = on_the_list_of(&world, "later").await;
    world.publish(&world.ticket("before", "true")).await;
    assert_eq!(world.result("before").await["status"], "COMPLETED");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "before")), only("one"));
    assert_eq!(behaviors(&world, "before"), only("VERSIONING_BEHAVIOR_AUTO_UPGRADE"));

    let two = fleet.worker("two").await;
    fleet.make_current("two").await;
    // Also while workers of the old version run, which have the ticket in their caches.
    world.publish(&world.ticket("both-run", "true")).await;
    assert_eq!(world.result("meanwhile").await["status"], "COMPLETED");
    assert_eq!(builds_of(&world, "meanwhile").last().map(String::as_str), Some("two"));
    stop(one).await;
    world.publish(&world.ticket("later", "true")).await;
    assert_eq!(world.result("parked").await["status"], "COMPLETED");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "later")), only("two"));
    for workflow in [list, format!("ticket-{}", world.ticket_id("parked"))] {
        let builds = builds(&world, &workflow);
        assert_eq!((builds.first().map(String::as_str), builds.last().map(String::as_str)), (Some("one"), Some("two")));
    }

    // And back: the old version is made current again.
    world.publish(&dependent(&world, "parked-2", "later-2")).await;
    on_the_list_of(&world, "later-2").await;
    let one = fleet.worker("one").await;
    fleet.make_current("one").await;
    stop(two).await;
    world.publish(&world.ticket("later-2", "true")).await;
    assert_eq!(world.result("parked-2").await["status"], "COMPLETED");
    let builds = builds_of(&world, "parked-2");
    assert_eq!((builds.first().map(String::as_str), builds.last().map(String::as_str)), (Some("two"), Some("one")));
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_tickets_end_on_their_version_while_new_ones_run_on_the_current() {
    let folder = tempfile::tempdir().expect("folder");
    let server = server_that_looks_often(folder.path()).await;
    let world = World::with_temporal(server.address().to_owned()).await;
    let fleet = Fleet { world: &world, behavior: "pinned" };
    let one = fleet.worker("one").await;
    fleet.make_current("one").await;
    world.publish(&dependent(&world, "parked", "later")).await;
    let list = on_the_list_of(&world, "later").await;
    let two = fleet.worker("two").await;
    fleet.make_current("two").await;

    // The old version drains: that is told, and no fault.
    eventually("the old version drains", || (fleet.status("one") == "draining").then_some(())).await;
    let check = version_check(&world, &fleet.settings("one"));
    assert_eq!(check["state"], "ok", "{check}");
    assert!(check["what"].as_str().expect("what").contains("which drains"), "{check}");
    let check = version_check(&world, &fleet.settings("two"));
    assert_eq!(check["state"], "ok", "{check}");

    for n in 0..6 {
        world.publish(&world.ticket(&format!("new-{n}"), "true")).await;
    }
    for name in ["new-0", "new-1", "new-2", "new-3", "new-4", "new-5"] {
        assert_eq!(world.result(name).await["status"], "COMPLETED", "{name}");
        assert_eq!(BTreeSet::from_iter(builds_of(&world, name)), only("two"), "{name}");
    }
    assert_eq!(fleet.status("one"), "draining", "a ticket and its list are pinned to it");
    world.publish(&world.ticket("later", "true")).await;
    assert_eq!(world.result("parked").await["status"], "COMPLETED");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "parked")), only("one"));
    assert_eq!(behaviors(&world, "parked"), only("VERSIONING_BEHAVIOR_PINNED"));
    eventually("the list closes", || {
        let described = world.temporal_cli(&["workflow", "describe", "--workflow-id", &list]);
        (described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED").then_some(())
    })
    .await;
    assert_eq!(BTreeSet::from_iter(builds(&world, &list)), only("one"));
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "later")), only("two"));
    eventually("the version is drained", || (fleet.status("one") == "drained").then_some(())).await;
    let check = version_check(&world, &fleet.settings("one"));
    assert_eq!(check["state"], "ok", "{check}");
    assert!(check["what"].as_str().expect("what").contains("is drained: no open ticket needs it"), "{check}");
    for worker in [&one, &two] {
        assert!(!shown(worker).await.contains("worker_version"), "{}", shown(worker).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_current_version_tickets_wait_and_the_command_that_is_named_lets_them_run() {
    let world = World::new().await;
    let fleet = Fleet { world: &world, behavior: "auto_upgrade" };
    // Nobody has polled: that is no failure yet.
    let check = version_check(&world, &fleet.settings("one"));
    assert_eq!(check["state"], "unknown", "{check}");
    assert!(check["what"].as_str().expect("what").contains("none has polled yet"), "{check}");

    let worker = fleet.worker("one").await;
    world.publish(&world.ticket("waits", "true")).await;
    let failure = r#"worker_agent_startup_check_failures{check="worker_version",state="failed"}"#;
    worker.reaches(failure, 1.0).await;
    let detail = shown(&worker).await;
    assert!(detail.contains("worker_version failed") && detail.contains("workers without a version"), "{detail}");
    assert!(detail.contains("set-current-version"), "{detail}");
    eventually("the ticket is started", || (world.runs("waits") == 1).then_some(())).await;
    let output = doctor(&world, &fleet.settings("one"), &[]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(builds_of(&world, "waits").is_empty() && world.results().is_empty());

    // As an operator does: the command is copied from what was said.
    let command = said.lines().find(|line| line.contains("set-current-version")).expect("a command");
    let command = command.split('`').nth(1).expect("quoted").strip_prefix("temporal ").expect("the CLI");
    let script = format!("exec \"$0\" {command} --yes --address {}", world.temporal);
    let done = Command::new("sh").arg("-c").arg(script).arg(cli()).env_clear().output().expect("sh");
    assert!(done.status.success(), "{command}");
    assert_eq!(world.result("waits").await["status"], "COMPLETED");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "waits")), only("one"));
    let check = version_check(&world, &fleet.settings("one"));
    assert_eq!(check["state"], "ok", "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_a_version_run_as_before_until_a_version_is_made_current() {
    let world = World::new().await;
    let bare = world.worker(&[]).await;
    bare.wait_ready().await;
    world.publish(&world.ticket("bare", "true")).await;
    world.publish(&dependent(&world, "parked", "later")).await;
    assert_eq!(world.result("bare").await["status"], "COMPLETED");
    assert_eq!(behaviors(&world, "bare"), BTreeSet::new());
    on_the_list_of(&world, "later").await;
    assert!(!shown(&bare).await.contains("worker_version"), "{}", shown(&bare).await);

    // The first version of a deployment: what is open moves to it, and who has no version is told.
    let fleet = Fleet { world: &world, behavior: "auto_upgrade" };
    let one = fleet.worker("one").await;
    fleet.make_current("one").await;
    let check = version_check(&world, &[]);
    assert_eq!(check["state"], "failed", "{check}");
    assert!(check["what"].as_str().expect("what").contains("has no version and gets none"), "{check}");
    stop(bare).await;
    world.publish(&world.ticket("later", "true")).await;
    assert_eq!(world.result("parked").await["status"], "COMPLETED");
    let builds = builds_of(&world, "parked");
    assert_eq!(builds.last().map(String::as_str), Some("one"), "{builds:?}");

    // A ramp to another version: both are in order.
    let two = fleet.worker("two").await;
    fleet.route(&["set-ramping-version", "--build-id", "two", "--percentage", "100"]).await;
    fleet.routed(|routing| routing.ramping_version_percentage > 99.0).await;
    world.publish(&world.ticket("ramped", "true")).await;
    assert_eq!(world.result("ramped").await["status"], "COMPLETED");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "ramped")), only("two"));
    for build_id in ["one", "two"] {
        let check = version_check(&world, &fleet.settings(build_id));
        assert_eq!(check["state"], "ok", "{check}");
        assert!(check["what"].as_str().expect("what").contains("100 % of them"), "{check}");
    }
    // And back to workers without a version.
    fleet.route(&["set-ramping-version", "--build-id", "two", "--delete"]).await;
    fleet.route(&["set-current-version", "--unversioned"]).await;
    fleet.routed(|routing| routing.current_deployment_version.is_none()).await;
    let _bare = world.worker(&[]).await;
    world.publish(&world.ticket("back", "true")).await;
    assert_eq!(world.result("back").await["status"], "COMPLETED");
    assert_eq!(behaviors(&world, "back"), BTreeSet::new());
    let check = version_check(&world, &fleet.settings("one"));
    assert!(check["what"].as_str().expect("what").contains("and wait if none runs"), "{check}");
    drop((one, two));
}

/// Waits until that many commands sleep for `marker` seconds.
async fn sleepers(marker: &str, count: usize) {
    let sleeping = || command_lines(marker).iter().filter(|(_, line)| line.starts_with("sleep\0")).count();
    eventually("the commands run", || (sleeping() == count).then_some(())).await;
}

/// A ticket whose command runs for ever the first time and ends at once the second.
fn first_for_ever(world: &World, name: &str, marker: &str) -> Value {
    world.ticket_in("kept", name, &format!("test -e {name} && echo second || {{ : > {name}; sleep {marker}; }}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_auto_upgrade_an_attempt_whose_version_is_gone_is_made_by_the_current_one() {
    let world = World::new().await;
    let fleet = Fleet { world: &world, behavior: "auto_upgrade" };
    let mut one = fleet.worker("one").await;
    fleet.make_current("one").await;
    let marker = format!("62.4{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    world.publish(&first_for_ever(&world, "running", &marker)).await;
    sleepers(&marker, 1).await;
    let _two = fleet.worker("two").await;
    fleet.make_current("two").await;
    one.kill_9();
    let result = world.result("running").await;
    assert_eq!(result["result"]["output"]["stdout"], "second\n", "{result}");
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1", "a lost version uses up no attempt");
    let builds = builds_of(&world, "running");
    assert_eq!((builds.first().map(String::as_str), builds.last().map(String::as_str)), (Some("one"), Some("two")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_attempt_whose_version_is_gone_waits_for_it_or_for_an_operator() {
    let world = World::new().await;
    let fleet = Fleet { world: &world, behavior: "pinned" };
    let mut one = fleet.worker("one").await;
    fleet.make_current("one").await;
    let marker = format!("63.1{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    for name in ["stays", "moves"] {
        world.publish(&first_for_ever(&world, name, &marker)).await;
    }
    sleepers(&marker, 2).await;
    let _two = fleet.worker("two").await;
    fleet.make_current("two").await;
    one.kill_9();
    for name in ["stays", "moves"] {
        eventually(&format!("{name} is up for another attempt"), || {
            let workflow = format!("ticket-{}", world.ticket_id(name));
            let described = world.temporal_cli(&["workflow", "describe", "--workflow-id", &workflow]);
            let pending = &described["pendingActivities"][0];
            (pending["state"] == "PENDING_ACTIVITY_STATE_SCHEDULED" && pending["attempt"] == 2).then_some(())
        })
        .await;
    }
    // The current version works, and takes neither.
    world.publish(&world.ticket("new", "true")).await;
    assert_eq!(world.result("new").await["status"], "COMPLETED");
    let said = world.command(&["explain", &world.ticket_id("stays")], "");
    let said = String::from_utf8(said.stdout).expect("UTF-8");
    assert!(said.contains("build \"one\"") && said.contains("to which it is pinned"), "{said}");
    assert_eq!(world.results().len(), 1, "only the new one");

    // As an operator finds and moves those that are left behind.
    let left = format!("TemporalWorkerDeploymentVersion = '{}:one' AND ExecutionStatus = 'Running'", world.id);
    let count = || world.temporal_cli(&["workflow", "count", "--query", &left])["count"].clone();
    eventually("both are found", || (count() == "2").then_some(())).await;
    let query = format!("{left} AND TicketId = '{}'", world.ticket_id("moves"));
    let done = Command::new(cli())
        .args(["workflow", "update-options", "--query", &query, "--versioning-override-behavior", "auto_upgrade"])
        .args(["--yes", "--reason", "the version is gone", "--address", &world.temporal])
        .env_clear()
        .output()
        .expect("the CLI runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(world.result("moves").await["result"]["output"]["stdout"], "second\n");
    assert_eq!(builds_of(&world, "moves").last().map(String::as_str), Some("two"));
    assert!(!world.results().contains_key(&world.ticket_id("stays")));

    let _one = fleet.worker("one").await;
    let result = world.result("stays").await;
    assert_eq!(result["result"]["output"]["stdout"], "second\n", "{result}");
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1");
    assert_eq!(BTreeSet::from_iter(builds_of(&world, "stays")), only("one"));
}
