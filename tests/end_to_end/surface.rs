//! Health, readiness, metrics.

use std::collections::BTreeSet;

use crate::world::{World, get};

#[tokio::test(flavor = "multi_thread")]
async fn inc_49_readiness_is_a_real_503_until_the_worker_is_ready() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    // The group needs seconds for its first assignment; the port answers before.
    let (status, body) = worker.get("/ready").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains(r#""ready":false"#) && body.contains("kafka_consumer"), "{body}");
    worker.wait_ready().await;
    assert_eq!(worker.get("/health").await.0, 200);
    assert_eq!(worker.get("/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_51_both_ports_serve_everything_and_the_metrics_move() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    let names = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect()
    };
    world.publish(&world.ticket("ok", "true")).await;
    world.publish(&world.ticket("bad", "exit 1")).await;
    world.result("ok").await;
    world.result("bad").await;
    for series in [
        "worker_agent_startup_total",
        r#"worker_agent_tickets_completed_total{task_type="EXECUTE"}"#,
        r#"worker_agent_tickets_failed_total{error_type="execution_failed",task_type="EXECUTE"}"#,
        r#"worker_agent_results_published_total{status="COMPLETED"}"#,
        r#"worker_agent_results_published_total{status="FAILED"}"#,
        "worker_agent_kafka_consumer_initialized_total",
        "worker_agent_kafka_producer_initialized_total",
    ] {
        assert!((worker.metric(series).await - 1.0).abs() < 0.1, "{series}");
    }
    for series in [
        r#"worker_agent_tickets_consumed_total{task_type="EXECUTE"}"#,
        r#"worker_agent_tickets_processing_total{task_type="EXECUTE"}"#,
        r#"worker_agent_task_duration_seconds_count{task_type="EXECUTE"}"#,
        r#"worker_agent_records_total{disposition="started"}"#,
    ] {
        assert!((worker.metric(series).await - 2.0).abs() < 0.1, "{series}");
    }
    assert!(worker.metric("worker_agent_active_tasks").await.abs() < 0.1);
    let (http, metrics) = worker.addresses().await;
    let first = names(&get(&format!("http://{http}/metrics")).await.1);
    let second = names(&get(&format!("http://{metrics}/metrics")).await.1);
    assert_eq!(first, second);
    for probe in ["health", "ready"] {
        assert_eq!(get(&format!("http://{metrics}/{probe}")).await.0, 200, "{probe}");
    }
    assert!(first.iter().any(|name| name.starts_with("temporal_")), "the SDK's own are missing: {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_work_ends_with_one_sentence_that_names_the_setting() {
    let world = World::new().await;
    for (settings, needle, code) in [
        ([("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")], "KAFKA_BOOTSTRAP_SERVERS", 3),
        ([("TEMPORAL_ADDRESS", "127.0.0.1:1")], "TEMPORAL_ADDRESS", 3),
        ([("TEMPORAL_NAMESPACE", "nobody-made-it")], "TEMPORAL_NAMESPACE", 3),
        ([("KAFKA_TICKETS_TOPIC", "no.such.topic")], "KAFKA_TICKETS_TOPIC", 3),
        ([("MAX_CONCURRENT_TASKS", "none")], "MAX_CONCURRENT_TASKS", 2),
    ] {
        let mut worker = world.spawn(&settings);
        let status = tokio::task::spawn_blocking(move || (worker.child.wait().expect("ended"), worker.log()))
            .await
            .expect("join");
        assert_eq!(status.0.code(), Some(code), "{}", status.1);
        let sentence = status.1.lines().find(|line| line.starts_with("worker-agents: ")).unwrap_or_default();
        assert!(status.1.contains(needle) && !sentence.is_empty(), "{}", status.1);
    }
}
