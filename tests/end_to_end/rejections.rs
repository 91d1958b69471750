//! INC-02: rejections of guard-agents are followed, or its validated topic is read instead.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::world::{World, eventually};

const REJECTED: &str = "execution.tickets.rejected";

async fn reject(world: &World, body: &Value) {
    world.publish_to(REJECTED, "key", Some(body.to_string().as_bytes()), &[]).await;
}

/// The offset that the group of rejections has committed.
fn committed(world: &World) -> Option<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", world.kafka.bootstrap_servers())
        .set("group.id", "worker-agents-rejected")
        .create()
        .expect("consumer");
    let mut asked = TopicPartitionList::new();
    asked.add_partition(REJECTED, 0);
    let offsets = consumer.committed_offsets(asked, Duration::from_secs(20)).ok()?;
    match offsets.elements().first()?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_02_a_rejected_ticket_is_cancelled_with_the_reason_whichever_comes_first() {
    let world = World::new().await;
    world.kafka.create_topic(REJECTED, 1).expect("topic");
    let worker = world.worker(&[("KAFKA_REJECTED_TOPIC", REJECTED)]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("running", "sleep 300")).await;
    worker.reaches(r#"worker_agent_tickets_processing_total{task_type="EXECUTE"}"#, 1.0).await;

    // Of a ticket that nobody has heard of, and of one that is on its way: neither holds up what follows.
    reject(&world, &json!({ "ticket_id": world.ticket_id("never") })).await;
    reject(&world, &json!({ "ticket_id": world.ticket_id("late"), "reasons": ["too", "early"] })).await;
    world.publish_to(REJECTED, "key", Some(b"nonsense"), &[]).await;
    reject(&world, &json!({ "ticket_id": world.ticket_id("running"), "rejection_reason": "a secret\nin its command" }))
        .await;

    let result = world.result("running").await;
    assert_eq!(
        (&result["status"], &result["result"]["metadata"]["error_code"]),
        (&json!("FAILED"), &json!("cancelled"))
    );
    let message = result["error_message"].as_str().expect("a message");
    assert!(message.contains("rejected by guard-agents: a secret in its command"), "{message}");

    world.publish(&world.ticket("late", "sleep 300")).await;
    let message = world.result("late").await["error_message"].as_str().expect("a message").to_owned();
    assert!(message.contains("rejected by guard-agents: too, early"), "{message}");

    let count = |outcome: &str| format!(r#"worker_agent_rejections_total{{outcome="{outcome}"}}"#);
    worker.reaches(&count("cancelled"), 2.0).await;
    worker.reaches(&count("unreadable"), 1.0).await;
    let (status, body) = worker.get("/health").await;
    assert!(status == 200 && body.contains("kafka_rejections"), "{body}");
    // The first one holds the offset until its time is up, and is acknowledged then.
    assert_eq!(committed(&world), None);
    let patience = std::time::Instant::now() + Duration::from_secs(120);
    while committed(&world) != Some(4) {
        assert!(std::time::Instant::now() < patience, "{:?}", committed(&world));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    worker.reaches(&count("not_started"), 1.0).await;
    assert!(worker.log().contains("rejection_not_followed"));
    assert_eq!(world.runs("never"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_02_tickets_can_be_read_from_the_validated_topic_instead() {
    let world = World::new().await;
    world.kafka.create_topic("execution.tickets.validated", 1).expect("topic");
    let worker = world.worker(&[("KAFKA_TICKETS_TOPIC", "execution.tickets.validated")]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("not-validated", "true")).await;
    let ticket = world.ticket("validated", "true").to_string();
    world.publish_to("execution.tickets.validated", "key", Some(ticket.as_bytes()), &[]).await;
    assert_eq!(world.result("validated").await["status"], "COMPLETED");
    assert_eq!(world.runs("not-validated"), 0);
    let (_, body) = worker.get("/health").await;
    assert!(!body.contains("kafka_rejections"), "off by default: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_02_a_rejection_waits_for_a_temporal_that_is_away() {
    let server = worker_agents::dev::temporal::TemporalDevServer::start(crate::world::temporal_options(0))
        .await
        .expect("Temporal");
    let world = World::with_temporal(server.address().to_owned()).await;
    world.kafka.create_topic(REJECTED, 1).expect("topic");
    let worker = world.worker(&[("KAFKA_REJECTED_TOPIC", REJECTED)]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("t", "sleep 300")).await;
    worker.reaches(r#"worker_agent_tickets_processing_total{task_type="EXECUTE"}"#, 1.0).await;
    let signal = |signal: &str| {
        let status =
            std::process::Command::new("kill").args([signal, &server.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    reject(&world, &json!({ "ticket_id": world.ticket_id("t") })).await;
    eventually("the rejection meets no answer", || worker.log().contains("peer_unavailable").then_some(())).await;
    assert_eq!(committed(&world), None);
    signal("-CONT");
    let message = world.result("t").await["error_message"].as_str().expect("a message").to_owned();
    assert!(message.contains("rejected by guard-agents"), "{message}");
    eventually("its offset is committed", || (committed(&world) == Some(1)).then_some(())).await;
    server.stop().await;
}
