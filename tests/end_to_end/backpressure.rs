//! Backpressure: never more tickets in flight than allowed, and all complete.

use std::time::Duration;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn inc_16_no_more_tickets_are_started_than_may_be_in_flight() {
    const TICKETS: usize = 24;
    let world = World::new().await;
    for n in 0..TICKETS {
        world.publish(&world.ticket(&n.to_string(), "sleep 0.3")).await;
    }
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", "5"), ("MAX_CONCURRENT_TASKS", "2")]).await;
    let query = format!("TaskQueue = '{}' AND ExecutionStatus = 'Running'", world.id);
    let mut highest = 0;
    while world.results().len() < TICKETS {
        let open = world.temporal_cli(&["workflow", "count", "--query", &query]);
        let open: usize = open["count"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0);
        highest = highest.max(open);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("highest number of open tickets seen: {highest}");
    assert!(highest <= 5, "{highest} tickets were open");
    assert!(worker.metric("worker_agent_consumer_paused_total").await >= 1.0);
    assert!(worker.metric("worker_agent_consumer_resumed_total").await >= 1.0);
    assert!((worker.metric("worker_agent_max_concurrent_tickets").await - 5.0).abs() < 0.1);
}
