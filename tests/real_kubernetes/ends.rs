//! How pods end, as only a kubelet tells it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::lane::{NAMESPACE, cluster, running, ticket, world};
use crate::world::verdict;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn memory_that_is_over_is_told_from_a_failure_and_from_a_killed_child() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "greedy", "exec tail /dev/zero")).await;
    // Its child is ended for too much memory; the command itself goes on and ends well.
    world.publish(&ticket(&world, "survivor", "tail /dev/zero; echo went on")).await;
    world.publish(&ticket(&world, "fails", "echo no >&2; exit 3")).await;
    let greedy = world.result("greedy").await;
    assert_eq!(verdict(&greedy).1, "out_of_memory", "{greedy}");
    let survivor = world.result("survivor").await;
    assert_eq!(survivor["status"], "COMPLETED", "{survivor}");
    let fails = world.result("fails").await;
    assert_eq!(verdict(&fails).1, "execution_failed", "{fails}");
    assert_eq!(fails["result"]["output"]["exit_code"], "3", "{fails}");
    assert!(fails["error_message"].as_str().unwrap_or_default().contains("exit code 3: no"), "{fails}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn inc_54_what_cannot_run_fails_within_seconds_and_says_why() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    for (name, parameter, value, code) in [
        ("imageless", "image", json!("localhost/no-such-image:1"), "image_not_available"),
        ("programless", "command", json!("no-such-program"), "command_not_found"),
    ] {
        let mut asks = ticket(&world, name, "true");
        asks["parameters"][parameter] = value;
        let begun = Instant::now();
        world.publish(&asks).await;
        let result = world.result(name).await;
        assert_eq!((verdict(&result).0, verdict(&result).1), ("FAILED", code), "{name}: {result}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_scratch_folder_that_overflows_is_the_commands_fault() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "full", "dd if=/dev/zero of=/tmp/x bs=1M count=20 2>/dev/null; sleep 90")).await;
    let result = world.result("full").await;
    assert_eq!(verdict(&result).1, "limit_exceeded", "{result}");
    assert!(result["error_message"].as_str().unwrap_or_default().contains("K8S_JOBS_SCRATCH_SIZE"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn an_eviction_is_the_clusters_and_a_deleted_job_has_vanished() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "evicted", "sleep 600")).await;
    let pod = running(&world, "evicted").await;
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
    cluster().ask("POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"), Some(&eviction));
    let result = world.result("evicted").await;
    assert_eq!(verdict(&result), ("FAILED", "infrastructure", "confirmed_stopped"), "{result}");
    assert!(result["error_message"].as_str().unwrap_or_default().contains("EvictionByEvictionAPI"), "{result}");

    world.publish(&ticket(&world, "deleted", "echo begun; sleep 600")).await;
    running(&world, "deleted").await;
    // For its first line to be followed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let jobs = cluster().jobs(&world.ticket_id("deleted"));
    let job = jobs[0]["metadata"]["name"].as_str().expect("a name");
    cluster().ask("DELETE", &format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{job}"), None);
    let result = world.result("deleted").await;
    assert_eq!(verdict(&result), ("FAILED", "work_vanished", "unknown"), "{result}");
    assert_eq!(result["result"]["output"]["stdout"], "begun\n", "its pod and its log are gone: {result}");
    assert_eq!(cluster().changes(&world.ticket_id("deleted"), "create"), 1, "not created again within the attempt");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_job_that_the_cluster_ends_at_its_deadline_keeps_its_words_and_is_not_judged_by_its_exit_code() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "trap 'echo told to end; exit 0' TERM; echo begun; while :; do sleep 0.1; done";
    world.publish(&ticket(&world, "overdue", script)).await;
    running(&world, "overdue").await;
    let jobs = cluster().jobs(&world.ticket_id("overdue"));
    let job = jobs[0]["metadata"]["name"].as_str().expect("a name");
    let soon = json!({ "spec": { "activeDeadlineSeconds": 1 } });
    cluster().ask("PATCH", &format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{job}"), Some(&soon));
    let result = world.result("overdue").await;
    assert_eq!(verdict(&result), ("FAILED", "timeout", "confirmed_stopped"), "{result}");
    // The pod, and its log with it, is gone by then.
    assert_eq!(result["result"]["output"]["stdout"], "begun\ntold to end\n", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_command_that_answers_its_eviction_with_0_has_not_done_its_work() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done";
    world.publish(&ticket(&world, "obliging", script)).await;
    let pod = running(&world, "obliging").await;
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
    cluster().ask("POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"), Some(&eviction));
    let result = world.result("obliging").await;
    assert_eq!(verdict(&result), ("FAILED", "infrastructure", "confirmed_stopped"), "{result}");
}
