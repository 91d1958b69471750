//! A container's life: it runs, outlives its worker, is found again, stopped, and removed.

use std::time::Duration;

use serde_json::json;

use crate::lane::{engine, removed, running, ticket, world};
use crate::world::{World, eventually, log_lines, size, verdict};

/// What `worker-agents logs` prints of a ticket; nothing before there is a log.
fn printed(world: &World, name: &str) -> Vec<(u64, String)> {
    let output = world.command(&["logs", &world.ticket_id(name), "--json"], "");
    if output.status.success() { log_lines(&output) } else { Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn the_contracts_ticket_runs_with_the_contracts_outputs() {
    let world = world().await;
    let worker = world.worker(&[]).await;
    let sample = include_str!("../../schemas/tests/samples/tickets/execute-docker.json");
    world.publish_avro(&world.sample("sample", sample)).await;
    let result = world.result("sample").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    assert_eq!(output["stdout"], "production in /srv/app\n");
    assert_eq!((&output["stderr"], &output["exit_code"]), (&json!(""), &json!("0")), "{output}");
    assert_eq!(output["container_id"].as_str().map(str::len), Some(12), "{output}");
    assert_eq!((&metadata["runtime"], &metadata["executor"]), (&json!("docker"), &json!("ExecuteExecutor")));
    assert_eq!((&metadata["image_pulled"], &metadata["simulated"]), (&json!("false"), &json!("false")), "{metadata}");
    removed(&world, "sample").await;
    for series in [
        r#"worker_agent_docker_executions_total{status="success"}"#,
        r#"worker_agent_execute_tasks_executed_total{status="success"}"#,
        r#"worker_agent_docker_execution_duration_seconds_count{stage="total"}"#,
        r#"worker_agent_execute_duration_seconds_count{runtime="docker"}"#,
        r#"worker_agent_docker_api_calls_total{method="create",status="success"}"#,
    ] {
        worker.reaches(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn inc_44_a_killed_workers_container_is_found_again_and_created_once() {
    let world = world().await;
    let mut worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "killed", "echo begun; sleep 8; echo done")).await;
    let container = running(&world, "killed").await;
    worker.kill_9();
    assert_eq!(engine().containers(&world.ticket_id("killed"), false), std::slice::from_ref(&container), "it goes on");
    let _next = world.worker(&[]).await;
    let result = world.result("killed").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    assert_eq!(result["result"]["output"]["stdout"], "begun\ndone\n");
    assert_eq!(result["result"]["output"]["container_id"], container[..12]);
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1");
    assert_eq!(result["result"]["metadata"].get("external_state"), None, "nothing is in doubt");
    let id = world.ticket_id("killed");
    assert_eq!((engine().events(&id, "create"), engine().events(&id, "start")), (1, 1));
    removed(&world, "killed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn a_graceful_restart_stops_nothing_and_finishes_the_same_container() {
    let world = world().await;
    let worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "drained", "echo begun; sleep 8; echo done")).await;
    let container = running(&world, "drained").await;
    worker.end_gracefully().await;
    assert_eq!(engine().containers(&world.ticket_id("drained"), false), std::slice::from_ref(&container), "it goes on");
    assert!(world.results().is_empty(), "nothing is reported for work that was handed back");
    let _next = world.worker(&[]).await;
    let result = world.result("drained").await;
    assert_eq!(result["result"]["output"]["stdout"], "begun\ndone\n", "{result}");
    assert_eq!(result["result"]["output"]["container_id"], container[..12]);
    let id = world.ticket_id("drained");
    assert_eq!((engine().events(&id, "create"), engine().events(&id, "kill")), (1, 0));
    removed(&world, "drained").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn a_cancel_stops_the_container_and_says_so() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "cancelled", "echo begun; sleep 600")).await;
    running(&world, "cancelled").await;
    world.cancel("cancelled");
    let result = world.result("cancelled").await;
    assert_eq!(verdict(&result), ("FAILED", "cancelled", "confirmed_stopped"), "{result}");
    assert_eq!(result["result"]["output"]["stdout"], "begun\n");
    assert!(engine().containers(&world.ticket_id("cancelled"), false).is_empty());
    removed(&world, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn a_deadline_and_a_time_out_stop_the_container_and_say_so() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let mut late = ticket(&world, "late", "echo begun; sleep 600");
    late["sla"]["deadline"] = json!(ticket_activities::now_ms() + 8_000);
    let mut slow = ticket(&world, "slow", "echo begun; sleep 600");
    slow["parameters"]["timeout_seconds"] = json!(3);
    world.publish(&late).await;
    world.publish(&slow).await;
    for (name, code) in [("slow", "timeout"), ("late", "deadline_exceeded")] {
        let result = world.result(name).await;
        let (status, error, state) = verdict(&result);
        assert_eq!((status, state), ("FAILED", "confirmed_stopped"), "{name}: {result}");
        assert!(error == code || error == "timeout", "{name}: {error}");
        assert!(engine().containers(&world.ticket_id(name), false).is_empty(), "{name}");
        removed(&world, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn containers_of_tickets_that_ended_without_their_worker_are_swept() {
    let world = world().await;
    let mut worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "left", "sleep 600")).await;
    running(&world, "left").await;
    worker.kill_9();
    world.operator_of("left", &["workflow", "terminate"]);
    assert_eq!(engine().containers(&world.ticket_id("left"), false).len(), 1);
    let _next = world.worker(&[]).await;
    removed(&world, "left").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn containers_are_kept_when_a_setting_says_so() {
    let world = world().await;
    let _worker = world.worker(&[("DOCKER_CLEANUP_CONTAINERS", "false")]).await;
    world.publish(&ticket(&world, "kept", "echo kept")).await;
    let result = world.result("kept").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    // Some sweeps.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let kept = engine().containers(&world.ticket_id("kept"), true);
    assert_eq!(kept.len(), 1);
    engine().cli(&["rm", &kept[0]]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn what_a_container_writes_is_followed_and_each_line_is_kept_once_over_a_lost_worker() {
    let (world, _folder) = world().await.keeping_logs();
    let mut worker = world.worker(&[]).await;
    let script = "echo one; echo two >&2; sleep 8; printf 'half '; sleep 1; echo of three; echo four >&2; printf five";
    world.publish(&ticket(&world, "logged", script)).await;
    eventually("it is followed", || (printed(&world, "logged").len() == 2).then_some(())).await;
    worker.kill_9();
    let _next = world.worker(&[]).await;
    let result = world.result("logged").await;
    assert_eq!(result["result"]["output"]["stdout"], "one\nhalf of three\nfive", "{result}");
    assert_eq!(result["result"]["metadata"]["log_lines"], "5", "{result}");
    let lines = printed(&world, "logged");
    assert!((1..=5).zip(&lines).all(|(seq, (found, _))| *found == seq) && lines.len() == 5, "{lines:?}");
    let mut texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["five", "four", "half of three", "one", "two"]);
    removed(&world, "logged").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn a_long_log_arrives_whole() {
    let lines = size("LOG_LINES", 150_000);
    let (world, _folder) = world().await.keeping_logs();
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "long", &format!("seq 1 {lines}"))).await;
    let long = world.result("long").await;
    assert_eq!(long["status"], "COMPLETED", "{long}");
    let metadata = &long["result"]["metadata"];
    assert_eq!((&metadata["log_lines"], metadata.get("log_error")), (&json!(lines.to_string()), None), "{metadata}");
    let printed = printed(&world, "long");
    assert_eq!(printed.len(), lines);
    assert!((1..).zip(&printed).all(|(line, (seq, text))| *seq == line && *text == line.to_string()));
}
