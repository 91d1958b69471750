//! Kubernetes: the runtime, at a fake of its API server.

mod cluster;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::kubernetes::{Access, Amounts, Cluster, KubernetesConfig, KubernetesRuntime};
use ticket_activities::external::{EndpointLimits, Patience, Provider as _};
use ticket_activities::{ExternalState, FailureClass, Job, code};
use ticket_schemas::TaskType;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::server::{Answer, Damage, Heard, Server};
use crate::world::{Attempt, World, completed, eventually, failed, kept_lines, logged};
use cluster::{FakeCluster, NAMESPACE, State, WhenStopped};

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

    fn driver(&self, address: &str, patience: Patience, limits: EndpointLimits) -> Driver {
        driver(runtime(address, KubernetesConfig { trial: self.trial, ..config() }), patience, limits)
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
    let elsewhere = FailureClass::Unavailable { after_ms: None };
    for (message, class) in [
        ("pods \"x\" is forbidden: exceeded quota: q", elsewhere),
        ("pods \"x\" is forbidden: not yet ready to handle request", elsewhere),
        ("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", FailureClass::Permanent),
        (BARE_PODS, FailureClass::Retry { after_ms: None }),
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
    eventually("its log is followed", || !cluster.state().followed_since.is_empty()).await;
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
    eventually("its log is followed", || !cluster.state().followed_since.is_empty()).await;
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
    eventually("its log is followed", || !cluster.state().followed_since.is_empty()).await;
    attempt.job.stop.cancel();
    completed(attempt.outcome("the attempt").await, "the attempt");
}

#[tokio::test]
async fn a_ticket_with_too_little_time_for_a_slow_cluster_blames_it_for_nothing_and_goes_nowhere_else() {
    let (world, _) = world(|cluster| cluster.end_all(0)).await;
    let driver = world.driver(EndpointLimits { faults_to_open: NonZeroU32::new(1), ..EndpointLimits::default() });
    world.server.script(Step::Prepare, Heard::No, Damage::Never);
    let short = Job { time_left: Duration::from_millis(200), ..world.job() };
    let failed = failed(Attempt::begin(&driver, short).outcome("the short one").await, "the short one");
    assert_eq!(
        (failed.code.as_str(), failed.class),
        (code::TIMEOUT, FailureClass::Retry { after_ms: None }),
        "{failed:?}"
    );
    let next = Attempt::begin(&driver, world.job_of("another"));
    completed(next.outcome("another").await, "its circuit is closed");
}

#[tokio::test]
async fn a_job_that_a_queue_holds_back_is_waited_for() {
    let (world, cluster) = world(|cluster| cluster.state().is_queued = true).await;
    let attempt = world.begin(world.job());
    eventually("the Job is created", || !world.peer.creates().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.resume();
    eventually("work runs", || world.peer.running() > 0).await;
    world.peer.end_all(0);
    completed(attempt.outcome("the attempt").await, "the attempt");
    world.was_done_once("the attempt");
    assert_eq!(world.peer.stops(), 0);
}

#[tokio::test]
async fn a_job_that_a_queue_takes_its_pod_from_is_stopped_for_good() {
    let (world, cluster) = world(|_| ()).await;
    let attempt = world.begin(world.job());
    eventually("its log is followed", || !cluster.state().followed_since.is_empty()).await;
    cluster.preempt();
    let failed = failed(attempt.outcome("the attempt").await, "the attempt");
    assert_eq!(
        (failed.code.as_str(), failed.external_state),
        (code::INFRASTRUCTURE, Some(ExternalState::ConfirmedStopped)),
        "{failed:?}"
    );
    assert_eq!(world.peer.stops(), 1, "it is marked as stopped, and ends soon if it is resumed");
}

#[tokio::test]
async fn the_next_worker_takes_no_complete_job_without_a_pod_for_done_unless_its_end_was_recorded() {
    for recorded in [false, true] {
        let (world, cluster) = world(|_| ()).await;
        let attempt = world.begin(world.job());
        eventually("its log is followed", || !cluster.state().followed_since.is_empty()).await;
        if recorded {
            // Its worker is lost while it reads the log.
            (0..5).for_each(|_| world.server.script(Step::Collect, Heard::No, Damage::Never));
            world.peer.end_all(0);
            eventually("its end is recorded", || attempt.job.progress.get()["phase"] == "collecting").await;
        }
        let (told, next) = (attempt.job.progress.get(), attempt.job.clone());
        drop(attempt);
        cluster.state().jobs.values_mut().for_each(|job| job.state = State::CompleteWithoutPod);
        let next = Job { lost_workers: 1, recorded: told, ..next };
        let outcome = world.begin(next).outcome("the next worker's attempt").await;
        if recorded {
            let done = completed(outcome, "its end was seen");
            assert_eq!(done.report.output["exit_code"], json!(0), "{done:?}");
        } else {
            let failed = failed(outcome, "nobody saw its end");
            assert_eq!(
                (failed.code.as_str(), failed.external_state),
                (code::INFRASTRUCTURE, Some(ExternalState::ConfirmedStopped)),
                "{failed:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_was_followed_of_a_job_that_is_deleted_is_in_the_result() {
    let folder = tempfile::tempdir().expect("folder");
    let (world, cluster) = world(|cluster| cluster.state().hangs_up = true).await;
    let attempt = world.begin(logged(world.job(), folder.path(), None));
    let log = attempt.job.progress.log().clone();
    eventually("it is followed", || log.told().map_or(0, |told| told.seq) == 2).await;
    world.peer.vanish();
    cluster.changed.notify_waiters();
    let failed = failed(attempt.outcome("the attempt").await, "the attempt");
    assert_eq!(failed.code, code::WORK_VANISHED, "{failed:?}");
    assert_eq!(failed.report.output["stdout"], json!("hello\nwarning\n"), "{failed:?}");
    assert_eq!(failed.report.metadata["stdout_incomplete"], json!(true), "{failed:?}");
}

#[tokio::test]
async fn jobs_too_many_or_too_long_for_one_answer_are_listed_page_by_page() {
    const JOBS: u32 = 30;
    let (world, cluster) = world(|cluster| cluster.end_all(0)).await;
    let driver = world.driver(EndpointLimits::default());
    let attempts = (1..=JOBS).map(|attempt| Attempt::begin(&driver, Job { attempt, ..world.job() }));
    join_all(attempts.map(|attempt| attempt.outcome("an attempt"))).await;
    // What a ticket may ask for, of characters that have six bytes each as JSON.
    cluster.state().padding = "\u{1}".repeat(256 * 1024);
    let runtime = runtime(&world.server.address.to_string(), config());
    let left = runtime.leftovers().await.expect("an answer");
    let names: BTreeSet<_> = left.iter().map(|left| json!(left.handle)["name"].to_string()).collect();
    assert_eq!((left.len(), names.len()), (JOBS as usize, JOBS as usize), "each once");
    assert_eq!(cluster.state().longest_page, 12, "no smaller pages than must be");
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
    cluster.state().jobs.values_mut().for_each(|job| job.is_late = true);
    let left = keeps.leftovers().await.expect("an answer");
    keeps.clean_up(&left[0].handle).await.expect("kept");
    assert_eq!(cluster.state().jobs.len(), 1);
    assert!(cluster.state().jobs.values().all(|job| job.state == State::Exited(0)));
    assert_eq!(runtime(&address, config()).leftovers().await.expect("an answer").len(), 1);
}

#[tokio::test]
async fn each_line_of_a_pod_is_kept_once_over_broken_connections_and_lost_workers() {
    let folder = tempfile::tempdir().expect("folder");
    let (world, cluster) = world(|cluster| cluster.state().hangs_up = true).await;
    let attempt = world.begin(logged(world.job(), folder.path(), None));
    let log = attempt.job.progress.log().clone();
    let seq = || log.told().map_or(0, |told| told.seq);
    eventually("what was written first is followed", || seq() == 2).await;
    cluster.write("half of ");
    cluster.state().refuses_to_follow = 2;
    eventually("the connection is lost twice within a line", || cluster.state().refuses_to_follow == 0).await;
    cluster.write("a line\n");
    eventually("a line that came in parts", || seq() == 3).await;
    cluster.write("50%\r");
    eventually("a part of the runtime's line that is a line of the log", || seq() == 4).await;
    // It is read again several times by now, before the rest of it comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let recorded = (attempt.job.progress.get(), log.told());
    cluster.write("100%\n");
    cluster.write("after the last heartbeat\n");
    eventually("the lost worker has kept it", || seq() == 6).await;
    let next = attempt.job.clone();
    drop(attempt);
    assert!(cluster.state().followed_since.iter().any(Option::is_some), "not all is read again");
    cluster.write("while nobody looks\n");

    let next = Job { lost_workers: 1, recorded: recorded.0, ..logged(next, folder.path(), recorded.1) };
    world.peer.end_all(0);
    let done = completed(world.begin(next).outcome("the next worker's attempt").await, "the attempt");
    world.was_done_once("the attempt");
    let text = "hello\nwarning\nhalf of a line\n50%\r100%\nafter the last heartbeat\nwhile nobody looks\n";
    assert_eq!(done.report.output["stdout"], json!(text), "the result has what lost workers read, too");
    assert_eq!(done.report.metadata.get("stdout_incomplete"), None);
    assert_eq!(
        kept_lines(folder.path()),
        [
            "1 stdout hello",
            "2 stdout warning",
            "3 stdout half of a line",
            "4 stdout 50%",
            "5 stdout 100%",
            "6 stdout after the last heartbeat",
            "7 stdout while nobody looks",
        ]
    );
}
