//! What an operator orders of a ticket with `worker-agents ticket …`, on the command line and in what comes of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{World, eventually, processes};

/// Runs `ticket …`; its JSON answer, once it has ended with `code`.
fn order(world: &World, code: i32, verb: &str, name: &str, options: &[&str]) -> Value {
    let id = world.ticket_id(name);
    let given = ["ticket", verb, &id, "--why", "the plan changed", "--by", "ana", "--json"];
    let output = world.command(&[&given, options].concat(), "");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{verb} {name}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|_| json!({ "note": err }))
}

fn note(answer: &Value) -> &str {
    answer["note"].as_str().expect("a note")
}

/// The answer of the status query.
fn status(world: &World, name: &str) -> Value {
    let workflow = format!("ticket-{}", world.ticket_id(name));
    let answer = world.temporal_cli(&["workflow", "query", "--workflow-id", &workflow, "--type", "status"]);
    answer["queryResult"].as_array().and_then(|all| all.first().cloned()).unwrap_or_default()
}

async fn is(world: &World, name: &str, state: &str) -> Value {
    let workflow = format!("TicketId = '{}'", world.ticket_id(name));
    let started = || world.temporal_cli(&["workflow", "count", "--query", &workflow])["count"] == "1";
    eventually("the ticket starts", || started().then_some(())).await;
    eventually(&format!("{name} is {state}"), || {
        let status = status(world, name);
        (status["state"]["state"] == state).then_some(status)
    })
    .await
}

/// A text that no other process has in its command line, and that `sleep` takes.
fn marker(world: &World, number: u32) -> String {
    format!("{number}.7{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"))
}

/// A ticket that fails in a way worth a retry until `flag` exists: its time-out is short.
fn retried(world: &World, name: &str) -> Value {
    let mut ticket = world.ticket_in("kept", name, "test -e flag && exit 0; : > flag; sleep 60");
    ticket["sla"]["timeout_ms"] = json!(1_000);
    ticket["sla"]["max_retries"] = json!(2);
    ticket
}

const LONG_BACKOFF: [(&str, &str); 2] = [("RETRY_BACKOFF_BASE_SECONDS", "600"), ("RETRY_BACKOFF_MAX_SECONDS", "600")];

#[tokio::test(flavor = "multi_thread")]
async fn inc_11_inc_47_a_cancel_order_stops_the_work_and_says_who_needed_the_place() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let marker = marker(&world, 84);
    world.publish(&world.ticket("victim", &format!("echo begun; sleep {marker}"))).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;
    let paused = order(&world, 0, "pause", "victim", &[]);
    assert!(note(&paused).starts_with("attempt 1 goes on"), "{paused}");
    assert_eq!(status(&world, "victim")["paused"], true);
    let answer = order(&world, 0, "cancel", "victim", &["--preempted-by", "ticket-9", "--grace", "60"]);
    assert_eq!((&answer["done"], note(&answer)), (&json!(true), "attempt 1 is being stopped"));
    let result = world.result("victim").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!((result["status"].as_str(), metadata["error_code"].as_str()), (Some("FAILED"), Some("cancelled")));
    assert_eq!(metadata["cancel_reason"], "the plan changed", "{metadata}");
    assert_eq!(metadata["preempted_by"], "ticket-9");
    assert_eq!(metadata["external_state"], "confirmed_stopped");
    let orders = metadata["orders"]
        .as_str()
        .map_or(metadata["orders"].clone(), |text| serde_json::from_str(text).expect("JSON"));
    assert_eq!(orders[0]["verb"], "pause", "{orders}");
    assert_eq!((&orders[1]["verb"], &orders[1]["by"]), (&json!("cancel"), &json!("ana")), "{orders}");
    assert_eq!(result["result"]["output"]["stdout"], "begun\n");
    assert_eq!(processes(&marker), 0);
    eventually("the workflow is closed as cancelled", || {
        world.history("victim").pop().filter(|last| last["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED")
    })
    .await;
    let answer = order(&world, 1, "cancel", "victim", &[]);
    assert!(note(&answer).contains("ended already"), "{answer}");
    assert_eq!(world.runs("victim"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_11_work_that_does_not_stop_within_the_grace_is_reported_as_unknown() {
    let world = World::new().await;
    let worker = world.worker(&[("LOCAL_RUNTIME_KILL_GRACE_SECONDS", "17")]).await;
    let marker = marker(&world, 85);
    let script = format!("trap '' TERM; sleep {marker} & while :; do wait; sleep {marker}; done");
    world.publish(&world.ticket("deaf", &script)).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;
    let told = Instant::now();
    order(&world, 0, "cancel", "deaf", &["--grace", "1"]);
    let result = world.result("deaf").await;
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}: not later than the grace, much later", told.elapsed());
    assert_eq!(result["result"]["metadata"]["external_state"], "unknown", "{result}");
    assert_eq!(result["result"]["metadata"]["error_code"], "cancelled");
    // The worker goes on stopping it.
    eventually("the command ends", || (processes(&marker) == 0).then_some(())).await;
    assert!(!worker.log().contains("handed back"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_ticket_is_cancelled_or_released_by_order_and_a_refused_order_leaves_no_event() {
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    let later = world.ticket_id("later");
    for name in ["unwanted", "wanted"] {
        let mut ticket = world.ticket(name, "echo ran");
        ticket["dependencies"] = json!([later]);
        world.publish(&ticket).await;
    }
    is(&world, "unwanted", "parked").await;
    is(&world, "wanted", "parked").await;

    let before = world.history("wanted").len();
    let refused = order(&world, 1, "retry", "wanted", &[]);
    assert!(note(&refused).contains("waiting for 1 ticket"), "{refused}");
    let refused = order(&world, 1, "skip-dependency", "wanted", &["--dependency", "stranger"]);
    assert!(note(&refused).contains(&later), "{refused}");
    let updates =
        world.history("wanted").iter().filter(|event| event["eventType"].to_string().contains("UPDATE")).count();
    assert_eq!((world.history("wanted").len(), updates), (before, 0), "a refused order leaves no event");

    assert!(note(&order(&world, 0, "cancel", "unwanted", &[])).contains("nothing was running"));
    let result = world.result("unwanted").await;
    assert_eq!(result["result"]["metadata"]["cancel_reason"], "the plan changed");
    assert_eq!(result["result"]["metadata"]["attempt_count"], "0");

    // Paused: released, and not begun until it is resumed.
    order(&world, 0, "pause", "wanted", &[]);
    assert!(note(&order(&world, 0, "pause", "wanted", &[])).contains("already"), "twice is harmless");
    assert_eq!(status(&world, "wanted")["paused"], true);
    order(&world, 0, "skip-dependency", "wanted", &["--dependency", &later]);
    let paused = is(&world, "wanted", "paused").await;
    assert_eq!(paused["orders"].as_array().map(Vec::len), Some(2), "{paused}");
    order(&world, 0, "resume", "wanted", &[]);
    let result = world.result("wanted").await;
    assert_eq!(result["result"]["output"]["stdout"], "ran\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_waits_to_retry_is_paused_extended_resumed_and_retried_by_order() {
    let world = World::new().await;
    let mut worker = world.worker(&LONG_BACKOFF).await;
    let mut ticket = retried(&world, "again");
    let deadline = ticket_activities::now_ms() + 3_600_000;
    ticket["sla"]["deadline"] = json!(deadline);
    world.publish(&ticket).await;
    let waiting = is(&world, "again", "retry_wait").await;

    order(&world, 0, "pause", "again", &[]);
    assert!(note(&order(&world, 1, "retry", "again", &[])).contains("resume it first"));
    // What was ordered outlives the worker.
    worker.kill_9();
    let _worker = world.worker(&LONG_BACKOFF).await;
    let paused = is(&world, "again", "paused").await;
    assert_eq!(paused["state"]["until_ms"], deadline, "{paused}");

    let later = (deadline + 60_000).to_string();
    order(&world, 0, "extend-deadline", "again", &["--to", &later]);
    assert!(note(&order(&world, 0, "extend-deadline", "again", &["--to", &later])).contains("already"));
    assert!(note(&order(&world, 1, "extend-deadline", "again", &["--to", "5m"])).contains("later time"));
    let extended = status(&world, "again");
    assert_eq!(
        (&extended["deadline_ms"], &extended["state"]["until_ms"]),
        (&json!(deadline + 60_000), &json!(deadline + 60_000))
    );

    order(&world, 0, "resume", "again", &[]);
    let resumed = is(&world, "again", "retry_wait").await;
    assert_eq!(resumed["state"]["until_ms"], waiting["state"]["until_ms"], "the rest of the back-off");
    assert!(note(&order(&world, 0, "retry", "again", &[])).contains("attempt 2"));
    let result = world.result("again").await;
    assert_eq!((&result["status"], &result["result"]["metadata"]["attempt_count"]), (&json!("COMPLETED"), &json!("2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_43_the_deadline_ends_a_paused_ticket_and_a_cancel_ends_another() {
    let world = World::new().await;
    let _worker = world.worker(&LONG_BACKOFF).await;
    let marker = marker(&world, 86);
    let mut ticket = world.ticket("late", &format!("sleep {marker}"));
    ticket["sla"] = json!({ "deadline": ticket_activities::now_ms() + 660_000, "timeout_ms": 1_000, "max_retries": 3 });
    world.publish(&ticket).await;
    is(&world, "late", "retry_wait").await;
    order(&world, 0, "pause", "late", &[]);
    is(&world, "late", "paused").await;
    order(&world, 0, "cancel", "late", &[]);
    let result = world.result("late").await;
    assert_eq!(result["result"]["metadata"]["error_code"], "cancelled", "{result}");

    let mut ticket = world.ticket("short", "true");
    ticket["dependencies"] = json!([world.ticket_id("never")]);
    ticket["sla"] = json!({ "deadline": ticket_activities::now_ms() + 30_000, "timeout_ms": 1, "max_retries": 0 });
    world.publish(&ticket).await;
    is(&world, "short", "parked").await;
    order(&world, 0, "pause", "short", &[]);
    let never = world.ticket_id("never");
    order(&world, 0, "skip-dependency", "short", &["--dependency", &never]);
    let result = world.result("short").await;
    assert_eq!(result["result"]["metadata"]["error_code"], "deadline_exceeded", "{result}");
    assert!(result["error_message"].as_str().is_some_and(|message| message.contains("paused")), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_reach_nobody_say_so() {
    let world = World::new().await;
    let unknown = order(&world, 1, "pause", "nobody", &[]);
    assert!(note(&unknown).contains("knows no such ticket"), "{unknown}");
    let unreachable = world.command(&["ticket", "pause", "x"], "");
    assert_eq!(unreachable.status.code(), Some(2), "a reason is required");
    assert_eq!(world.command(&["ticket", "pause", "x", "--why", " "], "").status.code(), Some(2));
    assert_eq!(world.command(&["ticket", "pause", "no id", "--why", "x"], "").status.code(), Some(2));

    let mut worker = world.worker(&LONG_BACKOFF).await;
    world.publish(&retried(&world, "alone")).await;
    is(&world, "alone", "retry_wait").await;
    worker.kill_9();
    let told = Instant::now();
    let silent = order(&world, 3, "retry", "alone", &["--timeout", "2"]);
    assert!(note(&silent).contains("did not answer within 2 s"), "{silent}");
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    // Both may still reach it, in one workflow task: the attempt that the first begins has not begun for the second.
    order(&world, 3, "cancel", "alone", &["--timeout", "2"]);
    let _worker = world.worker(&LONG_BACKOFF).await;
    let ended = || world.results().remove(&world.ticket_id("alone"));
    let result = eventually("the cancel reaches it", || {
        // Unless the server has forgotten it with its caller.
        ended().map(|copies| copies[0].clone()).or_else(|| {
            world.command(&["ticket", "cancel", &world.ticket_id("alone"), "--why", "again"], "");
            None
        })
    })
    .await;
    let metadata = &result["result"]["metadata"];
    assert_eq!((&metadata["error_code"], &metadata["attempt_count"]), (&json!("cancelled"), &json!("1")), "{metadata}");
}
