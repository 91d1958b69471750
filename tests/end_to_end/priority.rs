//! An urgent ticket overtakes those that wait for a slot.

use crate::world::{World, eventually, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_ticket_overtakes_a_full_queue() {
    const WAITING: usize = 20;
    let world = World::new().await;
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", "100"), ("MAX_CONCURRENT_TASKS", "1")]).await;
    worker.wait_ready().await;
    // The slot is taken until the queue has been seen full, however slow the machine is.
    let (begun, gate) = (world.shared("kept/begun"), world.shared("kept/gate"));
    let mut first = world.ticket_in("kept", "first", &format!("touch begun; {}", until(&gate)));
    first["sla"]["timeout_ms"] = 300_000.into();
    world.publish(&first).await;
    eventually("the first one has the slot", || begun.exists().then_some(())).await;
    let low: Vec<_> = (0..WAITING)
        .map(|n| {
            let mut ticket = world.ticket(&format!("low{n}"), "sleep 0.1");
            ticket["priority"] = "LOW".into();
            ticket
        })
        .collect();
    world.publish_all(&low).await;
    let open = || {
        let query = format!("TaskQueue = '{}' AND ExecutionStatus = 'Running'", world.id);
        let count = world.temporal_cli(&["workflow", "count", "--query", &query])["count"].clone();
        count.as_str().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
    };
    eventually("the queue is full", || (open() > WAITING).then_some(())).await;
    let mut urgent = world.ticket("urgent", "true");
    urgent["priority"] = "CRITICAL".into();
    world.publish(&urgent).await;
    eventually("the urgent one is there too", || (open() > WAITING + 1).then_some(())).await;
    std::fs::write(&gate, "").expect("opened");
    let urgent = world.result("urgent").await["timestamp"].as_i64().expect("time");
    let mut later = 0;
    for n in 0..WAITING {
        later += usize::from(world.result(&format!("low{n}")).await["timestamp"].as_i64().expect("time") > urgent);
    }
    println!("{later} of {WAITING} tickets that had waited longer ran after the urgent one");
    assert!(later > WAITING / 2, "{later} of {WAITING}");
}
