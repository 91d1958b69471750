//! Many dependents at once. Small by default; `PAIRS=1000`, `PARKED=10000` and `READY=1000` are the whole of it. Each of the
//! pairs' tickets works for `WORK_MS`, not at all by default.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{PATIENCE, Worker, World, patience, size};

/// What a workflow's history has once it has taken a step.
const FIRST_STEP: &str = "EVENT_TYPE_WORKFLOW_TASK_COMPLETED";

/// Waits until the worker has published so many results.
async fn results(worker: &Worker, goal: usize, patience: Duration) {
    let completed = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
    worker.reaches_within(completed, goal as f64, patience).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_published_before_their_predecessors_cost_no_slot_and_little_time() {
    let (pairs, work_ms) = (size("PAIRS", 40), size("WORK_MS", 0));
    let command = format!("sleep {}", work_ms as f64 / 1000.0);
    let world = World::new().await;
    let patience = patience(Duration::from_millis(500 + 2 * work_ms as u64), 2 * pairs);
    let places = [
        ("MAX_CONCURRENT_TASKS", "1"),
        ("MAX_CONCURRENT_TICKETS", "10"),
        // The predecessors of the last wait in their partition for most of the time.
        ("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "86400"),
    ];
    let ticket = |name: &str| {
        let mut ticket = world.ticket(name, &command);
        let created = ticket["created_at"].as_i64().expect("a time");
        ticket["sla"]["deadline"] = json!(created + 86_400_000);
        ticket
    };

    let worker = world.worker(&places).await;
    worker.wait_ready().await;
    let alone: Vec<_> = (0..2 * pairs).map(|n| ticket(&format!("alone-{n}"))).collect();
    let begun = Instant::now();
    world.publish_all(&alone).await;
    results(&worker, 2 * pairs, patience).await;
    let without = begun.elapsed();

    let dependents = (0..pairs).map(|n| {
        let mut ticket = ticket(&format!("d{n}"));
        ticket["dependencies"] = json!([world.ticket_id(&format!("p{n}"))]);
        ticket
    });
    let all: Vec<_> = dependents.chain((0..pairs).map(|n| ticket(&format!("p{n}")))).collect();
    let begun = Instant::now();
    world.publish_all(&all).await;
    results(&worker, 4 * pairs, patience).await;
    let with = begun.elapsed();

    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!(
        "{pairs} dependents, then their predecessors, {work_ms} ms of work each: {with:.2?}; as many without dependencies: \
         {without:.2?}; ratio {ratio:.2}"
    );
    // A small run is dominated by what happens once. What waiting lists cost the server hides behind work, where there is
    // some; where there is none, the server is what takes the time.
    let most = if work_ms >= 50 { 1.2 } else { 2.5 };
    assert!(pairs < 1000 || ratio <= most, "{ratio:.2} times the time without dependencies");
    let looked_at = (0..pairs).step_by((pairs / 20).max(1));
    for n in looked_at {
        let history = world.history(&format!("d{n}"));
        let count = |kind: &str| history.iter().filter(|event| event["eventType"] == kind).count();
        // One registration, one report, no poll. On a busy machine each is an activity of its own beside a marker.
        let markers = count("EVENT_TYPE_MARKER_RECORDED");
        let scheduled = count("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED");
        assert!(markers <= 3 && (1..=4).contains(&scheduled), "d{n}: {markers} markers, {scheduled} activities");
        assert_eq!(count("EVENT_TYPE_TIMER_FIRED"), 0, "d{n} looked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_tickets_hold_nothing_and_a_ticket_after_them_starts_at_once() {
    let parked = size("PARKED", 200);
    let world = World::new().await;
    let worker = world
        .worker(&[
            ("MAX_CONCURRENT_TASKS", "4"),
            ("MAX_CONCURRENT_TICKETS", "10"),
            ("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "86400"),
            // What the cache holds is no matter of how many wait.
            ("TEMPORAL_MAX_CACHED_WORKFLOWS", "5"),
        ])
        .await;
    worker.wait_ready().await;
    // What a worker that has worked holds anyway is no matter of parked tickets.
    let filling: Vec<_> = (0..220).map(|n| world.ticket(&format!("fill-{n}"), "true")).collect();
    world.publish_all(&filling).await;
    results(&worker, filling.len(), PATIENCE).await;
    let before = worker.resident_mib();

    let begun = Instant::now();
    let tickets: Vec<_> = (0..parked)
        .map(|n| {
            let mut ticket = world.ticket(&format!("d{n}"), "true");
            ticket["dependencies"] = json!([world.ticket_id(&format!("never-{}", n % 100))]);
            ticket
        })
        .collect();
    world.publish_all(&tickets).await;
    let patience = patience(Duration::from_millis(200), parked);
    let deadline = Instant::now() + patience;
    let mut memory = before;
    let started = r#"worker_agent_records_total{disposition="started"}"#;
    while worker.metric(started).await < (parked + filling.len()) as f64 {
        assert!(Instant::now() < deadline, "{parked} tickets did not start: {}", worker.log());
        memory = memory.max(worker.resident_mib());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Parked, not only started: whoever comes next is not behind their first steps.
    let mut open = (0..parked).rev().step_by((parked / 20).max(1)).collect::<Vec<_>>();
    while let Some(n) = open.last() {
        assert!(Instant::now() < deadline, "d{n} was not parked: {}", worker.log());
        let stepped = world.history(&format!("d{n}")).iter().any(|event| event["eventType"] == FIRST_STEP);
        if stepped {
            open.pop();
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        memory = memory.max(worker.resident_mib());
    }
    let took = begun.elapsed();

    let published = Instant::now();
    let probe = world.ticket("probe", "true");
    world.publish(&probe).await;
    world.result("probe").await;
    let result_after = published.elapsed();
    memory = memory.max(worker.resident_mib());
    let after = worker.resident_mib();
    let slots = worker.metric("worker_agent_active_tasks").await;
    println!(
        "{parked} parked tickets in {took:.1?}: resident {before:.1} MiB before, {memory:.1} MiB at most, {after:.1} \
         MiB afterwards; {slots} slots taken; a ticket after them had its result after {result_after:.2?}"
    );
    assert!(slots.abs() < 0.1, "{slots} slots are taken by tickets that wait");
    assert!(memory - before <= 50.0, "{before:.1} MiB before, {memory:.1} MiB with {parked} parked tickets");
    let history = world.history("probe");
    let started = history[0]["eventTime"].as_str().expect("a time");
    let started = chrono::DateTime::parse_from_rfc3339(started).expect("a time").timestamp_millis();
    let waited = started - probe["created_at"].as_i64().expect("a time");
    assert!(waited <= 1000, "the probe started after {waited} ms");
}
