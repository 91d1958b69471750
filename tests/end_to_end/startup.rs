//! Start-up checks: what is missing ends the start, what is not as it should be is shown, and strict checks refuse.

use std::time::Duration;

use serde_json::Value;

use crate::world::{PATIENCE, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn inc_01_a_topic_that_only_exists_with_hyphens_ends_the_start_with_one_sentence() {
    let world = World::new().await;
    world.kafka.create_topic("platform-tickets", 3).expect("topic");
    let mut worker = world.spawn(&[("KAFKA_TICKETS_TOPIC", "platform.tickets")]);
    let (code, log) = tokio::task::spawn_blocking(move || (worker.child.wait().expect("ended").code(), worker.log()))
        .await
        .expect("join");
    assert_eq!(code, Some(3), "{log}");
    let sentence = log.lines().find(|line| line.starts_with("worker-agents: ")).expect("a sentence");
    for word in [r#""platform.tickets""#, r#""platform-tickets""#, "spec.topicName", "KAFKA_TICKETS_TOPIC"] {
        assert!(sentence.contains(word), "{word} is missing in {sentence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ok_is_shown_in_ready_and_in_a_metric_and_clears_once_it_is_fixed() {
    let world = World::new().await;
    world.schema_id("execution.tickets-value", r#"{"type":"record","name":"Other","fields":[]}"#).await;
    world.registry.set_unavailable(true);
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    let registry = r#"worker_agent_startup_check_failures{check="schema_registry",state="failed"}"#;
    worker.reaches(registry, 1.0).await;
    let shown = async || {
        let (status, body) = worker.get("/ready").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["checks"]["startup_checks"]["ok"], true);
        body["checks"]["startup_checks"]["detail"].as_str().unwrap_or_default().to_owned()
    };
    let detail = shown().await;
    assert!(detail.contains("schema_registry failed") && detail.contains("KAFKA_SCHEMA_REGISTRY_URL"), "{detail}");
    // This Kafka describes no topic: not a pass, not a failure.
    assert!(detail.contains("kafka_message_size unknown") && detail.contains("retention unknown"), "{detail}");
    assert!(worker.log().contains("startup_check_not_ok"), "{}", worker.log());
    world.publish(&world.ticket("runs", "true")).await;
    assert_eq!(world.result("runs").await["status"], "COMPLETED");
    world.registry.set_unavailable(false);
    let deadline = std::time::Instant::now() + PATIENCE;
    while worker.metric(registry).await > 0.5 || shown().await.contains("schema_registry") {
        assert!(std::time::Instant::now() < deadline, "{}", shown().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Now that it can be asked: nobody's tickets of this schema could be read.
    let detail = shown().await;
    assert!(detail.contains("ticket_schema failed") && !detail.contains("result_schema"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_checks_refuse_readiness_and_take_no_ticket_while_anything_is_not_ok() {
    let world = World::new().await;
    world.publish(&world.ticket("t", "true")).await;
    let mut worker = world.worker(&[("STRICT_STARTUP_CHECKS", "true")]).await;
    eventually("the checks are made", || worker.log().contains("startup_check_not_ok").then_some(())).await;
    let (status, body) = worker.get("/ready").await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["checks"]["startup_checks"]["ok"]), (503, &Value::Bool(false)), "{body}");
    assert!(body["checks"]["startup_checks"]["detail"].as_str().expect("why").contains("DescribeConfigs"), "{body}");
    // The other checks pass, and the consumer has not even begun.
    assert!(body["checks"].get("kafka_consumer").is_none(), "{body}");
    assert_eq!(worker.get("/health").await.0, 200);
    assert_eq!(world.runs("t"), 0);
    assert!(worker.child.try_wait().expect("asked").is_none(), "no crash loop");
    worker.signal("-TERM");
    let ended = eventually("it ends when told to", || worker.child.try_wait().expect("asked")).await;
    assert!(ended.success(), "{ended}");
}
