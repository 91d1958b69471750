//! `worker-agents logs`: while a ticket runs and afterwards, with a sink and without.

mod fresh;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::world::{WORKER, World, eventually, log_lines, until};

const TOKEN: &str = "a-token-of-this-worker-0123456789";

fn sink(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

fn logs(world: &World, name: &str, options: &[&str], settings: &[(&str, &str)]) -> Output {
    let id = world.ticket_id(name);
    world.command_with(&[&["logs", &id], options].concat(), "", settings)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_a_sink_is_printed_while_the_ticket_runs_and_followed_to_its_end() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("folder");
    let sink = sink(&folder.path().join("logs"));
    let settings = [("EXECUTION_LOG_SINK", sink.as_str())];
    let token = format!("ops={TOKEN}");
    let _worker = world.worker(&[settings[0], ("HTTP_API_TOKEN", &token)]).await;
    let gate = folder.path().join("gate");
    // The result repeats the command, which must not have the token as a whole.
    let (half, other) = TOKEN.split_at(8);
    let script =
        format!(r"printf '\033[31mone\033[0m\n'; echo key {half}''{other}; {}; echo three; printf four", until(&gate));
    world.publish(&world.ticket("runs", &script)).await;
    let running = eventually("its first lines are kept", || {
        let output = logs(&world, "runs", &["--json"], &settings);
        (output.status.code() == Some(0) && output.stdout.iter().filter(|byte| **byte == b'\n').count() == 2)
            .then_some(output)
    })
    .await;
    assert_eq!(log_lines(&running), [(1, "one".to_owned()), (2, "key [redacted]".to_owned())]);

    let followed = folder.path().join("followed");
    let mut follower = Command::new(WORKER)
        .args(["logs", &world.ticket_id("runs"), "-f"])
        .env_clear()
        .envs([("TEMPORAL_ADDRESS", world.temporal.as_str()), settings[0]])
        .current_dir(folder.path())
        .stdout(std::fs::File::create(&followed).expect("file"))
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the command starts");
    let read = || std::fs::read_to_string(&followed).expect("readable");
    eventually("it prints what is there", || read().contains("stdout one").then_some(())).await;
    assert!(follower.try_wait().expect("a child").is_none(), "it follows");
    std::fs::write(&gate, "").expect("written");
    let status = eventually("it ends with the ticket", || follower.try_wait().expect("a child")).await;
    assert_eq!(status.code(), Some(0));
    let texts: Vec<String> =
        read().lines().map(|line| line.splitn(3, ' ').last().expect("a text").to_owned()).collect();
    assert_eq!(texts, ["one", "key [redacted]", "three", "four"]);

    let result = world.result("runs").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!(metadata["log_lines"], "4", "{result}");
    let address = metadata["log"].as_str().expect("an address");
    assert!(address.starts_with("file://") && address.ends_with(".1.jsonl"), "{address}");
    assert!(!result.to_string().contains(TOKEN), "{result}");
    assert!(result["result"]["output"]["stdout"].as_str().expect("text").contains("key [redacted]"), "{result}");
    let all = logs(&world, "runs", &["--attempt", "1"], &settings);
    assert!(printed(&all).ends_with(" stdout four\n"), "{all:?}");
    // From a machine that does not see the file.
    let elsewhere = logs(&world, "runs", &["--follow"], &[]);
    assert!(printed(&elsewhere).ends_with("stdout three\nstdout four\n"), "{elsewhere:?}");
    assert!(said(&elsewhere).contains(address), "{}", said(&elsewhere));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sink_the_last_lines_are_in_the_heartbeat_and_both_ends_in_the_result() {
    let world = World::new().await;
    let _worker = world.worker(&[]).await;
    let gate = world.shared("gates/gate");
    let script = format!("for i in 1 2 3 4 5 6 7; do echo line $i; done; {}; echo last >&2", until(&gate));
    world.publish(&world.ticket_in("gates", "runs", &script)).await;
    let output = eventually("a heartbeat tells", || {
        let output = logs(&world, "runs", &[], &[]);
        (output.status.code() == Some(0)).then_some(output)
    })
    .await;
    let text = printed(&output);
    assert!(text.starts_with("[… 2 lines that are not kept here …]\n"), "{text}");
    assert!(text.contains(" stdout line 3\n") && text.ends_with(" stdout line 7\n"), "{text}");
    std::fs::write(&gate, "").expect("written");
    let result = world.result("runs").await;
    assert_eq!(result["result"]["metadata"].get("log"), None, "{result}");

    let ended = logs(&world, "runs", &["-f"], &[]);
    assert!(printed(&ended).ends_with("stdout line 7\nstderr last\n"), "{ended:?}");
    let json = logs(&world, "runs", &["--json", "--attempt", "1"], &[]);
    assert_eq!(log_lines(&json).len(), 8);
    for (options, code, expected) in [
        (&["--attempt", "2"][..], 1, "attempt 2"),
        (&["--run", "a7f1c7b4-0000-4000-8000-000000000000"], 1, "no run a7f1c7b4"),
        (&["--run", "nonsense"], 2, "--run"),
        (&["--attempt", "0"], 2, "--attempt"),
    ] {
        let output = logs(&world, "runs", options, &[]);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{options:?}: {}", said(&output));
    }
    let unknown = logs(&world, "nobody", &[], &[]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown).contains("worker-agents dlq list"), "{}", said(&unknown));
    assert_eq!(world.command(&["logs", "no id"], "").status.code(), Some(2));
    let away = logs(&world, "runs", &[], &[("TEMPORAL_ADDRESS", "127.0.0.1:1")]);
    assert_eq!(away.status.code(), Some(3), "{}", said(&away));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_run_again_after_a_lost_worker_goes_on_in_the_same_log() {
    let (world, _folder) = World::new().await.keeping_logs();
    let mut worker = world.worker(&[]).await;
    let gate = world.shared("gates/gate");
    world.publish(&world.ticket_in("gates", "lost", &format!("echo begun; {}", until(&gate)))).await;
    eventually("it runs", || {
        let output = logs(&world, "lost", &[], &[]);
        (output.status.code() == Some(0) && printed(&output).contains("begun")).then_some(())
    })
    .await;
    worker.kill_9();
    std::fs::write(&gate, "").expect("written");
    let _next = world.worker(&[]).await;
    let result = world.result("lost").await;
    assert_eq!(result["result"]["metadata"]["log_lines"], "3", "{result}");
    let lines = log_lines(&logs(&world, "lost", &["--json"], &[]));
    assert_eq!(lines.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3], "{lines:?}");
    assert!(lines[1].1.contains("a worker was lost"), "{lines:?}");
    assert_eq!((lines[0].1.as_str(), lines[2].1.as_str()), ("begun", "begun"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_worker_has_not_gone_on_with_is_not_taken_for_the_log() {
    let world = World::new().await;
    let folders = [tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder")];
    let sinks = folders.each_ref().map(|folder| sink(folder.path()));
    let [first, second] = sinks.each_ref().map(|sink| [("EXECUTION_LOG_SINK", sink.as_str())]);
    let mut worker = world.worker(&first).await;
    let gate = world.shared("gates/gate");
    world.publish(&world.ticket_in("gates", "lost", &format!("echo begun; {}; echo done", until(&gate)))).await;
    eventually("a heartbeat tells", || {
        let output = logs(&world, "lost", &[], &[]);
        (output.status.code() == Some(0) && printed(&output).contains("begun")).then_some(())
    })
    .await;
    worker.kill_9();
    let _next = world.worker(&second).await;
    let running = eventually("what runs now is printed", || {
        let output = logs(&world, "lost", &["--json"], &first);
        (log_lines(&output).last() == Some(&(3, "begun".to_owned()))).then_some(output)
    })
    .await;
    assert_eq!(log_lines(&running)[0], (1, "begun".to_owned()), "what is in the file");
    assert!(log_lines(&running)[1].1.contains("another run"), "what the heartbeat tells: {running:?}");
    assert!(said(&running).contains("is not kept as a whole"), "{}", said(&running));
    std::fs::write(&gate, "").expect("written");
    let result = world.result("lost").await;
    assert!(
        result["result"]["metadata"]["log_error"].as_str().is_some_and(|it| it.contains("1 of the lines")),
        "{result}"
    );
    for options in [&[][..], &["-f"]] {
        let ended = logs(&world, "lost", options, &first);
        assert_eq!(ended.status.code(), Some(1), "{options:?}: {ended:?}");
        assert!(said(&ended).contains("is not here as a whole"), "{options:?}: {}", said(&ended));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_be_written_costs_no_ticket_and_the_result_says_so() {
    let world = World::new().await;
    let _worker = world.worker(&[("EXECUTION_LOG_SINK", "file:///dev/null/logs")]).await;
    world.publish(&world.ticket("works", "echo done")).await;
    let result = world.result("works").await;
    assert_eq!((&result["status"], &result["result"]["output"]["stdout"]), (&json!("COMPLETED"), &json!("done\n")));
    let metadata = &result["result"]["metadata"];
    assert!(metadata["log_error"].as_str().is_some_and(|error| error.contains("/dev/null/logs")), "{result}");
    assert_eq!(metadata.get("log"), None, "{result}");
}
