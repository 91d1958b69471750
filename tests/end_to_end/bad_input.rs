//! Bad input: one dead letter each with a stable code and the original bytes, and the partition moves on.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::world::{World, eventually};

fn with(mut ticket: Value, key: &str, value: Value) -> Vec<u8> {
    ticket[key] = value;
    ticket.to_string().into_bytes()
}

fn without(mut ticket: Value, key: &str) -> Vec<u8> {
    ticket.as_object_mut().expect("object").remove(key);
    ticket.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_06_inc_14_every_bad_record_is_a_dead_letter_and_the_partition_moves_on() {
    let world = World::new().await;
    let id = world.schema_id("execution.tickets-value", ticket_schemas::TICKET_SCHEMA_JSON).await;
    let framed = |id: u32, body: &[u8]| [&[0][..], &id.to_be_bytes(), body].concat();
    let good = || world.ticket("good", "echo good");
    let mut trailing = ticket_schemas::encode_avro_ticket(
        &ticket_schemas::decode_json_ticket(good().to_string().as_bytes()).expect("ticket"),
        id,
    )
    .expect("encoded");
    trailing.extend_from_slice(b"more");
    let bad: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("tombstone", None),
        ("invalid_json", Some(b"{\"ticket_id\": ".to_vec())),
        ("invalid_utf8", Some(b"{\"ticket_id\": \"\xFF\"}".to_vec())),
        ("not_an_object", Some(b"[1]".to_vec())),
        ("missing_field", Some(without(good(), "dependencies"))),
        ("malformed_field", Some(with(good(), "dependencies", json!("no list")))),
        ("invalid_ticket_id", Some(with(good(), "ticket_id", json!("a b")))),
        ("invalid_ticket_id", Some(with(good(), "ticket_id", json!("")))),
        ("unknown_task_type", Some(with(good(), "task_type", json!("create")))),
        ("unsupported_task_type", Some(with(good(), "task_type", json!("QUERY")))),
        ("oversized", Some(with(good(), "description", json!("x".repeat(1_100_000))))),
        ("avro_decode_failed", Some(framed(id, b"\x02"))),
        ("avro_trailing_bytes", Some(trailing)),
        ("schema_not_found", Some(framed(999, b"whatever"))),
    ];
    let _worker = world.worker(&[("SUPPORTED_TASK_TYPES", "EXECUTE,BUILD")]).await;
    for (_, value) in &bad {
        world.publish_raw("key", value.as_deref()).await;
    }
    world.publish(&good()).await;
    assert_eq!(world.result("good").await["status"], "COMPLETED");

    let letters = eventually("all dead letters", || {
        let letters = world.dead_letters();
        (letters.len() >= bad.len()).then_some(letters)
    })
    .await;
    assert_eq!(letters.len(), bad.len(), "one dead letter each");
    let engine = base64::engine::general_purpose::STANDARD;
    for (code, value) in &bad {
        let meta = |letter: &Value| letter["dlq_metadata"].clone();
        let matching = letters.iter().map(meta).find(|meta| {
            let bytes = meta["original_value_base64"].as_str().map(|text| engine.decode(text).expect("base64"));
            let same = match (value, bytes) {
                (None, None) => true,
                (Some(value), Some(bytes)) => bytes == value[..value.len().min(512 * 1024)],
                _ => false,
            };
            meta["error_code"] == *code && same
        });
        let meta = matching.unwrap_or_else(|| panic!("no dead letter {code} with the original bytes"));
        assert_eq!(meta["original_value_truncated"], json!(*code == "oversized"));
        assert_eq!(meta["source"]["topic"], "execution.tickets");
        for key in [
            "original_error",
            "error_type",
            "retry_count",
            "last_failure_timestamp",
            "dlq_published_at",
            "software_version",
        ] {
            assert!(!meta[key].is_null(), "{code} lacks {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_ticket_under_a_used_id_is_a_collision_and_is_not_run() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    world.publish(&world.ticket("used", "echo first")).await;
    assert_eq!(world.result("used").await["result"]["output"]["stdout"], "first\n");
    world.publish_avro(&world.ticket("used", "echo second")).await;
    let letter = eventually("the dead letter", || world.dead_letters().pop()).await;
    assert_eq!(letter["dlq_metadata"]["error_code"], "ticket_id_collision");
    let error = letter["dlq_metadata"]["original_error"].as_str().expect("text");
    assert_eq!(error.matches("execution.tickets/").count(), 2, "both records are named: {error}");
    // The same work again, differently written, is a duplicate.
    let mut again = world.ticket("used", "x");
    again["parameters"] = json!({ "args": "['-c', 'echo first']", "command": "sh" });
    again["sla"] = Value::Null;
    world.publish(&again).await;
    let duplicates = r#"worker_agent_duplicates_detected_total{component="bridge"}"#;
    worker.reaches(duplicates, 1.0).await;
    assert_eq!(world.runs("used"), 1);
    assert_eq!(world.results().len(), 1);
    assert_eq!(world.dead_letters().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_not_pending_is_skipped_and_one_without_executor_fails() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    world.publish_raw("key", Some(&with(world.ticket("running", "echo x"), "status", json!("RUNNING")))).await;
    world.publish_raw("key", Some(&with(world.ticket("build", "echo x"), "task_type", json!("BUILD")))).await;
    world
        .publish_raw(
            "key",
            Some(&with(world.ticket("k8s", "x"), "parameters", json!({"runtime": "k8s", "command": "true"}))),
        )
        .await;
    let build = world.result("build").await;
    assert_eq!(
        (&build["status"], &build["result"]["metadata"]["error_code"]),
        (&json!("FAILED"), &json!("executor_not_available"))
    );
    let isolated = world.result("k8s").await;
    assert_eq!(
        isolated["result"]["metadata"]["error_code"], "provider_not_available",
        "INC-72: isolation is never lowered"
    );
    assert_eq!(world.results().len(), 2);
    assert!(world.dead_letters().is_empty());
    assert!(worker.metric(r#"worker_agent_records_total{disposition="skipped"}"#).await > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn extreme_but_legal_numbers_do_not_wedge_a_ticket() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let ten_years = 315_360_000_000i64;
    for (name, script, sla) in [
        ("far", "echo ok", json!({ "deadline": 253_402_300_799_000i64, "timeout_ms": ten_years, "max_retries": 1000 })),
        ("tiny", "sleep 5", json!({ "deadline": 253_402_300_799_000i64, "timeout_ms": 1, "max_retries": 0 })),
        ("absent", "echo ok", Value::Null),
        ("past", "echo ok", json!({ "deadline": 1, "timeout_ms": 1000, "max_retries": 0 })),
    ] {
        world.publish_raw("key", Some(&with(world.ticket(name, script), "sla", sla))).await;
    }
    assert_eq!(world.result("far").await["status"], "COMPLETED");
    assert_eq!(world.result("absent").await["status"], "COMPLETED");
    let tiny = world.result("tiny").await;
    assert_eq!(tiny["result"]["metadata"]["error_code"], "timeout", "{tiny}");
    let past = world.result("past").await;
    assert_eq!(past["result"]["metadata"]["error_code"], "deadline_exceeded");
    assert_eq!(past["result"]["metadata"]["attempt_count"], "0", "INC-43: nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_14_a_header_whose_name_is_no_text_holds_up_nothing() {
    let world = World::new().await;
    let good = world.ticket("good", "echo good").to_string();
    for value in [b"broken".as_slice(), good.as_bytes()] {
        crate::raw_produce::produce(world.kafka.bootstrap_servers(), "execution.tickets", 0, value, (b"\xff", b"x"));
    }
    let _worker = world.worker(&[]).await;
    assert_eq!(world.result("good").await["status"], "COMPLETED");
    let letter = eventually("the dead letter", || world.dead_letters().pop()).await;
    assert_eq!(letter["dlq_metadata"]["error_code"], "invalid_json");
    assert_eq!(letter["dlq_metadata"]["original_headers_truncated"], true, "it says that a header is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_03_a_type_that_another_service_takes_is_passed_over_and_counted() {
    let world = World::new().await;
    let worker = world.worker(&[("BRIDGE_IGNORED_TASK_TYPES", "BUILD")]).await;
    let mut build = world.ticket("build", "true");
    build["task_type"] = json!("BUILD");
    world.publish(&build).await;
    world.publish(&world.ticket("execute", "true")).await;
    assert_eq!(world.result("execute").await["status"], "COMPLETED");
    worker.reaches(r#"worker_agent_records_total{disposition="ignored"}"#, 1.0).await;
    assert_eq!(world.runs("build"), 0);
    assert!(world.dead_letters().is_empty());
}
