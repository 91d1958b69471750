//! Peers that are away: nothing goes to the dead letters, everything completes afterwards.

use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use worker_agents::dev::temporal::TemporalDevServer;

use crate::world::{World, eventually, temporal_options};

#[tokio::test(flavor = "multi_thread")]
async fn inc_07_a_registry_that_is_away_delays_avro_tickets_and_never_condemns_them() {
    let world = World::new().await;
    let worker = world.worker(&[("RESULT_ENCODING", "auto")]).await;
    world.schema_id("execution.tickets-value", ticket_schemas::TICKET_SCHEMA_JSON).await;
    let ticket = world.ticket("avro", "echo avro");
    let encoded = ticket_schemas::decode_json_ticket(ticket.to_string().as_bytes()).expect("ticket");
    world.registry.set_unavailable(true);
    world.publish_raw("key", Some(&ticket_schemas::encode_avro_ticket(&encoded, 1).expect("encoded"))).await;
    // Meanwhile JSON tickets run, and their results fall back to JSON.
    world.publish_raw("other", Some(world.ticket("json", "echo json").to_string().as_bytes())).await;
    assert_eq!(world.result("json").await["status"], "COMPLETED");
    eventually("the Avro ticket waits", || worker.log().contains("peer_unavailable").then_some(())).await;
    world.registry.set_unavailable(false);
    let published = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
    worker.reaches(published, 2.0).await;
    assert_eq!(world.runs("avro"), 1);
    assert!(world.dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_the_worker_takes_readiness_away_and_condemns_no_ticket() {
    let world = World::new().await;
    let worker = world.worker(&[("RESULT_ENCODING", "json")]).await;
    worker.wait_ready().await;
    world.schema_id("execution.tickets-value", ticket_schemas::TICKET_SCHEMA_JSON).await;
    let ticket = world.ticket("avro", "echo avro");
    let encoded = ticket_schemas::decode_json_ticket(ticket.to_string().as_bytes()).expect("ticket");
    world.registry.set_refusing(true);
    world.publish_raw("key", Some(&ticket_schemas::encode_avro_ticket(&encoded, 1).expect("encoded"))).await;
    // The second is counted after the first has taken readiness away.
    worker.reaches(r#"worker_agent_setup_faults_total{fault="schema_registry_access"}"#, 2.0).await;
    let (status, reason) = worker.get("/ready").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("schema_registry") && reason.contains("SCHEMA_REGISTRY_USERNAME"), "{reason}");
    world.registry.set_refusing(false);
    assert_eq!(world.result("avro").await["status"], "COMPLETED");
    worker.wait_ready().await;
    assert!(world.dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_delays_results_and_loses_none() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    for n in 0..6 {
        world.publish(&world.ticket(&n.to_string(), "sleep 1; echo x")).await;
    }
    let started = r#"worker_agent_tickets_processing_total{task_type="EXECUTE"}"#;
    worker.reaches(started, 6.0).await;
    world.kafka.broker_down().expect("down");
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.kafka.broker_up().expect("up");
    for n in 0..6 {
        assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
        assert_eq!(world.runs(&n.to_string()), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_that_does_not_answer_delays_tickets_and_never_condemns_them() {
    let server = TemporalDevServer::start(temporal_options(0)).await.expect("Temporal");
    let world = World::with_temporal(server.address().to_owned()).await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    let signal = |signal: &str| {
        let status =
            std::process::Command::new("kill").args([signal, &server.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    for n in 0..4 {
        world.publish(&world.ticket(&n.to_string(), "echo x")).await;
    }
    eventually("a start goes unanswered", || worker.log().contains("peer_unavailable").then_some(())).await;
    signal("-CONT");
    for n in 0..4 {
        assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
        assert_eq!(world.runs(&n.to_string()), 1);
    }
    assert!(world.dead_letters().is_empty());
    server.stop().await;
}

/// Restarting a worker mends no peer: while they are away it is not ready, and it is alive.
#[tokio::test(flavor = "multi_thread")]
async fn inc_17_peers_that_are_away_take_readiness_and_never_liveness() {
    const STALL: &str = "12";
    let server = TemporalDevServer::start(temporal_options(0)).await.expect("Temporal");
    let world = World::with_temporal(server.address().to_owned()).await;
    let worker = world.worker(&[("LIVENESS_STALL_SECONDS", STALL)]).await;
    worker.wait_ready().await;
    let (status, body) = worker.get("/health").await;
    assert!(
        status == 200 && body.contains("partition execution.tickets/0") && body.contains("kafka_partitions"),
        "{body}"
    );
    let signal = |signal: &str| {
        let status =
            std::process::Command::new("kill").args([signal, &server.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    };
    signal("-STOP");
    world.kafka.broker_round_trip_time(Duration::from_millis(300)).expect("slow");
    for n in 0..40 {
        world.publish_raw(&n.to_string(), Some(world.ticket(&n.to_string(), "echo x").to_string().as_bytes())).await;
    }
    let mut ready = 200;
    let began = Instant::now();
    // Twice as long as a loop may get nowhere; for the second half the broker is away, too.
    while began.elapsed() < Duration::from_secs(28) {
        if began.elapsed() > Duration::from_secs(14) {
            world.kafka.broker_down().expect("down");
        }
        let (status, body) = worker.get("/health").await;
        assert_eq!(status, 200, "{body}");
        ready = worker.get("/ready").await.0;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (_, body) = worker.get("/ready").await;
    assert!(ready == 503 && body.contains("backpressure"), "{body}");
    world.kafka.broker_round_trip_time(Duration::ZERO).expect("quick");
    world.kafka.broker_up().expect("up");
    signal("-CONT");
    for n in 0..40 {
        assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
    }
    worker.wait_ready().await;
    assert_eq!(worker.get("/health").await.0, 200);
    assert!(world.dead_letters().is_empty());
    server.stop().await;
}

/// As a group answers while it rebalances. Nothing is read afterwards that would commit a later offset.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_group_refuses_is_sent_again() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    world.kafka.request_errors(RDKafkaApiKey::OffsetCommit, &[refused; 3]).expect("errors in line");
    world.publish(&world.ticket("last", "echo x")).await;
    assert_eq!(world.result("last").await["status"], "COMPLETED");
    eventually("the offset is committed", || {
        (world.committed("worker-agents", "execution.tickets") == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_in_time_although_the_broker_is_away() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("before", "echo x")).await;
    assert_eq!(world.result("before").await["status"], "COMPLETED");
    world.kafka.broker_down().expect("down");
    eventually("the worker notices", || worker.log().contains("kafka_consumer_error").then_some(())).await;
    worker.signal("-TERM");
    let told = std::time::Instant::now();
    eventually("the worker ends", || worker.child.try_wait().expect("asked")).await;
    assert!(told.elapsed() < Duration::from_secs(15), "it took {:?}", told.elapsed());
    world.kafka.broker_up().expect("up");
}

/// The longer a broker is away, the more errors librdkafka tells; they must not stand before what it tells afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn inc_17_tickets_start_soon_after_a_long_outage_of_the_broker() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    world.kafka.broker_down().expect("down");
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.kafka.broker_up().expect("up");
    let back = std::time::Instant::now();
    world.publish(&world.ticket("after", "echo x")).await;
    eventually("it starts", || worker.log().contains("ticket_started").then_some(())).await;
    println!("the first start came after {:?}", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(10), "the first start took {:?}", back.elapsed());
}
