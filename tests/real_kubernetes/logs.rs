//! What pods write, as a kubelet gives it: rotated, cut into pieces, and gone with its pod.

use serde_json::json;

use crate::lane::{removed, ticket, world};
use crate::world::{World, eventually, log_lines, size};

/// What `worker-agents logs` prints of a ticket; nothing before there is a log.
fn printed(world: &World, name: &str) -> Vec<(u64, String)> {
    let output = world.command(&["logs", &world.ticket_id(name), "--json"], "");
    if output.status.success() { log_lines(&output) } else { Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_long_log_arrives_whole() {
    // 600000 is more than two files of 10 MiB, as the runtime writes it: the kubelet rotates it. Whoever reads slower than two
    // rotations misses lines: that takes a release build, or a quick machine.
    let lines = size("LOG_LINES", 150_000);
    let (world, _folder) = world().await.keeping_logs();
    let _worker = world.worker(&[]).await;
    // A log can be read once the kubelet has seen that its container runs, a second after it does, and may have been rotated by then:
    // 600000 lines are written within two. And on a busy machine the runtime itself drops what is in the pipe of a command that
    // ends at once: its log then ends at a multiple of 4096 bytes of text.
    let first = if lines > 150_000 { "sleep 3" } else { "true" };
    world.publish(&ticket(&world, "loud", &format!("{first}; seq 1 {lines}; sleep 5"))).await;
    let loud = world.result("loud").await;
    assert_eq!(loud["status"], "COMPLETED", "{loud}");
    let metadata = &loud["result"]["metadata"];
    let whole: usize = (1..=lines).map(|line| line.to_string().len() + 1).sum();
    assert_eq!(metadata["stdout_bytes"], json!(whole.to_string()), "{metadata}");
    assert_eq!((metadata.get("stdout_incomplete"), metadata.get("log_error")), (None, None), "{metadata}");
    let text = loud["result"]["output"]["stdout"].as_str().expect("text");
    assert!(
        text.starts_with("1\n2\n") && text.ends_with(&format!("\n{lines}\n")) && text.len() < 70_000,
        "{}",
        &text[..80]
    );
    assert_eq!(metadata["log_lines"], json!(lines.to_string()), "{metadata}");
    let printed = printed(&world, "loud");
    assert_eq!(printed.len(), lines);
    assert!((1..).zip(&printed).all(|(line, (seq, text))| *seq == line && *text == line.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn what_a_pod_writes_is_followed_and_each_line_is_kept_once_over_a_lost_worker() {
    let (world, _folder) = world().await.keeping_logs();
    let mut worker = world.worker(&[]).await;
    // The two streams have a pipe each, and the node keeps no order between them.
    let script = "echo one; sleep 1; echo two >&2; sleep 8; printf 'half '; sleep 1; echo of three; printf four";
    world.publish(&ticket(&world, "logged", script)).await;
    eventually("it is followed", || (printed(&world, "logged").len() == 2).then_some(())).await;
    worker.kill_9();
    let _next = world.worker(&[]).await;
    let result = world.result("logged").await;
    assert_eq!(result["result"]["output"]["stdout"], "one\ntwo\nhalf of three\nfour", "{result}");
    let metadata = &result["result"]["metadata"];
    assert_eq!((&metadata["log_lines"], metadata.get("log_error")), (&json!("4"), None), "{metadata}");
    let expected = ["one", "two", "half of three", "four"];
    let expected: Vec<_> = (1..).zip(expected).map(|(seq, text)| (seq, text.to_owned())).collect();
    assert_eq!(printed(&world, "logged"), expected);
    removed(&world, "logged").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn lines_that_the_runtime_cuts_into_pieces_arrive_whole() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    // Longer than the 16 KiB of a piece, over some seconds.
    let script = "for i in 1 2 3; do head -c 20000 /dev/zero | tr '\\0' x; sleep 1; echo; done";
    world.publish(&ticket(&world, "wide", script)).await;
    let result = world.result("wide").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    assert_eq!(result["result"]["metadata"]["stdout_bytes"], json!("60003"), "{result}");
}
