//! Backpressure: never more tickets in flight than the stated bound, and the alerts on it come true.

use std::time::{Duration, Instant};

use serde_json::json;
use worker_agents::bridge::estimate::Limits;

use crate::world::{Worker, World, eventually, eventually_within, patience, size};

/// Open tickets of this test as the server counts them, whatever their phase.
fn open(world: &World) -> u64 {
    let query = format!("TaskQueue = '{}' AND ExecutionStatus = 'Running'", world.id);
    let open = world.temporal_cli(&["workflow", "count", "--query", &query]);
    open["count"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn limits(capacity: u64) -> Limits {
    Limits { capacity, pause: 0.8, resume: 0.5, members: 1 }
}

/// The conditions of the three alerts of the platform, as one scrape shows them.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Alerts {
    /// `WorkerBackpressureActive`.
    active: bool,
    /// `WorkerBackpressureCritical`.
    critical: bool,
    /// Seconds that `WorkerConsumerPausedTooLong` compares with its limit; 0 while consumption goes on.
    paused_for: f64,
}

async fn alerts(worker: &Worker) -> Alerts {
    let (_, text) = worker.get("/metrics").await;
    let value = |series: &str| -> f64 {
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    let in_flight = value("worker_agent_tickets_in_flight");
    let most = value("worker_agent_max_concurrent_tickets");
    let since = value("worker_agent_consumer_pause_start_time_seconds");
    let now = ticket_activities::now_ms() as f64 / 1000.0;
    Alerts {
        active: in_flight / most > 0.8,
        critical: in_flight >= most,
        paused_for: if since > 0.0 { now - since } else { 0.0 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_16_no_more_tickets_are_started_than_may_be_in_flight() {
    const TICKETS: usize = 24;
    const LIMIT: u64 = 5;
    let world = World::new().await;
    for n in 0..TICKETS {
        world.publish(&world.ticket(&n.to_string(), "sleep 0.3")).await;
    }
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", &LIMIT.to_string()), ("MAX_CONCURRENT_TASKS", "2")]).await;
    let mut highest = 0;
    while world.results().len() < TICKETS {
        highest = highest.max(open(&world));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The count of the server still has tickets that have just closed: no more of them than the bound allows for.
    let bound = limits(LIMIT).bound();
    println!("highest number of open tickets seen: {highest} (limit {LIMIT}, bound {bound})");
    assert!(highest <= bound, "{highest} tickets were open, more than the stated {bound}");
    assert!(worker.metric("worker_agent_consumer_paused_total").await >= 1.0);
    assert!(worker.metric("worker_agent_consumer_resumed_total").await >= 1.0);
    assert!((worker.metric("worker_agent_max_concurrent_tickets").await - 5.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_16_a_flood_on_slow_executors_keeps_memory_flat_and_the_number_in_flight_bounded() {
    const LIMIT: u64 = 10;
    const FINISHED: f64 = 40.0;
    // 10,000 is the whole of it.
    let tickets = size("FLOOD", 2000);
    let world = World::new().await;
    let limit = LIMIT.to_string();
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", &limit), ("MAX_CONCURRENT_TASKS", "4")]).await;
    worker.wait_ready().await;
    // One ticket first: what the first use of everything costs is not the flood's.
    world.publish(&world.ticket("first", "true")).await;
    world.result("first").await;
    let before = worker.resident_mib();
    assert_eq!(alerts(&worker).await, Alerts::default());

    let flood: Vec<_> = (0..tickets).map(|n| world.ticket(&format!("f{n}"), "sleep 0.7")).collect();
    let published = world.publish_all(&flood);
    let watched = async {
        let (mut highest, mut memory, mut samples) = (0, before, 0u32);
        let mut seen = Alerts::default();
        let deadline = Instant::now() + Duration::from_secs(240);
        let finished = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
        while worker.metric(finished).await < FINISHED {
            assert!(Instant::now() < deadline, "the flood does not get on: {}", worker.log());
            highest = highest.max(open(&world));
            memory = memory.max(worker.resident_mib());
            let now = alerts(&worker).await;
            seen.active |= now.active;
            seen.critical |= now.critical;
            seen.paused_for = seen.paused_for.max(now.paused_for);
            samples += 1;
        }
        (highest, memory, seen, samples)
    };
    let ((), (highest, memory, seen, samples)) = tokio::join!(published, watched);
    let bound = limits(LIMIT).bound();
    println!(
        "flood of {tickets}: highest number of open tickets {highest} in {samples} looks (limit {LIMIT}, bound {bound}); \
         resident {before:.1} MiB before, {memory:.1} MiB at most; {seen:?}"
    );
    assert!(highest <= bound, "{highest} open tickets, more than the stated {bound}");
    assert!(highest >= limits(LIMIT).resume_at(), "the flood never filled the worker");
    assert!(memory - before <= 40.0, "{before:.1} MiB before the flood, {memory:.1} MiB in it");
    assert!(seen.active && seen.critical && seen.paused_for > 0.0, "the alerts' conditions: {seen:?}");
    assert!(worker.metric("worker_agent_consumer_paused_total").await >= 2.0);
    assert!(worker.metric("worker_agent_consumer_pause_duration_seconds_count").await >= 1.0);
    assert!(worker.log().contains("assignment_flow"), "the assignment itself was paused");
    assert!(world.dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_ahead_of_ready_tickets_do_not_stop_them() {
    let ready_tickets = size("READY", 40);
    let world = World::new().await;
    // More dependents than places, all on one partition, and ahead.
    for n in 0..15 {
        let mut ticket = world.ticket(&format!("d{n}"), "true");
        ticket["dependencies"] = json!([world.ticket_id(&format!("r{}", ready_tickets - 1))]);
        world.publish(&ticket).await;
    }
    let ready: Vec<_> = (0..ready_tickets).map(|n| world.ticket(&format!("r{n}"), "true")).collect();
    for ticket in &ready {
        world.publish(ticket).await;
    }
    let _worker = world.worker(&[("MAX_CONCURRENT_TICKETS", "10")]).await;
    let patience = patience(Duration::from_millis(200), ready_tickets);
    eventually_within("all have a result", patience, || (world.results().len() == ready_tickets + 15).then_some(()))
        .await;
    for n in (0..ready_tickets).step_by((ready_tickets / 40).max(1)) {
        assert_eq!(world.result(&format!("r{n}")).await["status"], "COMPLETED");
    }
    for n in 0..15 {
        assert_eq!(world.result(&format!("d{n}")).await["status"], "COMPLETED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_16_an_assignment_that_comes_under_a_closed_gate_stays_paused() {
    let world = World::new().await;
    let one = [("MAX_CONCURRENT_TICKETS", "1")];
    let first = world.worker(&one).await;
    world.publish_raw("a", Some(world.ticket("long", "sleep 14").to_string().as_bytes())).await;
    first.reaches("worker_agent_consumer_paused_total", 1.0).await;
    // Half of the partitions move to a second worker; tickets wait in all of them.
    let second = world.worker(&one).await;
    for n in 0..8 {
        world.publish_raw(&n.to_string(), Some(world.ticket(&n.to_string(), "true").to_string().as_bytes())).await;
    }
    second.wait_ready().await;
    let paused = r#""paused":true"#;
    eventually("the second worker's assignment is paused", || {
        second.log().lines().any(|line| line.contains("assignment_flow") && line.contains(paused)).then_some(())
    })
    .await;
    if world.results().is_empty() {
        assert_eq!(open(&world), 1, "a ticket was started beside the one that is allowed");
    }
    for n in 0..8 {
        assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
        assert_eq!(world.runs(&n.to_string()), 1);
    }
    assert!(second.metric("worker_agent_consumer_paused_total").await >= 1.0);
}
