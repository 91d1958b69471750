//! Memory: little when idle, no more after a thousand tickets.

use serde_json::json;

use crate::world::{PATIENCE, World, eventually_within};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_idles_small_and_a_thousand_tickets_leave_nothing_behind() {
    const TICKETS: usize = 1000;
    let world = World::new().await;
    let worker = world.worker(&[("MAX_CONCURRENT_TASKS", "20"), ("MAX_CONCURRENT_TICKETS", "200")]).await;
    worker.wait_ready().await;
    let (idle, own) = (worker.resident_mib(), worker.own_mib());
    for n in 0..TICKETS {
        let mut ticket = world.ticket(&n.to_string(), "true");
        if n % 5 != 0 {
            // Everything but the process: a type without executor.
            ticket["task_type"] = json!("BUILD");
        }
        world.publish(&ticket).await;
    }
    let mut highest = idle;
    // Slow machines end eight a second, beside another test.
    eventually_within("a thousand results", 3 * PATIENCE, || {
        highest = highest.max(worker.resident_mib());
        (world.results().len() == TICKETS).then_some(())
    })
    .await;
    let after = worker.resident_mib();
    println!(
        "resident: {idle:.1} MiB idle ({own:.1} its own), {after:.1} MiB after {TICKETS} tickets, {highest:.1} MiB at most"
    );
    // Of an unoptimised build some 65 MiB are pages of its code.
    let most = if cfg!(debug_assertions) { 80.0 } else { 60.0 };
    assert!(idle < most, "{idle:.1} MiB idle");
    assert!(own < 20.0, "{own:.1} MiB of its own when idle");
    assert!(after - idle < 30.0, "{idle:.1} MiB idle, {after:.1} MiB afterwards");
}
