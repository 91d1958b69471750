//! `worker-agents explain`: what it says of a ticket in every state that lasts, of those that have ended, and without a
//! worker.

use std::process::{Command, Output};

use chrono::DateTime;
use serde_json::{Value, json};

use crate::world::{WORKER, World, eventually, until};

fn explain(world: &World, arguments: &[&str]) -> Output {
    Command::new(WORKER)
        .arg("explain")
        .args(arguments)
        .env_clear()
        .env("TEMPORAL_ADDRESS", &world.temporal)
        .env("TEMPORAL_UI_URL", "http://ui.example/")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("the command runs")
}

/// What `--json` says; `None` while the ticket is not known.
fn account(world: &World, name: &str) -> Option<Value> {
    let output = explain(world, &[&world.ticket_id(name), "--json"]);
    (output.status.code() == Some(0)).then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The account of a ticket once it is in a state and a worker has answered for it.
async fn account_in(world: &World, name: &str, state: &str) -> Value {
    let told = eventually(&format!("{name} is {state}"), || {
        account(world, name).filter(|told| told["state"] == state && told["unanswered"].is_null())
    })
    .await;
    assert_eq!(told["ticket_id"], world.ticket_id(name));
    assert_eq!(told["workflow_id"], format!("ticket-{}", world.ticket_id(name)));
    assert!(told["explanation"].as_str().is_some_and(|text| text.contains(&world.ticket_id(name))), "{told}");
    if !told["waiting_for"].is_null() {
        assert!(instant(&told["since"]) <= now(), "{told}");
        assert!(told["unblocked_by"].as_str().is_some_and(|by| !by.is_empty()), "{told}");
        let used = told["deadline_used"].as_f64().expect("a share");
        assert!((0.0..1.0).contains(&used), "{told}");
    }
    told
}

fn paragraph(world: &World, name: &str) -> String {
    let output = explain(world, &[&world.ticket_id(name)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn now() -> i64 {
    ticket_activities::now_ms()
}

fn instant(text: &Value) -> i64 {
    let text = text.as_str().unwrap_or_else(|| panic!("a time: {text}"));
    DateTime::parse_from_rfc3339(text).expect("RFC 3339").timestamp_millis()
}

fn dependent(world: &World, name: &str, on: &[&str]) -> Value {
    let mut ticket = world.ticket(name, "true");
    ticket["dependencies"] = on.iter().map(|name| json!(world.ticket_id(name))).collect();
    ticket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_ticket_waits_for_its_executor_and_one_that_depends_on_it_says_so() {
    let world = World::new().await;
    let _worker = world.worker(&[("AGENT_ID", "agent-7")]).await;
    let folder = tempfile::tempdir().expect("folder");
    let gate = folder.path().join("gate");
    world.publish(&world.ticket("runs", &until(&gate))).await;
    let runs = eventually("it runs on a worker", || {
        account(&world, "runs").filter(|told| told["waiting_for"]["worker"].is_string())
    })
    .await;
    assert_eq!(runs["waiting_for"]["worker"], "worker-agents@agent-7", "{runs}");
    let runs = account_in(&world, "runs", "executing").await;
    assert_eq!(runs["waiting_for"]["kind"], "executor");
    assert_eq!(runs["waiting_for"]["task_type"], "EXECUTE");
    assert_eq!((&runs["waiting_for"]["attempt"], &runs["waiting_for"]["max_attempts"]), (&json!(1), &json!(1)));
    assert!(instant(&runs["until"]) > now() && instant(&runs["until"]) <= instant(&runs["deadline"]), "{runs}");
    assert_eq!(runs["attempts"]["count"], 0);
    assert!(paragraph(&world, "runs").contains("executor of EXECUTE: attempt 1 of 1 runs on worker-agents@agent-7"));

    world.publish(&dependent(&world, "waits", &["runs", "never"])).await;
    let waits = account_in(&world, "waits", "parked").await;
    assert_eq!((&waits["waiting_for"]["kind"], &waits["waiting_for"]["count"]), (&json!("dependencies"), &json!(2)));
    assert_eq!(
        waits["waiting_for"]["tickets"],
        json!([world.ticket_id("never"), world.ticket_id("runs")]),
        "in their order"
    );
    // It looks again when nobody has heard of one of them by then.
    assert!(instant(&waits["until"]) > now(), "{waits}");
    let states: Vec<_> =
        waits["predecessors"].as_array().expect("predecessors").iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["not_found", "executing"], "{waits}");
    let text = paragraph(&world, "waits");
    assert!(text.contains(&format!("Ticket {} has not come", world.ticket_id("never"))), "{text}");
    assert!(text.contains(&format!("Ticket {} waits for the executor", world.ticket_id("runs"))), "{text}");
    std::fs::write(&gate, "").expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_waits_for_its_next_one() {
    let world = World::new().await;
    let _worker = world.worker(&[("RETRY_BACKOFF_BASE_SECONDS", "1000"), ("RETRY_BACKOFF_MAX_SECONDS", "1000")]).await;
    let mut ticket = world.ticket("again", "sleep 30");
    ticket["sla"] = json!({ "deadline": now() + 3_600_000, "timeout_ms": 200, "max_retries": 2 });
    world.publish(&ticket).await;
    let told = account_in(&world, "again", "retry_wait").await;
    assert_eq!(
        told["waiting_for"],
        json!({ "kind": "retry", "attempt": 2, "max_attempts": 3, "error_code": "timeout" })
    );
    assert!(instant(&told["until"]) > now(), "{told}");
    assert_eq!((&told["attempts"]["count"], &told["attempts"]["attempts"][0]["end"]), (&json!(1), &json!("timeout")));
    let text = paragraph(&world, "again");
    assert!(text.contains("attempt 2 of 3") && text.contains("timeout"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_ticket_waits_for_its_attempt_to_stop() {
    let world = World::new().await;
    let _worker = world.worker(&[("LOCAL_RUNTIME_KILL_GRACE_SECONDS", "17")]).await;
    let (begun, gate) = (world.shared("kept/begun"), world.shared("kept/gate"));
    let script = format!("trap '' TERM; touch begun; {}", until(&gate));
    world.publish(&world.ticket_in("kept", "unwanted", &script)).await;
    eventually("it ignores TERM", || begun.exists().then_some(())).await;
    world.cancel("unwanted");
    let told = account_in(&world, "unwanted", "stopping").await;
    assert_eq!((&told["waiting_for"]["kind"], &told["waiting_for"]["attempt"]), (&json!("stop"), &json!(1)));
    std::fs::write(&gate, "").expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_published_is_a_wait() {
    let world = World::new().await;
    world.registry.set_unavailable(true);
    let _worker = world.worker(&[("RESULT_ENCODING", "avro")]).await;
    world.publish(&world.ticket("done", "true")).await;
    let told = account_in(&world, "done", "reporting").await;
    assert_eq!((&told["waiting_for"]["kind"], &told["error_code"]), (&json!("publication"), &Value::Null));
    assert_eq!((&told["until"], &told["attempts"]["count"]), (&Value::Null, &json!(1)));
    world.registry.set_unavailable(false);
    account_in(&world, "done", "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_have_ended_say_how() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    world.publish(&world.ticket("good", "true")).await;
    world.publish(&world.ticket("bad", "exit 3")).await;
    world.publish(&dependent(&world, "after-bad", &["bad"])).await;
    let good = account_in(&world, "good", "completed").await;
    assert_eq!((&good["waiting_for"], &good["until"], &good["error_code"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(good["message"].as_str().is_some_and(|message| message.contains("exit code 0")), "{good}");
    assert!(instant(&good["closed"]) <= now() && good["attempts"]["count"] == 1, "{good}");
    let page =
        format!("/workflows/ticket-{}/{}/history", world.ticket_id("good"), good["run_id"].as_str().expect("id"));
    assert!(good["url"].as_str().is_some_and(|url| url.ends_with(&page)), "{good}");

    let bad = account_in(&world, "bad", "failed").await;
    assert_eq!(bad["error_code"], "execution_failed");
    assert!(bad["message"].as_str().is_some_and(|message| message.contains("exit code 3")), "{bad}");
    let after = account_in(&world, "after-bad", "failed").await;
    assert_eq!(after["error_code"], "dependency_failed");
    assert!(paragraph(&world, "after-bad").contains("failed with dependency_failed"));

    // What ended is told without a worker, but for its attempts.
    drop(worker);
    let told = account(&world, "bad").expect("known");
    assert_eq!((&told["state"], &told["error_code"]), (&json!("failed"), &json!("execution_failed")));
    assert_eq!(told["message"], bad["message"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_the_server_says_what_a_parked_ticket_waits_for() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    world.publish(&dependent(&world, "waits", &["never"])).await;
    account_in(&world, "waits", "parked").await;
    worker.kill_9();
    let told = account(&world, "waits").expect("known");
    assert_eq!(told["state"], "parked", "{told}");
    assert_eq!(
        told["waiting_for"],
        json!({ "kind": "dependencies", "tickets": [world.ticket_id("never")], "count": 1 })
    );
    assert!(told["unanswered"].is_string() && told["attempts"].is_null(), "{told}");
    assert!(instant(&told["since"]) <= now() && instant(&told["until"]) > now(), "{told}");
    assert_eq!(told["predecessors"][0]["state"], "not_found");
    let text = told["explanation"].as_str().expect("text");
    assert!(text.contains("no worker answered") && text.contains(&world.id), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_not_known_is_no_failure_of_the_command() {
    let world = World::new().await;
    let id = world.ticket_id("nobody");
    let output = explain(&world, &[&id]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("worker-agents dlq list --ticket {id}")) && said.contains("namespace"), "{said}");
    let output = explain(&world, &[&id, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["state"], &told["ticket_id"]), (&json!("not_found"), &json!(id)));

    assert_eq!(explain(&world, &["no id"]).status.code(), Some(2));
    assert_eq!(explain(&world, &[]).status.code(), Some(2));
    let away = Command::new(WORKER).args(["explain", &id]).env_clear().env("TEMPORAL_ADDRESS", "127.0.0.1:1").output();
    assert_eq!(away.expect("the command runs").status.code(), Some(3));
    let elsewhere = Command::new(WORKER)
        .args(["explain", &id])
        .env_clear()
        .envs([("TEMPORAL_ADDRESS", world.temporal.as_str()), ("TEMPORAL_NAMESPACE", "nobody-made-it")])
        .output()
        .expect("the command runs");
    assert_eq!(elsewhere.status.code(), Some(3), "{}", String::from_utf8_lossy(&elsewhere.stderr));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("TEMPORAL_NAMESPACE"));
}
