//! What a ticket costs.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_ticket_costs_at_most_13_events_and_one_scheduled_activity() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    world.publish_avro(&world.ticket("simple", "echo hello")).await;
    let result = world.result("simple").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    assert_eq!(result["result"]["output"]["stdout"], "hello\n");
    let events = crate::world::eventually("the workflow is closed", || {
        let events = world.history("simple");
        events
            .last()
            .is_some_and(|event| event["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED")
            .then_some(events)
    })
    .await;
    let count = |kind: &str| events.iter().filter(|event| event["eventType"] == kind).count();
    println!("a simple ticket costs {} history events", events.len());
    assert!(events.len() <= 13, "{} events", events.len());
    assert_eq!(count("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED"), 1);
}
