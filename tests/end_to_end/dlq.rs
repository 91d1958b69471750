//! Dead letters: alerts about them, and the commands that list, show and re-drive them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use ticket_schemas::{decode_json_ticket, encode_avro_ticket};

use crate::world::{Record, World, eventually};

const TICKETS: &str = "execution.tickets";
const DLQ: &str = "execution.tickets.dlq";
const ALERTS: &str = "sre.alerts";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `dlq …`; its standard output, once it has ended with `code`.
fn dlq(world: &World, code: i32, arguments: &[&str], input: &str) -> String {
    let arguments = [&["dlq"], arguments].concat();
    let Output { status, stdout, stderr } = world.command(&arguments, input);
    let said = format!("{arguments:?}: {}\n{}", text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(code), "{said}");
    if code == 0 { text(&stdout) } else { text(&stdout) + &text(&stderr) }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

async fn dead_letters(world: &World, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), || Some(world.dead_letters()).filter(|found| found.len() >= count))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_re_driven_once_their_cause_is_mended() {
    let world = World::new().await;
    let schema_id = world.schema_id("execution.tickets-value", ticket_schemas::TICKET_SCHEMA_JSON).await;
    let avro = decode_json_ticket(world.ticket("avro", "echo avro").to_string().as_bytes()).expect("ticket");
    let avro = encode_avro_ticket(&avro, schema_id).expect("encoded");
    let json = world.ticket("json", "echo json").to_string().into_bytes();
    let headers = [("traceparent", "00-1"), ("X-Neural-Hive-Plan-Id", "plan"), ("private", "x")];
    let broken = world.worker(&[("KAFKA_SCHEMA_REGISTRY_URL", ""), ("SUPPORTED_TASK_TYPES", "BUILD")]).await;
    world.publish_to(TICKETS, "key", Some(&avro), &headers).await;
    world.publish_to(TICKETS, "key", Some(&json), &headers).await;
    dead_letters(&world, 2).await;
    let published = |topic| world.topic(topic).len();

    // Its own headers: the platform's, in lower case (INC-04).
    for letter in world.topic(DLQ) {
        assert_eq!(letter.header("traceparent"), Some("00-1"));
        assert_eq!(letter.header("x-neural-hive-plan-id"), Some("plan"));
        assert_eq!(letter.header("x-neural-hive-source"), Some("worker-agents"));
        assert_eq!(letter.header("private"), None);
    }

    let listed = lines(&dlq(&world, 0, &["list", "--json"], ""));
    let codes: BTreeSet<&str> = listed.iter().filter_map(|line| line["error_code"].as_str()).collect();
    assert_eq!(codes, BTreeSet::from(["schema_registry_not_configured", "unsupported_task_type"]));
    assert_eq!(listed.len(), 2);
    let table = dlq(&world, 0, &["list"], "");
    assert!(table.starts_with("POSITION") && table.lines().count() == 3, "{table}");
    let json_id = world.ticket_id("json");
    for (filter, count) in [
        (vec!["--code", "unsupported_task_type"], 1),
        (vec!["--type", "execute"], 1),
        (vec!["--ticket", &json_id], 1),
        (vec!["--ticket", "unknown"], 1),
        (vec!["--since", "1h"], 2),
        (vec!["--until", "2100-01-01T00:00:00Z"], 2),
    ] {
        let found = lines(&dlq(&world, 0, &[&["list", "--json"], filter.as_slice()].concat(), "")).len();
        assert_eq!(found, count, "{filter:?}");
    }
    let none = dlq(&world, 1, &["list", "--code", "unsupported_task_type", "--until", "1h"], "");
    assert!(none.contains("none of the 2 dead letters"), "{none}");
    assert!(dlq(&world, 2, &["list", "--since", "yesterday"], "").contains("RFC 3339"));

    let place = |code: &str| {
        let line = listed.iter().find(|line| line["error_code"] == code).expect("listed");
        format!("{}/{}", line["partition"], line["offset"])
    };
    let undecodable = place("schema_registry_not_configured");
    let shown = dlq(&world, 0, &["show", &undecodable], "");
    for needle in ["schema_registry_not_configured", "traceparent: 00-1", "private: x", "echo avro", "@"] {
        assert!(shown.contains(needle), "{needle} is missing in {shown}");
    }
    assert_eq!(world.command(&["dlq", "show", &undecodable, "--raw"], "").stdout, avro);
    assert_eq!(world.command(&["dlq", "show", "--ticket", &json_id, "--raw"], "").stdout, json);
    let whole = lines(&dlq(&world, 0, &["show", &undecodable, "--json"], ""));
    assert_eq!(whole[0]["record"]["status"], "DESERIALIZATION_FAILED");
    assert!(dlq(&world, 1, &["show", "0/99"], "").contains("no dead letter at 0/99"));
    dlq(&world, 2, &["show"], "");

    // Nothing is published that nobody asked for.
    let plan = dlq(&world, 0, &["redrive", "--all", "--dry-run"], "");
    assert!(
        plan.contains("would be published to execution.tickets") && plan.contains("re-drive 1 of at most 3"),
        "{plan}"
    );
    assert!(dlq(&world, 2, &["redrive", "--all"], "").contains("--yes"));
    assert!(dlq(&world, 2, &["redrive"], "").contains("--all"));
    dlq(&world, 2, &["redrive", "0/0", "--code", "x"], "");
    assert!(dlq(&world, 1, &["redrive", "--code", "nobody"], "").contains("no dead letter"));
    assert_eq!(published(TICKETS), 2);

    broken.end_gracefully().await;
    let worker = world.worker(&[]).await;
    let done = lines(&dlq(&world, 0, &["redrive", "--all", "--yes", "--json", "--rate", "100"], ""));
    assert!(done.len() == 2 && done.iter().all(|line| line["published"] == true), "{done:?}");
    for name in ["avro", "json"] {
        let result = world.result(name).await;
        assert_eq!(result["result"]["output"]["stdout"], format!("{name}\n"), "{result}");
    }
    let (old, new): (Vec<Record>, Vec<Record>) =
        world.topic(TICKETS).into_iter().partition(|record| record.header("x-neural-hive-redrive-id").is_none());
    assert_eq!((old.len(), new.len()), (2, 2));
    for record in &new {
        let original = old.iter().find(|old| old.value == record.value).expect("byte for byte");
        assert_eq!(record.key, original.key);
        assert_eq!(record.header("x-neural-hive-redrive-count"), Some("1"));
        assert!(record.header("x-neural-hive-redrive-letter").is_some_and(|place| place.starts_with(DLQ)));
        assert!(record.header("x-neural-hive-redrive-origin").is_some_and(|place| place.starts_with(TICKETS)));
        assert!(record.header("x-neural-hive-redrive-by").is_some_and(|who| who.contains('@')));
        let kept: Vec<_> = record.headers.iter().filter(|(name, _)| !name.contains("redrive")).cloned().collect();
        assert_eq!(kept, original.headers);
    }

    // Once more: the tickets are completed, so they do not run again.
    dlq(&world, 0, &["redrive", "--all", "--yes"], "");
    worker.reaches(r#"worker_agent_duplicates_detected_total{component="bridge"}"#, 2.0).await;
    assert_eq!((world.runs("avro"), world.runs("json"), world.dead_letters().len()), (1, 1, 2));
}

/// Alerts by id; copies must be equal.
fn alerts(world: &World) -> (usize, BTreeMap<String, Value>) {
    let mut by_id = BTreeMap::new();
    let records = world.topic(ALERTS);
    for record in &records {
        let alert: Value = serde_json::from_slice(&record.value).expect("JSON");
        assert_eq!(record.key.as_deref(), alert["alert_id"].as_str(), "alerts are keyed by their id");
        assert_eq!(record.header("x-neural-hive-source"), Some("worker-agents"));
        let id = record.key.clone().expect("key");
        if let Some(first) = by_id.insert(id, alert.clone()) {
            assert_eq!(first, alert, "copies are equal");
        }
    }
    (records.len(), by_id)
}

async fn alerted(world: &World, count: usize) -> (usize, BTreeMap<String, Value>) {
    eventually(&format!("alerts about {count} dead letters"), || {
        Some(alerts(world)).filter(|found| found.1.len() >= count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_20_every_dead_letter_is_alerted_and_after_a_kill_again_under_the_same_id() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    let mut ticket = world.ticket("bad", "echo x");
    ticket["priority"] = json!("whenever\n\u{1b}[2J");
    world.publish(&ticket).await;
    for n in 0..4 {
        world.publish_raw("key", Some(format!("broken {n}").as_bytes())).await;
    }
    let (sent, by_id) = alerted(&world, 5).await;
    assert_eq!((sent, by_id.len()), (5, 5), "one each");
    let alert = by_id.values().find(|alert| alert["ticket_id"] == ticket["ticket_id"]).expect("the ticket's");
    assert_eq!((&alert["severity"], &alert["task_type"]), (&json!("warning"), &json!("EXECUTE")));
    let workflow = format!("ticket-{}", world.ticket_id("bad"));
    assert_eq!(
        alert["metadata"],
        json!({ "plan_id": "plan", "workflow_id": workflow, "error_type": "malformed_field" })
    );
    worker.reaches(r#"worker_agent_dlq_alerts_sent_total{severity="warning",task_type="EXECUTE"}"#, 1.0).await;
    worker.reaches(r#"worker_agent_dlq_alerts_sent_total{severity="warning",task_type="unknown"}"#, 4.0).await;
    worker.reaches(r#"worker_agent_ticket_retry_count_count{task_type="EXECUTE"}"#, 1.0).await;
    let (status, body) = worker.get("/health").await;
    assert!(status == 200 && body.contains(r#""dlq_alerts":{"ok":true}"#), "{body}");

    // Killed at an odd moment: what came meanwhile is alerted, nothing twice under different ids.
    for n in 4..8 {
        world.publish_raw("key", Some(format!("broken {n}").as_bytes())).await;
    }
    dead_letters(&world, 7).await;
    worker.kill_9();
    let worker = world.worker(&[]).await;
    eventually("all records are done", || {
        (world.committed("worker-agents", TICKETS) == world.topic(TICKETS).len() as i64).then_some(())
    })
    .await;
    // Some may have been dead-lettered twice: published, and killed before the commit.
    let letters = world.topic(DLQ).len();
    assert!(letters >= 9);
    let (_, by_id) = alerted(&world, letters).await;
    assert_eq!(by_id.len(), letters);

    // Whatever is in the topic is worth an alert, and a worker that stops in good order leaves none to repeat.
    world.publish_to(DLQ, "key", Some(b"no dead letter"), &[]).await;
    let (sent, by_id) = alerted(&world, letters + 1).await;
    assert!(by_id.values().any(|alert| alert["metadata"]["error_type"] == "dlq_unreadable"));
    worker.end_gracefully().await;
    let _worker = world.worker(&[]).await;
    world.publish_to(DLQ, "key", None, &[]).await;
    let (after, by_id) = alerted(&world, letters + 2).await;
    assert_eq!((after, by_id.len()), (sent + 1, letters + 2), "nothing was alerted again");
}

/// More than the consumer lets wait.
const MANY: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn alerts_wait_for_their_topic_and_hold_up_nothing_else() {
    let world = World::new().await;
    for n in 0..MANY {
        world.publish_to(DLQ, "key", Some(format!("{n}").as_bytes()), &[]).await;
    }
    let missing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    world.kafka.topic_error(ALERTS, missing).expect("missing");
    let worker = world.worker(&[]).await;
    world.publish(&world.ticket("meanwhile", "echo meanwhile")).await;
    world.publish_raw("key", Some(b"broken")).await;
    assert_eq!(world.result("meanwhile").await["status"], "COMPLETED");
    dead_letters(&world, MANY + 1).await;
    eventually("an alert fails", || worker.log().contains("dlq_alert_failed").then_some(())).await;
    assert!(worker.log().contains("DLQ_ALERT_KAFKA_TOPIC"), "the next action is named");
    let text = worker.get("/metrics").await.1;
    assert!(text.contains("worker_agent_dlq_alert_errors_total{error_type="), "it is counted");
    assert_eq!(worker.get("/health").await.0, 200, "nothing is wrong with the worker");
    assert_eq!(worker.get("/ready").await.0, 200);
    assert_eq!(world.committed("worker-agents-dlq", DLQ), 0, "nothing is passed over");

    // It ends in good time, and the next one goes on.
    let told = std::time::Instant::now();
    worker.end_gracefully().await;
    assert!(told.elapsed() < std::time::Duration::from_secs(15), "it took {:?}", told.elapsed());
    let _worker = world.worker(&[]).await;
    world.kafka.topic_error(ALERTS, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("there again");
    let (sent, by_id) = alerted(&world, MANY + 1).await;
    assert_eq!((sent, by_id.len()), (MANY + 1, MANY + 1), "one each");
    eventually("everything is committed", || {
        (world.committed("worker-agents-dlq", DLQ) == MANY as i64 + 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_delays_alerts_and_loses_none() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    world.publish_raw("key", Some(b"before")).await;
    alerted(&world, 1).await;
    world.kafka.broker_down().expect("down");
    eventually("the consumer notices", || worker.log().contains("dlq_consumer_error").then_some(())).await;
    world.kafka.broker_up().expect("up");
    for n in 0..3 {
        world.publish_raw("key", Some(format!("after {n}").as_bytes())).await;
    }
    alerted(&world, 4).await;
    assert_eq!(worker.get("/health").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_their_consumer_can_be_turned_off() {
    let world = World::new().await;
    world.publish_to(DLQ, "key", Some(b"1"), &[]).await;
    let silent = world.worker(&[("DLQ_ALERT_ENABLED", "false")]).await;
    world.publish(&world.ticket("t", "echo x")).await;
    world.result("t").await;
    assert!(silent.get("/health").await.1.contains("dlq_alerts"), "it consumes");
    // Until it has read and committed the first one: the next worker does not alert about it.
    eventually("the group's offset", || (world.committed("worker-agents-dlq", DLQ) == 1).then_some(())).await;
    silent.end_gracefully().await;
    world.publish_to(DLQ, "key", Some(b"2"), &[]).await;
    let off = world.worker(&[("KAFKA_DLQ_ENABLED", "false")]).await;
    off.wait_ready().await;
    assert!(!off.get("/health").await.1.contains("dlq_alerts"));
    off.end_gracefully().await;
    assert!(world.topic(ALERTS).is_empty());
    let _on = world.worker(&[]).await;
    let (sent, _) = alerted(&world, 1).await;
    assert_eq!(sent, 1, "only about what came after the silent one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_breaker_refuses_what_comes_back_again_and_again() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    world.publish_raw("key", Some(b"{\"ticket_id\": ")).await;
    for round in 1..=3 {
        let letters = dead_letters(&world, round).await;
        let counts: BTreeSet<i64> =
            letters.iter().filter_map(|letter| letter["dlq_metadata"]["retry_count"].as_i64()).collect();
        assert_eq!(counts, (1..=round as i64).collect(), "a failure each");
        // By filter: only the last one, the others came back as it.
        let done = lines(&dlq(&world, 0, &["redrive", "--code", "invalid_json", "--json"], ""));
        assert_eq!((done.len(), done[0]["redrives"].as_u64()), (1, Some(round as u64)), "{done:?}");
    }
    dead_letters(&world, 4).await;
    let refused = dlq(&world, 1, &["redrive", "--code", "invalid_json"], "");
    assert!(refused.contains("re-driven 3 time(s)") && refused.contains("--max-redrives"), "{refused}");
    assert_eq!(world.topic(TICKETS).len(), 4);
    dlq(&world, 0, &["redrive", "0/3", "--max-redrives", "4", "--to", "source"], "");
    let letters = dead_letters(&world, 5).await;
    let origin = |record: &Record| record.header("x-neural-hive-redrive-origin").map(str::to_owned);
    let origins: BTreeSet<String> = world.topic(TICKETS).iter().filter_map(origin).collect();
    assert_eq!(origins.len(), 1, "all name the first record: {origins:?}");
    assert_eq!(letters.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_foreign_and_cut_originals_are_re_driven() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let place = |code: &str| {
        let listed = lines(&dlq(&world, 0, &["list", "--json", "--code", code], ""));
        format!("{}/{}", listed[0]["partition"], listed[0]["offset"])
    };

    // Edited: what was missing is given.
    let mut incomplete = world.ticket("edited", "echo edited");
    incomplete.as_object_mut().expect("object").remove("dependencies");
    world.publish(&incomplete).await;
    dead_letters(&world, 1).await;
    let missing = place("missing_field");
    dlq(&world, 2, &["redrive", &missing, "--edit", "-"], r#"{"task_type": "DANCE"}"#);
    dlq(&world, 2, &["redrive", &missing, "--edit", "/no/such/file"], "");
    incomplete["dependencies"] = json!([]);
    incomplete.as_object_mut().expect("object").remove("ticket_id");
    dlq(&world, 0, &["redrive", &missing, "--edit", "-"], &incomplete.to_string());
    assert_eq!(world.result("edited").await["result"]["output"]["stdout"], "edited\n");
    assert_eq!(world.runs("edited"), 1);

    // Other work under the id of a ticket that failed: the header lets it run.
    world.publish(&world.ticket("failed", "exit 3")).await;
    assert_eq!(world.result("failed").await["status"], "FAILED");
    world.publish(&world.ticket("failed", "echo second")).await;
    dead_letters(&world, 2).await;
    dlq(&world, 0, &["redrive", &place("ticket_id_collision")], "");
    eventually("the second run", || (world.runs("failed") == 2).then_some(())).await;
    eventually("its result", || {
        let results = world.results().remove(&world.ticket_id("failed"))?;
        results.iter().any(|result| result["status"] == "COMPLETED").then_some(())
    })
    .await;

    // The platform's own record holds no bytes: the documented procedure.
    let mut foreign = world.ticket("foreign", "echo foreign");
    foreign["status"] = json!("FAILED");
    foreign["processed_at_ms"] = json!(1);
    foreign["dlq_metadata"] = json!({ "original_error": "timed out", "error_type": "TimeoutError", "retry_count": 3 });
    world.publish_to(DLQ, &world.ticket_id("foreign"), Some(foreign.to_string().as_bytes()), &[]).await;
    dlq(&world, 0, &["redrive", "--code", "TimeoutError"], "");
    assert_eq!(world.result("foreign").await["status"], "COMPLETED");

    // Cut: the source still has it; once it does not, that is said.
    let mut large = world.ticket("large", "echo x");
    large["description"] = json!("x".repeat(1_100_000));
    let bytes = large.to_string().into_bytes();
    world.publish_raw("key", Some(&bytes)).await;
    dead_letters(&world, 4).await;
    let oversized = place("oversized");
    assert_eq!(world.command(&["dlq", "show", &oversized, "--raw"], "").stdout, bytes);
    dlq(&world, 0, &["redrive", &oversized], "");
    assert_eq!(dead_letters(&world, 5).await.len(), 5);
    assert!(world.topic(TICKETS).iter().filter(|record| record.value == bytes).count() == 2);
    let mut elsewhere =
        world.dead_letters().into_iter().find(|letter| letter["dlq_metadata"]["error_code"] == "oversized");
    let letter = elsewhere.as_mut().expect("one");
    letter["dlq_metadata"]["source"]["offset"] = json!(4_000_000);
    letter["dlq_metadata"]["error_code"] = json!("elsewhere");
    world.publish_to(DLQ, "key", Some(letter.to_string().as_bytes()), &[]).await;
    let gone = dlq(&world, 1, &["redrive", "--code", "elsewhere"], "");
    assert!(gone.contains("no record at execution.tickets/") && gone.contains("--edit"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_with_a_small_limit_gets_a_small_record_and_the_partition_moves_on() {
    let world = World::new().await;
    let mut incomplete = world.ticket("bad", "echo x");
    incomplete.as_object_mut().expect("object").remove("dependencies");
    world.publish(&incomplete).await;
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    world.kafka.request_errors(RDKafkaApiKey::Produce, &too_large).expect("refused");
    let _worker = world.worker(&[("KAFKA_DLQ_ENABLED", "false")]).await;
    let letters = dead_letters(&world, 1).await;
    assert_eq!(letters[0]["ticket_id"], incomplete["ticket_id"]);
    assert_eq!(letters[0]["dlq_metadata"]["original_object_omitted"], true, "the first try was refused");
    assert_eq!(world.command(&["dlq", "show", "0/0", "--raw"], "").stdout, incomplete.to_string().into_bytes());
    world.publish(&world.ticket("good", "echo good")).await;
    assert_eq!(world.result("good").await["status"], "COMPLETED");
}
