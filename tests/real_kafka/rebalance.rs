//! How long a partition is nobody's when the group changes, and that no ticket is doubled by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::lane::{PARTITIONS, RealWorld, full, world};
use crate::world::{Worker, eventually};

/// Between two tickets: 30 a second.
const PACE: Duration = Duration::from_millis(33);
/// Only the group is to hold tickets up. The session time-out is the product's own: the hand-over depends on it.
const SETTINGS: [(&str, &str); 3] =
    [("KAFKA_SESSION_TIMEOUT_MS", "30000"), ("MAX_CONCURRENT_TASKS", "40"), ("MAX_CONCURRENT_TICKETS", "400")];
const DAY_MS: f64 = 86_400_000.0;

/// Milliseconds of the day in a log line's timestamp, `2026-01-31T23:59:59.123456Z`.
fn at_ms(line: &Value) -> f64 {
    let text = line["timestamp"].as_str().and_then(|text| text.get(11..)).expect("timestamp");
    let parts = text.trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().expect("number"));
    parts.fold(0.0, |sum, part| sum * 60.0 + part) * 1000.0
}

/// From one moment to a later one, over midnight too.
fn between(earlier: f64, later: f64) -> f64 {
    let gap = later - earlier;
    if gap < -DAY_MS / 2.0 { gap + DAY_MS } else { gap }
}

fn lines(worker: &Worker) -> Vec<Value> {
    worker.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// When each partition was last assigned to the worker, or given up by it.
fn last(worker: &Worker, message: &str) -> BTreeMap<i64, f64> {
    let found = lines(worker).into_iter().filter(|line| line["message"] == message);
    found.map(|line| (line["partition"].as_i64().expect("partition"), at_ms(&line))).collect()
}

/// The partitions that are the worker's.
fn owned(worker: &Worker) -> BTreeSet<i64> {
    let mut owned = BTreeSet::new();
    for line in lines(worker) {
        let Some(partition) = line["partition"].as_i64() else { continue };
        match line["message"].as_str() {
            Some("partition_assigned") => owned.insert(partition),
            Some("partition_given_up") => owned.remove(&partition),
            _ => false,
        };
    }
    owned
}

/// When a ticket of each partition was started, by whichever worker, in order.
fn starts(workers: &[&Worker]) -> BTreeMap<i64, Vec<f64>> {
    let mut starts: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for line in workers.iter().flat_map(|worker| lines(worker)).filter(|line| line["message"] == "ticket_started") {
        let position = line["position"].as_str().expect("position");
        let (_, place) = position.rsplit_once('/').expect("topic/partition@offset");
        let partition = place.split('@').next().and_then(|text| text.parse().ok()).expect("number");
        starts.entry(partition).or_default().push(at_ms(&line));
    }
    starts.values_mut().for_each(|times| times.sort_by(|a, b| between(*b, *a).total_cmp(&0.0)));
    starts
}

/// The folder in which each ticket that has run leaves a line.
const RAN: &str = "ran";

/// Publishes until `changes` is done; the tickets' names.
async fn while_publishing(world: &RealWorld, what: &str, changes: impl Future<Output = ()>) -> Vec<String> {
    let over = AtomicBool::new(false);
    let publish = async {
        let mut names = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let name = format!("{what}-{}", names.len());
            world.publish_spread(&world.ticket_in(RAN, &name, &format!("echo x >> {name}"))).await;
            names.push(name);
            tokio::time::sleep(PACE).await;
        }
        names
    };
    let (names, ()) = tokio::join!(publish, async {
        changes.await;
        over.store(true, Ordering::Relaxed);
    });
    names
}

/// Prints how long the partitions that moved were nobody's, and the longest time without a start on one of them.
fn report(what: &str, from: &Worker, to: &Worker) {
    let (given_up, assigned) = (last(from, "partition_given_up"), last(to, "partition_assigned"));
    let starts = starts(&[from, to]);
    let (mut moved, mut nobodys, mut pause, mut until_given_up) = (0, 0.0_f64, 0.0_f64, 0.0_f64);
    for (partition, gone) in given_up {
        let Some(came) = assigned.get(&partition).filter(|came| between(gone, **came) >= 0.0) else { continue };
        let times = starts.get(&partition).map_or(&[][..], Vec::as_slice);
        let before = times.iter().rev().find(|time| between(**time, gone) >= 0.0);
        let after = times.iter().find(|time| between(gone, **time) > 0.0);
        let (Some(before), Some(after)) = (before, after) else { continue };
        moved += 1;
        nobodys = nobodys.max(between(gone, *came));
        pause = pause.max(between(*before, *after));
        until_given_up = until_given_up.max(between(*before, gone));
    }
    assert!(moved > 0, "no partition moved: {}{}", from.log(), to.log());
    println!(
        "{what}: {moved} partitions moved; nobody's for {nobodys:.0} ms at most; without a start for {pause:.0} ms at most, \
         of which {until_given_up:.0} ms at most before they were given up"
    );
}

async fn settles(what: &str, workers: &[&Worker]) {
    eventually(what, || {
        let owned: Vec<_> = workers.iter().map(|worker| owned(worker)).collect();
        let all: BTreeSet<i64> = owned.iter().flatten().copied().collect();
        let fair = owned.iter().all(|each| each.len() == PARTITIONS / workers.len());
        (fair && all.len() == PARTITIONS).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn a_group_that_changes_under_load_hands_over_and_doubles_nothing() {
    let world = world(&[]).await;
    let stays = world.worker(&SETTINGS).await;
    settles("one worker has all partitions", &[&stays]).await;
    let mut all = Vec::new();
    for round in 0..if full() { 4 } else { 1 } {
        let names = while_publishing(&world, &format!("join{round}"), async {
            stays.reaches(r#"worker_agent_records_total{disposition="started"}"#, all.len() as f64 + 1.0).await;
            let mut joins = world.worker(&SETTINGS).await;
            settles("each has its half", &[&stays, &joins]).await;
            joins.reaches(r#"worker_agent_records_total{disposition="started"}"#, 20.0).await;
            report("a worker joins", &stays, &joins);
            joins.signal("-TERM");
            let ended = tokio::task::block_in_place(|| joins.child.wait().expect("ended"));
            assert!(ended.success(), "{ended}: {}", joins.log());
            settles("one worker has all partitions again", &[&stays]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            report("a worker leaves", &joins, &stays);
        })
        .await;
        all.extend(names);
        world.all_completed(&all).await;
    }
    for name in &all {
        let lines = std::fs::read_to_string(world.shared(RAN).join(name)).expect("it ran");
        assert_eq!(lines, "x\n", "{name} ran twice");
    }
    world.one_run_each(&all).await;
    assert!(world.dead_letters().is_empty());
    world.drained(all.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn a_killed_member_s_partitions_go_to_the_other_after_the_session_time_out() {
    let world = world(&[]).await;
    let stays = world.worker(&[]).await;
    settles("one worker has all partitions", &[&stays]).await;
    let names = while_publishing(&world, "killed", async {
        let mut dies = world.worker(&[]).await;
        settles("each has its half", &[&stays, &dies]).await;
        dies.reaches(r#"worker_agent_records_total{disposition="started"}"#, 20.0).await;
        let lost = owned(&dies);
        let killed = std::time::Instant::now();
        dies.kill_9();
        eventually("the other one has them", || lost.is_subset(&owned(&stays)).then_some(())).await;
        println!("a worker is killed: its partitions were nobody's for {} ms", killed.elapsed().as_millis());
    })
    .await;
    world.all_completed(&names).await;
    world.one_run_each(&names).await;
    assert!(world.dead_letters().is_empty());
    world.drained(names.len()).await;
}
