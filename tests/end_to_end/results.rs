//! Results: their headers and keys, their encodings, and topics that cannot be written.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};

use crate::world::{Record, World, eventually};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const RESULT_ID: &str = "x-neural-hive-result-id";

/// The record of a ticket's result, once it is there, whatever its encoding.
async fn record(world: &World, name: &str) -> Record {
    let id = world.ticket_id(name);
    eventually(&format!("a result of {name}"), || {
        world.topic("execution.results").into_iter().find(|record| record.key.as_deref() == Some(&id))
    })
    .await
}

fn headers(record: &Record) -> BTreeMap<&str, &str> {
    record.headers.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_04_results_carry_the_trace_of_their_ticket_and_inc_12_the_keys_that_readers_look_for() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    let publish = async |ticket: &Value, headers: &[(&str, &str)]| {
        world.publish_to("execution.tickets", "key", Some(ticket.to_string().as_bytes()), headers).await;
    };
    let mut traced = world.ticket("traced", "exit 3");
    traced["correlation_id"] = json!("correlation");
    publish(&traced, &[("TraceParent", PARENT), ("tracestate", "vendor=1"), ("baggage", "neural.hive.plan.id=plan")])
        .await;
    let mut of_its_own = world.ticket("of-its-own", "true");
    of_its_own["trace_id"] = json!("4bf92f3577b34da6a3ce929d0e0e4736");
    of_its_own["span_id"] = json!("00f067aa0ba902b7");
    publish(&of_its_own, &[("traceparent", "00-nonsense-01"), ("baggage", "a=\u{e9}")]).await;
    publish(&world.ticket("plain", "true"), &[]).await;

    let failed = record(&world, "traced").await;
    let result: Value = serde_json::from_slice(&failed.value).expect("JSON");
    let found = headers(&failed);
    for (name, expected) in [
        ("traceparent", PARENT),
        ("tracestate", "vendor=1"),
        ("baggage", "neural.hive.plan.id=plan"),
        ("x-neural-hive-source", "worker-agents"),
        ("x-neural-hive-plan-id", "plan"),
        ("x-neural-hive-intent-id", "intent"),
        (RESULT_ID, result["result"]["metadata"]["result_id"].as_str().expect("an id")),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name}");
    }
    assert_eq!(
        (&result["status"], &result["retry_count"], &result["correlation_id"], &result["task_type"]),
        (&json!("FAILED"), &json!(0), &json!("correlation"), &json!("EXECUTE"))
    );
    assert_eq!((&result["plan_id"], &result["intent_id"]), (&json!("plan"), &json!("intent")));
    assert_eq!(result["sla_deadline"], traced["sla"]["deadline"]);
    assert_eq!(result["execution_time_ms"], result["actual_duration_ms"]);
    assert!(result["execution_time_ms"].is_i64(), "{result}");

    assert_eq!(headers(&record(&world, "of-its-own").await).get("traceparent"), Some(&PARENT));
    let plain = record(&world, "plain").await;
    assert!(!headers(&plain).contains_key("traceparent") && !headers(&plain).contains_key("baggage"));
    for header in ["traceparent", "baggage"] {
        let series = format!(r#"worker_agent_trace_headers_ignored_total{{header="{header}"}}"#);
        assert!((worker.metric(&series).await - 1.0).abs() < 0.1, "{header}");
    }
    assert!(world.dead_letters().is_empty(), "a bad header never costs a ticket");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_07_auto_falls_back_to_json_for_one_message_at_a_time_and_counts_it() {
    let world = World::new().await;
    world.registry.set_unavailable(true);
    let worker = world.worker(&[("RESULT_ENCODING", "auto")]).await;
    world.publish(&world.ticket("away", "true")).await;
    let away = record(&world, "away").await;
    let json: Value = serde_json::from_slice(&away.value).expect("JSON while the registry is away");
    assert_eq!(json["result"]["metadata"]["result_id"].as_str(), headers(&away).get(RESULT_ID).copied());
    let fallbacks = "worker_agent_result_fallbacks_total";
    assert!((worker.metric(fallbacks).await - 1.0).abs() < 0.1);
    world.registry.set_unavailable(false);
    // The registry is left alone for 5 s after an answer that was none.
    let mut number = 0;
    let avro = loop {
        let name = format!("back-{number}");
        world.publish(&world.ticket(&name, "true")).await;
        let record = record(&world, &name).await;
        if record.value.first() == Some(&0) {
            break record;
        }
        number += 1;
        assert!(number < 200, "no result became Avro again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(headers(&avro).get(RESULT_ID).map(|id| id.len()), Some(32));
    assert!((worker.metric(fallbacks).await - f64::from(number) - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_results_wait_for_the_registry_and_none_is_lost() {
    let world = World::new().await;
    world.registry.set_unavailable(true);
    let worker = world.worker(&[("RESULT_ENCODING", "avro")]).await;
    for n in 0..3 {
        world.publish(&world.ticket(&n.to_string(), "true")).await;
    }
    eventually("results wait", || (worker.log().matches("kafka_result_delayed").count() >= 3).then_some(())).await;
    assert!(world.topic("execution.results").is_empty());
    world.registry.set_unavailable(false);
    for n in 0..3 {
        assert_eq!(record(&world, &n.to_string()).await.value.first(), Some(&0), "framed Avro");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_results_topic_that_cannot_be_written_holds_up_no_other_ticket_and_loses_no_result() {
    let world = World::new().await;
    // Fewer slots than results that wait: a result that waits must not hold one.
    let worker = world.worker(&[("MAX_CONCURRENT_TASKS", "2"), ("MAX_CONCURRENT_TICKETS", "100")]).await;
    worker.wait_ready().await;
    let writable = |leader| {
        for partition in 0..2 {
            world.kafka.partition_leader("execution.results", partition, leader).expect("leader");
        }
    };
    writable(false);
    for n in 0..6 {
        world.publish(&world.ticket(&n.to_string(), "true")).await;
    }
    eventually("six results wait", || (worker.log().matches("kafka_result_delayed").count() >= 6).then_some(())).await;
    for n in 6..12 {
        world.publish(&world.ticket(&n.to_string(), "true")).await;
    }
    let attempts = || worker.log().matches(r#""message":"attempt_ended""#).count();
    eventually("six more tickets run meanwhile", || (attempts() >= 12).then_some(())).await;
    writable(true);
    for n in 0..12 {
        assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
    }
    let results = world.results();
    let copies: usize = results.values().map(Vec::len).sum();
    // A result that waits is one delivery, however often it is asked for.
    assert_eq!((results.len(), copies), (12, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_topic_does_not_take_goes_out_without_its_output() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    let go = world.ticket_id("go");
    let folder = tempfile::tempdir().expect("folder");
    let go = folder.path().join(go);
    let script = format!("echo said; while [ ! -e {} ]; do sleep 0.1; done", go.display());
    world.publish(&world.ticket("large", &script)).await;
    worker.reaches(r#"worker_agent_tickets_processing_total{task_type="EXECUTE"}"#, 1.0).await;
    // Nothing else is produced from here on: the result whole, twice more alone, and then without its output.
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    world.kafka.request_errors(RDKafkaApiKey::Produce, &[refusal; 3]).expect("errors");
    std::fs::write(&go, "").expect("written");
    let result = world.result("large").await;
    assert_eq!(result["status"], "COMPLETED");
    assert_eq!(result["result"]["output"], json!({}));
    assert!(result["result"]["metadata"]["output_omitted_bytes"].is_string(), "{result}");
    assert_eq!(world.results()[&world.ticket_id("large")].len(), 1);
}
