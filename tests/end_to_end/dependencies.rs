//! Tickets that depend on others: both orders of arrival, every kind of predecessor, and waits that cannot end
//! (`docs/adr/0013-dependencies.md`).

use serde_json::{Value, json};

use crate::world::{World, eventually};

/// A ticket of this test that depends on others of it.
fn dependent(world: &World, name: &str, script: &str, on: &[&str]) -> Value {
    let mut ticket = world.ticket(name, script);
    ticket["dependencies"] = on.iter().map(|name| json!(world.ticket_id(name))).collect();
    ticket
}

async fn status(world: &World, name: &str) -> (String, Value) {
    let result = world.result(name).await;
    let code = result["result"]["metadata"]["error_code"].clone();
    (result["status"].as_str().expect("status").to_owned(), code)
}

/// How many events of a type the history of a ticket has.
fn events(world: &World, name: &str, kind: &str) -> usize {
    world.history(name).iter().filter(|event| event["eventType"] == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_42_waiting_tickets_do_not_block_those_they_wait_for() {
    const PAIRS: usize = 30;
    let world = World::new().await;
    let dependents: Vec<_> =
        (0..PAIRS).map(|n| dependent(&world, &format!("d{n}"), "true", &[&format!("p{n}")])).collect();
    let predecessors: Vec<_> = (0..PAIRS).map(|n| world.ticket(&format!("p{n}"), "true")).collect();
    world.publish_all(&dependents).await;
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", "5"), ("MAX_CONCURRENT_TASKS", "1")]).await;
    worker.wait_ready().await;
    let count = || {
        let query = format!("TaskQueue = '{}' AND TicketPhase = 'parked' AND ExecutionStatus = 'Running'", world.id);
        world.temporal_cli(&["workflow", "count", "--query", &query])["count"].as_str().map(str::to_owned)
    };
    eventually("all wait", || (count().as_deref() == Some("30")).then_some(())).await;
    world.publish_all(&predecessors).await;
    eventually("all have a result", || (world.results().len() == 2 * PAIRS).then_some(())).await;
    for n in 0..PAIRS {
        assert_eq!(status(&world, &format!("d{n}")).await.0, "COMPLETED");
        let (dependent, predecessor) = (world.result(&format!("d{n}")).await, world.result(&format!("p{n}")).await);
        assert!(dependent["timestamp"].as_i64() >= predecessor["timestamp"].as_i64(), "pair {n}");
    }
    // One registration and no poll. On a busy machine it is an activity of its own instead of a marker, as is the report.
    let asked = events(&world, "d0", "EVENT_TYPE_MARKER_RECORDED");
    let scheduled = events(&world, "d0", "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED");
    assert!(asked <= 3 && (1..=4).contains(&scheduled), "{asked} markers, {scheduled} activities");
    assert!(events(&world, "d0", "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED") <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn predecessors_that_run_or_have_ended_release_or_fail_their_dependents() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    world.publish(&world.ticket("done", "true")).await;
    world.publish(&world.ticket("broken", "exit 3")).await;
    world.publish(&world.ticket("slow", "sleep 2")).await;
    assert_eq!(status(&world, "done").await.0, "COMPLETED");
    assert_eq!(status(&world, "broken").await.0, "FAILED");
    for (name, on) in [
        ("after-done", vec!["done"]),
        ("after-slow", vec!["slow", "done", "slow"]),
        ("after-broken", vec!["done", "broken"]),
        ("after-that", vec!["after-broken"]),
        ("fan-in", vec!["after-done", "after-slow", "done"]),
    ] {
        world.publish(&dependent(&world, name, "true", &on)).await;
    }
    for name in ["after-done", "after-slow", "fan-in"] {
        assert_eq!(status(&world, name).await, ("COMPLETED".to_owned(), Value::Null), "{name}");
    }
    for name in ["after-broken", "after-that"] {
        assert_eq!(status(&world, name).await, ("FAILED".to_owned(), json!("dependency_failed")), "{name}");
    }
    let message = world.result("after-broken").await["error_message"].as_str().expect("message").to_owned();
    assert!(message.contains(&world.ticket_id("broken")) && message.contains("execution_failed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cycles_are_named_with_their_path() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    world.publish(&dependent(&world, "self", "true", &["self"])).await;
    assert_eq!(status(&world, "self").await, ("FAILED".to_owned(), json!("dependency_cycle")));
    for (name, on) in [("c1", "c2"), ("c2", "c3"), ("c3", "c1")] {
        world.publish(&dependent(&world, name, "true", &[on])).await;
    }
    let mut cycles = 0;
    for name in ["c1", "c2", "c3"] {
        let (status, code) = status(&world, name).await;
        assert_eq!(status, "FAILED");
        if code == "dependency_cycle" {
            cycles += 1;
            let message = world.result(name).await["error_message"].as_str().expect("message").to_owned();
            assert_eq!(message.matches(" → ").count(), 3, "{message}");
        } else {
            assert_eq!(code, "dependency_failed", "{name}");
        }
    }
    assert!(cycles >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_nobody_hears_of_fails_its_dependents_in_time() {
    let world = World::new().await;
    let _worker = world.worker(&[("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "2")]).await;
    world.publish(&dependent(&world, "orphan", "true", &["never"])).await;
    assert_eq!(status(&world, "orphan").await, ("FAILED".to_owned(), json!("dependency_unknown")));
    // Its waiting list ends by itself.
    let list = format!("waiters-{}", world.ticket_id("never"));
    let closed = || {
        let described = world.temporal_cli(&["workflow", "describe", "--workflow-id", &list]);
        (described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED").then_some(())
    };
    eventually("the list closes", closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_was_terminated_is_noticed_although_it_cannot_tell() {
    let world = World::new().await;
    let _worker = world.worker(&[("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "2")]).await;
    world.publish(&world.ticket("gone", "sleep 600")).await;
    world.publish(&dependent(&world, "left", "true", &["gone"])).await;
    let subscribed = || (events(&world, "gone", "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED") == 1).then_some(());
    let started = || {
        let query = format!("TicketId IN ('{}', '{}')", world.ticket_id("gone"), world.ticket_id("left"));
        (world.temporal_cli(&["workflow", "count", "--query", &query])["count"] == "2").then_some(())
    };
    eventually("both are started", started).await;
    eventually("it waits", subscribed).await;
    world.operator_of("gone", &["workflow", "terminate"]);
    assert_eq!(status(&world, "left").await, ("FAILED".to_owned(), json!("dependency_failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_nobody_understands_and_a_cancelled_list_keep_nobody_from_going_on() {
    let world = World::new().await;
    let _worker = world.worker(&[("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "4")]).await;
    world.publish(&dependent(&world, "waits", "true", &["later"])).await;
    let (waits, list) =
        (format!("ticket-{}", world.ticket_id("waits")), format!("waiters-{}", world.ticket_id("later")));
    let listed = || {
        let query = format!("WorkflowId = '{list}'");
        (world.temporal_cli(&["workflow", "count", "--query", &query])["count"] == "1").then_some(())
    };
    eventually("it is on the list", listed).await;
    for workflow in [&waits, &list] {
        for (name, input) in
            [("subscribe", "\"me\""), ("dependency_outcome", "{\"ticket_id\":7}"), ("unheard_of", "{}")]
        {
            world.operator(&["workflow", "signal", "--workflow-id", workflow, "--name", name, "--input", input]);
        }
    }
    world.operator(&["workflow", "cancel", "--workflow-id", &list]);
    let closed = || {
        let described = world.temporal_cli(&["workflow", "describe", "--workflow-id", &list]);
        (described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_CANCELED").then_some(())
    };
    eventually("the list closes", closed).await;
    world.publish(&world.ticket("later", "true")).await;
    // It was not told: it looks again.
    assert_eq!(status(&world, "waits").await, ("COMPLETED".to_owned(), Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_90_outputs_of_predecessors_reach_parameters() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    world.publish(&world.ticket("source", "printf 'a b'; printf '%s' '\"; exit 9; \"' >&2")).await;
    let source = world.ticket_id("source");
    let reference = |key: &str| format!("${{dependencies.{source}.output.{key}}}");
    let mut reader = dependent(&world, "reader", "", &["source"]);
    // As text, as Avro carries it: what is inserted adds no argument and closes no quote.
    reader["parameters"] = json!({
        "command": format!(r#"["sh", "-c", "printf '<%s>' \"$@\"", "sh", "{}", "{}", "x{}"]"#,
            reference("stdout"), reference("stderr"), reference("exit_code")),
    });
    world.publish_avro(&reader).await;
    let mut lost = dependent(&world, "lost", "", &["source"]);
    lost["parameters"] = json!({ "command": ["echo", reference("nothing.here")] });
    world.publish(&lost).await;

    let result = world.result("reader").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let output = result["result"]["output"]["stdout"].as_str().expect("stdout");
    assert_eq!(output, r#"<a b><"; exit 9; "><x0>"#);
    assert_eq!(status(&world, "lost").await, ("FAILED".to_owned(), json!("invalid_reference")));
    let message = world.result("lost").await["error_message"].as_str().expect("message").to_owned();
    assert!(message.contains("nothing.here") && message.contains(&source), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_wait_for_one_and_one_waits_for_hundreds() {
    const MANY: usize = 300;
    let world = World::new().await;
    let worker = world.worker(&[("MAX_CONCURRENT_TICKETS", "1000"), ("MAX_CONCURRENT_TASKS", "20")]).await;
    worker.wait_ready().await;
    // Long enough for all to find it open: late ones go by its waiting list.
    world.publish(&world.ticket("root", "sleep 20")).await;
    let names: Vec<_> = (0..MANY).map(|n| format!("m{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| dependent(&world, name, "true", &["root"])).collect();
    world.publish_all(&many).await;
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    world.publish(&dependent(&world, "last", "true", &all)).await;
    assert_eq!(status(&world, "last").await, ("COMPLETED".to_owned(), Value::Null));
    assert_eq!(world.results().len(), MANY + 2);
    let direct = events(&world, "root", "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED");
    assert!((1..MANY).contains(&direct), "{direct} direct subscribers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_ticket_survives_its_worker_and_can_be_cancelled() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    worker.wait_ready().await;
    world.publish(&dependent(&world, "waits", "true", &["later"])).await;
    world.publish(&dependent(&world, "unwanted", "true", &["later"])).await;
    let waiting = |name: &str| {
        let query = format!("TicketId = '{}' AND TicketPhase = 'parked'", world.ticket_id(name));
        world.temporal_cli(&["workflow", "count", "--query", &query])["count"] == "1"
    };
    eventually("both wait", || (waiting("waits") && waiting("unwanted")).then_some(())).await;
    worker.kill_9();
    let _worker = world.worker(&[]).await;
    world.cancel("unwanted");
    assert_eq!(status(&world, "unwanted").await, ("FAILED".to_owned(), json!("cancelled")));
    world.publish(&world.ticket("later", "true")).await;
    assert_eq!(status(&world, "waits").await, ("COMPLETED".to_owned(), Value::Null));
}
