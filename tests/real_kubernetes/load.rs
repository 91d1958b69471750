//! Many Jobs at once, on nodes that kwok simulates: no command runs, and all else of the cluster is real. `JOBS=200 NODES=20` is the
//! whole of it.

use std::collections::BTreeSet;
use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lane::{cluster, ticket, world};
use crate::world::{PATIENCE, Worker, World, eventually, size, verdict};

/// Namespace whose pods run on simulated nodes only, each with a log of one line.
const SIMULATED: &str = "simulated";
/// The same, and its pods have no log.
const MUTE: &str = "mute";
/// What the worker may hold for each Job that it follows, and for work of any amount.
const MIB_PER_JOB: f64 = 0.5;
const MIB_OF_WORK: f64 = 30.0;
/// What it may hold more of after as many Jobs again.
const MIB_LEFT: f64 = 15.0;

/// A world whose cluster has simulated nodes.
async fn simulated_world() -> World {
    static NODES: Once = Once::new();
    let world = world().await;
    let simulate = || {
        let nodes = size("NODES", 10).to_string();
        let simulated = cluster().instance.run("simulate", &["--nodes", &nodes]);
        simulated.unwrap_or_else(|error| panic!("{error:#}"));
    };
    tokio::task::spawn_blocking(move || NODES.call_once(simulate)).await.expect("simulated nodes");
    world
}

/// A ticket whose pod is said to run for `time`, and to end with `exit_code`.
fn simulated(world: &World, name: &str, time: Duration, exit_code: i32) -> Value {
    let mut ticket = ticket(world, name, "echo nobody runs this");
    ticket["parameters"]["env_vars"] =
        json!({ "SIMULATED_TIME": format!("{}s", time.as_secs()), "SIMULATED_EXIT_CODE": exit_code.to_string() });
    ticket["sla"]["timeout_ms"] = json!(300_000);
    ticket
}

/// One test's Jobs.
struct Load {
    // Ends before its peers do.
    worker: Worker,
    world: World,
    count: usize,
}

/// What was seen of a round.
struct Seen {
    took: Duration,
    at_once: usize,
    nodes: BTreeSet<String>,
    most_mib: f64,
}

impl Load {
    fn name(round: &str, n: usize) -> String {
        format!("{round}-{n}")
    }

    /// Every fifth fails.
    fn exit_code(n: usize) -> i32 {
        if n.is_multiple_of(5) { 3 } else { 0 }
    }

    /// All Jobs run at once, end, are judged and removed.
    async fn round(&self, round: &str) -> Seen {
        let Self { worker, world, count } = self;
        let few = u32::try_from(*count).expect("few");
        // For as long as it takes to create the others.
        let time = Duration::from_secs(10) + Duration::from_millis(250) * few;
        let patience = PATIENCE + Duration::from_secs(2) * few;
        let begun = Instant::now();
        let all: Vec<_> =
            (0..*count).map(|n| simulated(world, &Self::name(round, n), time, Self::exit_code(n))).collect();
        world.publish_all(&all).await;
        let (mut at_once, mut nodes, mut most_mib) = (0, BTreeSet::new(), 0.0_f64);
        let results = loop {
            most_mib = most_mib.max(worker.resident_mib());
            let pods = pods();
            at_once = at_once.max(pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count());
            nodes.extend(pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)));
            let mut results = world.results();
            results.retain(|id, _| id.starts_with(&world.ticket_id(round)));
            if results.len() == *count {
                break results;
            }
            assert!(begun.elapsed() < patience, "{} results of {count}", results.len());
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let took = begun.elapsed();
        eventually("Jobs and pods are removed", || (jobs().is_empty() && pods().is_empty()).then_some(())).await;
        let creates = cluster().creates();
        for n in 0..*count {
            let id = world.ticket_id(&Self::name(round, n));
            let copies = &results[&id];
            assert!(copies.iter().all(|copy| copy == &copies[0]), "two different results of {n}");
            judge(&copies[0], Self::exit_code(n));
            assert_eq!(creates.get(&id), Some(&1), "Jobs of {n}");
        }
        Seen { took, at_once, nodes, most_mib }
    }
}

fn judge(result: &Value, exit_code: i32) {
    let expected = if exit_code == 0 { ("COMPLETED", "") } else { ("FAILED", "execution_failed") };
    assert_eq!((verdict(result).0, verdict(result).1), expected, "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    assert_eq!(output["exit_code"], exit_code.to_string(), "{result}");
    assert_eq!(output["stdout"], "simulated\n", "{result}");
    assert_eq!(metadata.get("stdout_incomplete"), None, "{result}");
    assert_eq!(metadata["attempt_count"], "1", "{result}");
}

fn jobs() -> Vec<Value> {
    cluster().items(&format!("/apis/batch/v1/namespaces/{SIMULATED}/jobs"))
}

fn pods() -> Vec<Value> {
    cluster().items(&format!("/api/v1/namespaces/{SIMULATED}/pods"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn many_jobs_at_once_are_each_created_once_judged_and_removed_and_leave_no_memory_behind() {
    let count = size("JOBS", 60);
    let world = simulated_world().await;
    let (places, tickets) = (count.to_string(), (2 * count).to_string());
    let worker = world
        .worker(&[
            ("K8S_JOBS_NAMESPACE", SIMULATED),
            ("MAX_CONCURRENT_TASKS", &places),
            ("MAX_CONCURRENT_TICKETS", &tickets),
        ])
        .await;
    worker.wait_ready().await;
    let idle = worker.resident_mib();
    let load = Load { worker, world, count };
    // What a worker holds that has worked, whatever comes then, is no leak.
    let first = load.round("first").await;
    let before = load.worker.resident_mib();
    let second = load.round("second").await;
    let after = load.worker.resident_mib();
    for (round, Seen { took, at_once, nodes, most_mib }) in [("first", &first), ("second", &second)] {
        println!(
            "{round}: {count} Jobs on {} simulated nodes in {took:.1?}, {at_once} at once, {most_mib:.1} MiB resident at most",
            nodes.len()
        );
        assert!(nodes.iter().all(|node| node.starts_with("simulated-")), "{nodes:?}");
        assert!(nodes.len() > 1 && *at_once > count / 2, "{at_once} at once on {nodes:?}");
        let bound = MIB_OF_WORK + MIB_PER_JOB * count as f64;
        assert!(most_mib - idle < bound, "{idle:.1} MiB idle, {most_mib:.1} MiB with {at_once} Jobs");
    }
    println!("resident: {idle:.1} MiB idle, {before:.1} MiB after the first, {after:.1} MiB after the second");
    assert!(after - before < MIB_LEFT, "{before:.1} MiB after the first, {after:.1} MiB after the second");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_node_that_has_no_log_costs_the_output_and_no_verdict() {
    let world = simulated_world().await;
    let _worker = world.worker(&[("K8S_JOBS_NAMESPACE", MUTE)]).await;
    let expected = [("works", 0, ("COMPLETED", "")), ("fails", 3, ("FAILED", "execution_failed"))];
    for (name, exit_code, _) in expected {
        world.publish(&simulated(&world, name, Duration::from_secs(3), exit_code)).await;
    }
    for (name, exit_code, expected) in expected {
        let result = world.result(name).await;
        assert_eq!((verdict(&result).0, verdict(&result).1), expected, "{name}: {result}");
        assert_eq!(result["result"]["output"]["exit_code"], exit_code.to_string(), "{name}: {result}");
        assert_eq!(result["result"]["metadata"]["output_missing"], "true", "{name}: {result}");
        // In the node's words.
        assert!(result["result"]["logs"].to_string().contains("no logs found"), "{name}: {result}");
    }
}
