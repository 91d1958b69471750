//! Graceful shutdown: work is handed back, nothing is lost, no attempt is used up.

use std::time::{Duration, Instant};

use crate::world::{World, eventually, processes};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_hands_its_attempt_back() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    let marker = format!("41.4{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    let script = format!("test -e flag && echo second || {{ : > flag; sleep {marker}; }}");
    world.publish(&world.ticket_in("kept", "long", &script)).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;
    let told = Instant::now();
    worker.signal("-TERM");
    eventually("the worker says that it drains", || worker.log().contains("shutdown_started").then_some(())).await;
    assert_eq!(worker.get("/ready").await.0, 503, "readiness goes when the drain begins");
    let status = tokio::task::spawn_blocking(move || worker.child.wait().expect("ended")).await.expect("join");
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < Duration::from_secs(15), "it took {:?}", told.elapsed());
    assert_eq!(processes(&marker), 0);
    assert!(world.results().is_empty(), "nothing is reported for work that was handed back");

    let _worker = world.worker(&[]).await;
    let result = world.result("long").await;
    assert_eq!(result["result"]["output"]["stdout"], "second\n");
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1");
    assert_eq!(world.runs("long"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_11_a_cancel_stops_the_work_and_is_reported_as_failed() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let marker = format!("73.2{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    world.publish(&world.ticket("cancelled", &format!("echo begun; sleep {marker}"))).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;
    world.cancel("cancelled");
    let result = world.result("cancelled").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!((result["status"].as_str(), metadata["error_code"].as_str()), (Some("FAILED"), Some("cancelled")));
    assert_eq!(metadata["external_state"], "confirmed_stopped");
    assert_eq!(result["result"]["output"]["stdout"], "begun\n");
    assert_eq!(processes(&marker), 0);
    eventually("the workflow is closed as cancelled", || {
        world.history("cancelled").pop().filter(|last| last["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED")
    })
    .await;
}
