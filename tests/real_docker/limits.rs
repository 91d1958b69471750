//! What containers are kept from, and what is refused.

use serde_json::json;

use crate::lane::{engine, ticket, world};
use crate::world::verdict;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn inc_74_a_container_has_no_root_no_capability_no_network_and_cannot_write_its_root() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "id -u; grep -e CapEff -e CapBnd -e NoNewPrivs /proc/self/status; ls /sys/class/net; \
                  touch /new 2>&1; touch /tmp/new && echo scratch; ping -c 1 -W 1 1.1.1.1 2>&1 | tail -n 1";
    world.publish(&ticket(&world, "confined", script)).await;
    let result = world.result("confined").await;
    let text = result["result"]["output"]["stdout"].as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "65534", "{text}");
    assert!(text.contains("CapEff:\t0000000000000000") && text.contains("CapBnd:\t0000000000000000"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(lines.contains(&"lo") && !text.contains("eth0"), "{text}");
    assert!(text.contains("/new: Read-only file system"), "{text}");
    assert!(lines.contains(&"scratch"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn inc_74_inc_72_host_network_and_privileges_are_refused_and_nothing_runs() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    for (name, parameter, value, words) in [
        ("host", "network_mode", json!("host"), "DOCKER_ALLOWED_NETWORK_MODES"),
        ("privileged", "privileged", json!(true), "privileged"),
        ("root", "user", json!("0:0"), "root"),
        ("mount", "volumes", json!({ "/": "/host" }), "volumes"),
    ] {
        let mut asks = ticket(&world, name, "echo it ran");
        asks["parameters"][parameter] = value;
        world.publish(&asks).await;
        let result = world.result(name).await;
        assert_eq!(verdict(&result), ("FAILED", "invalid_parameters", ""), "{name}: {result}");
        assert!(result.to_string().contains(words), "{name}: {result}");
        assert_eq!(engine().events(&world.ticket_id(name), "create"), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn volumes_of_the_image_and_shared_memory_are_as_small_as_the_scratch_folder() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "for folder in /data /dev/shm; do \
                  dd if=/dev/zero of=$folder/x bs=1M count=17 2>&1 | grep -o 'No space left'; rm $folder/x; done";
    let mut asks = ticket(&world, "volume", script);
    asks["parameters"]["image"] = json!("busybox:volume");
    asks["parameters"]["memory_limit"] = json!("64m");
    world.publish(&asks).await;
    let result = world.result("volume").await;
    assert_eq!(result["result"]["output"]["stdout"], "No space left\nNo space left\n", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn a_ticket_never_reaches_a_shell_of_ours() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let mut asks = ticket(&world, "words", "");
    asks["parameters"]["command"] = json!("echo $(id) ; touch /tmp/x | cat");
    asks["parameters"]["args"] = json!(["`id`", "&&", "$HOME"]);
    world.publish(&asks).await;
    let result = world.result("words").await;
    assert_eq!(result["result"]["output"]["stdout"], "$(id) ; touch /tmp/x | cat `id` && $HOME\n", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn memory_that_is_over_is_told_from_a_failure() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    // The engine hears of the kernel's kill a moment after that of the end of a very short container.
    world.publish(&ticket(&world, "greedy", "sleep 1; tail /dev/zero")).await;
    world.publish(&ticket(&world, "fails", "echo no >&2; exit 3")).await;
    let greedy = world.result("greedy").await;
    assert_eq!(verdict(&greedy).1, "out_of_memory", "{greedy}");
    let fails = world.result("fails").await;
    assert_eq!(verdict(&fails).1, "execution_failed", "{fails}");
    assert_eq!(fails["result"]["output"]["exit_code"], "3", "{fails}");
    assert!(fails["error_message"].as_str().unwrap_or_default().contains("exit code 3: no"), "{fails}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn inc_54_what_cannot_run_fails_and_says_why() {
    let world = world().await;
    let _worker = world.worker(&[("DOCKER_PULL_POLICY", "never")]).await;
    let mut imageless = ticket(&world, "imageless", "true");
    imageless["parameters"]["image"] = json!("no-such-image:1");
    let mut programless = ticket(&world, "programless", "true");
    programless["parameters"]["command"] = json!("no-such-program");
    world.publish(&imageless).await;
    world.publish(&programless).await;
    let result = world.result("imageless").await;
    assert_eq!(verdict(&result).1, "image_not_available", "{result}");
    let result = world.result("programless").await;
    assert_eq!(verdict(&result).1, "command_not_found", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: make test-docker"]
async fn output_is_kept_to_its_end_and_a_fork_bomb_and_a_full_disk_are_contained() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    world.publish(&ticket(&world, "loud", "seq 1 200000; echo last >&2")).await;
    let bomb = "b() { b | b & b; }; b 2>/dev/null; sleep 1; echo alive";
    world.publish(&ticket(&world, "bomb", bomb)).await;
    world
        .publish(&ticket(&world, "full", "dd if=/dev/zero of=/tmp/x bs=1M count=1000 2>&1 | grep -o 'No space left'"))
        .await;
    let loud = world.result("loud").await;
    let text = loud["result"]["output"]["stdout"].as_str().expect("text");
    assert!(text.starts_with("1\n2\n3\n") && text.ends_with("\n200000\n"), "{}", &text[..80]);
    assert!(text.contains(" bytes cut …]\n"), "both ends, and what is not there between them");
    assert!(text.len() < 70_000, "{}", text.len());
    assert_eq!(loud["result"]["output"]["stderr"], "last\n");
    assert_eq!(loud["result"]["metadata"]["stdout_truncated"], "true");
    // Contained, whatever became of it; the worker has answered for the others meanwhile.
    let bomb = world.result("bomb").await;
    assert!(matches!(bomb["status"].as_str(), Some("COMPLETED" | "FAILED")), "{bomb}");
    let full = world.result("full").await;
    assert_eq!(full["result"]["output"]["stdout"], "No space left\n", "{full}");
}
