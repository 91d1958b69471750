//! A Job's life: it runs, outlives its worker, is found again, stopped, and removed.

use std::time::Duration;

use serde_json::json;

use crate::lane::{cluster, removed, running, runs, ticket, world};
use crate::world::verdict;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn inc_85_the_contracts_ticket_runs_with_the_contracts_outputs() {
    let world = world().await;
    let worker = world.worker(&[]).await;
    let sample = include_str!("../../schemas/tests/samples/tickets/execute-k8s.json");
    world.publish_avro(&world.sample("sample", sample)).await;
    let result = world.result("sample").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    assert_eq!(output["stdout"], "hello\n");
    assert_eq!((&output["stderr"], &output["exit_code"]), (&json!(""), &json!("0")), "{output}");
    let job = output["job_name"].as_str().expect("a name");
    assert!(output["pod_name"].as_str().is_some_and(|pod| pod.starts_with(&job[..50])), "{output}");
    assert_eq!((&metadata["runtime"], &metadata["executor"]), (&json!("k8s"), &json!("ExecuteExecutor")));
    assert_eq!(metadata["simulated"], json!("false"), "{metadata}");
    removed(&world, "sample").await;
    for series in [
        r#"worker_agent_k8s_jobs_executed_total{status="succeeded"}"#,
        r#"worker_agent_execute_tasks_executed_total{status="success"}"#,
        r#"worker_agent_k8s_job_duration_seconds_count{stage="total"}"#,
        r#"worker_agent_execute_duration_seconds_count{runtime="k8s"}"#,
        r#"worker_agent_k8s_api_calls_total{method="create",status="success"}"#,
    ] {
        worker.reaches(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn inc_44_a_killed_workers_job_is_found_again_and_created_once() {
    let world = world().await;
    let mut worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "killed", "echo begun; sleep 8; echo done")).await;
    let pod = running(&world, "killed").await;
    worker.kill_9();
    assert!(runs(&world, "killed"), "it goes on");
    let _next = world.worker(&[]).await;
    let result = world.result("killed").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    assert_eq!(result["result"]["output"]["stdout"], "begun\ndone\n");
    assert_eq!(result["result"]["output"]["pod_name"], json!(pod));
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1");
    assert_eq!(result["result"]["metadata"].get("external_state"), None, "nothing is in doubt");
    assert_eq!(cluster().changes(&world.ticket_id("killed"), "create"), 1);
    removed(&world, "killed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_graceful_restart_stops_nothing_and_finishes_the_same_job() {
    let world = world().await;
    let worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "drained", "echo begun; sleep 8; echo done")).await;
    let pod = running(&world, "drained").await;
    worker.end_gracefully().await;
    assert!(runs(&world, "drained"), "it goes on");
    assert!(world.results().is_empty(), "nothing is reported for work that was handed back");
    let _next = world.worker(&[]).await;
    let result = world.result("drained").await;
    assert_eq!(result["result"]["output"]["stdout"], "begun\ndone\n", "{result}");
    assert_eq!(result["result"]["output"]["pod_name"], json!(pod));
    let id = world.ticket_id("drained");
    assert_eq!((cluster().changes(&id, "create"), cluster().changes(&id, "patch")), (1, 0));
    removed(&world, "drained").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_cancel_stops_the_job_keeps_its_last_words_and_says_so() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "trap 'echo told to end; exit 7' TERM; echo begun; while :; do sleep 0.1; done";
    world.publish(&ticket(&world, "cancelled", script)).await;
    running(&world, "cancelled").await;
    world.cancel("cancelled");
    let result = world.result("cancelled").await;
    assert_eq!(verdict(&result), ("FAILED", "cancelled", "confirmed_stopped"), "{result}");
    // The pod, and its log with it, is gone by then.
    assert_eq!(result["result"]["output"]["stdout"], "begun\ntold to end\n", "{result}");
    assert_eq!(result["result"]["metadata"].get("stdout_incomplete"), None, "{result}");
    assert_eq!(cluster().changes(&world.ticket_id("cancelled"), "patch"), 1, "one suspension");
    assert!(!runs(&world, "cancelled"));
    removed(&world, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_deadline_and_a_time_out_stop_the_job_and_say_so() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let mut late = ticket(&world, "late", "echo begun; sleep 600");
    late["sla"]["deadline"] = json!(ticket_activities::now_ms() + 10_000);
    let mut slow = ticket(&world, "slow", "echo begun; sleep 600");
    slow["parameters"]["timeout_seconds"] = json!(4);
    world.publish(&late).await;
    world.publish(&slow).await;
    for (name, code) in [("slow", "timeout"), ("late", "deadline_exceeded")] {
        let result = world.result(name).await;
        assert_eq!(verdict(&result), ("FAILED", code, "confirmed_stopped"), "{name}: {result}");
        assert!(!runs(&world, name), "{name}");
        removed(&world, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn jobs_of_tickets_that_ended_without_their_worker_are_swept_with_their_pods() {
    let world = world().await;
    let mut worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "left", "sleep 600")).await;
    running(&world, "left").await;
    worker.kill_9();
    world.operator_of("left", &["workflow", "terminate"]);
    assert!(runs(&world, "left"));
    let _next = world.worker(&[]).await;
    removed(&world, "left").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn jobs_are_kept_when_a_setting_says_so() {
    let world = world().await;
    let _worker = world.worker(&[("K8S_JOBS_CLEANUP", "false")]).await;
    world.publish(&ticket(&world, "kept", "echo kept")).await;
    let result = world.result("kept").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    // Some sweeps.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let kept = cluster().jobs(&world.ticket_id("kept"));
    assert_eq!(kept.len(), 1);
    let name = kept[0]["metadata"]["name"].as_str().expect("a name");
    cluster().ask("DELETE", &format!("/apis/batch/v1/namespaces/jobs/jobs/{name}"), None);
}
