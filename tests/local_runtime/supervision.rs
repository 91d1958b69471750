//! Processes and their ends: evidence, output, time-outs, stops, trees that do not want to end. In the sandbox, but where a
//! command must be able to do what the sandbox keeps it from.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use ticket_activities::supervisor::SupervisorCommand;
use ticket_activities::{ExternalState, FailureClass, Outcome, code};

use crate::world::{World, completed, eventually, failed, processes};

#[tokio::test]
async fn a_command_gets_none_of_the_workers_files() {
    // A file that no exec closes, as the pipes and sockets of some libraries are: the supervisor gets it.
    let open = "exec 9</dev/null; exec \"$0\" supervise-process \"$@\"";
    let arguments = ["-c", open, env!("CARGO_BIN_EXE_worker-agents")].map(OsString::from).to_vec();
    let world = World::supervised(SupervisorCommand { program: "/bin/sh".into(), arguments });
    let script = "test -e /proc/$$/fd/9 && echo inherited || echo none";
    let Outcome::Completed(completed) = world.sh(script).await else { panic!("it runs") };
    assert_eq!(completed.report.output["stdout"], "none\n");
}

#[tokio::test]
async fn a_command_that_succeeds_is_completed_with_evidence() {
    let done = completed(World::new().sh("echo out; echo err >&2").await);
    assert_eq!(done.report.output["stdout"], "out\n");
    assert_eq!(done.report.output["stderr"], "err\n");
    assert_eq!(done.report.output["exit_code"], 0);
    assert_eq!(done.report.metadata["simulated"], false);
    assert_eq!(done.evidence.answered(), "exit code 0");
    assert!(done.evidence.ran().starts_with("local process "), "{}", done.evidence);
}

#[tokio::test]
async fn a_failing_command_is_a_permanent_failure_with_its_output() {
    let failed = failed(World::new().sh("echo before; echo 'it broke' >&2; exit 3").await);
    assert_eq!(
        (failed.code.as_str(), failed.class),
        (code::EXECUTION_FAILED, ticket_activities::FailureClass::Permanent)
    );
    assert_eq!(failed.message, "the command ended with exit code 3: it broke");
    assert_eq!(failed.report.output["exit_code"], 3);
    assert_eq!(failed.report.output["stdout"], "before\n");
}

#[tokio::test]
async fn a_command_ended_by_a_signal_says_so() {
    let failed = failed(World::new().sh("kill -9 $$").await);
    assert_eq!(failed.report.output["exit_code"], 137);
    assert!(failed.message.contains("signal 9"), "{}", failed.message);
}

#[tokio::test]
async fn inc_54_a_time_out_fails_keeps_its_output_and_stops_the_whole_tree() {
    let marker = "31.41592653";
    let world = World { time_left: Duration::from_millis(700), ..World::new() };
    let failed = failed(world.sh(&format!("echo started; (sleep {marker} & sleep {marker}); wait")).await);
    assert_eq!(failed.code, code::TIMEOUT);
    assert_eq!(failed.report.output["stdout"], "started\n");
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped));
    assert_eq!(processes(marker), Vec::<i32>::new());
}

#[tokio::test]
async fn timeout_seconds_bounds_the_command_too() {
    let world = World::new();
    let started = Instant::now();
    let outcome = world.run(json!({ "command": "sh", "args": ["-c", "sleep 60"], "timeout_seconds": "0.5" })).await;
    assert_eq!(failed(outcome).code, code::TIMEOUT);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_tree_that_ignores_term_and_leaves_its_session_is_killed() {
    let marker = "27.18281828";
    let world = World { time_left: Duration::from_millis(700), ..World::new() };
    let script = format!(
        "trap '' TERM; setsid sh -c \"trap '' TERM; sleep {marker}; sleep {marker}\" & sleep {marker}; sleep {marker}"
    );
    let failed = failed(world.sh(&script).await);
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped));
    assert_eq!(processes(marker), Vec::<i32>::new());
}

#[tokio::test]
async fn a_daemon_that_a_command_leaves_behind_is_ended_and_told() {
    let marker = "14.14213562";
    let world = World::new();
    let started = Instant::now();
    let done = completed(world.sh(&format!("setsid sleep {marker} & echo left")).await);
    assert_eq!(done.report.output["stdout"], "left\n");
    assert!(started.elapsed() < Duration::from_secs(10), "the daemon held the output open");
    assert_eq!(processes(marker), Vec::<i32>::new());
    assert!(done.report.logs.iter().any(|line| line.contains("left behind")), "{:?}", done.report.logs);
}

#[tokio::test]
async fn a_stop_ends_the_tree_and_confirms_it() {
    let marker = "17.32050807";
    let world = World::new();
    let stop = world.stop.clone();
    let script = format!("sleep {marker}");
    let (outcome, ()) = tokio::join!(world.sh(&script), async {
        eventually("the command runs", || !processes(marker).is_empty()).await;
        stop.cancel();
    });
    let failed = failed(outcome);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::CANCELLED, Some(ExternalState::ConfirmedStopped)));
    assert_eq!(processes(marker), Vec::<i32>::new());
}

#[tokio::test]
async fn a_command_that_kills_its_supervisor_does_not_get_away() {
    let marker = "22.36067977";
    let world = World::unconfined();
    // At once, when nobody knows of the command yet, and later; with a child in a session of its own, and without.
    for script in ["kill -9 $PPID", "sleep 0.05; kill -9 $PPID", "setsid sleep 22.36067977 & sleep 0.1; kill -9 $PPID"]
    {
        for _ in 0..5 {
            let failed = failed(world.sh(&format!("{script}; sleep {marker}")).await);
            let found = (failed.code.as_str(), failed.class, failed.external_state);
            let expected = (code::INFRASTRUCTURE, FailureClass::Retry { after_ms: None }, Some(ExternalState::Unknown));
            assert_eq!(found, expected, "{script}");
            // Killed, and on a busy machine not gone yet: the outcome promises no more.
            eventually(&format!("the end of {script:?}"), || processes(marker).is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_supervisor_that_is_told_to_end_by_somebody_else_ends_the_tree_and_says_so() {
    let marker = "37.41657387";
    for signal in ["TERM", "INT", "HUP"] {
        let script = format!("trap '' TERM; sleep 0.1; kill -{signal} $PPID; sleep {marker}");
        let failed = failed(World::unconfined().sh(&script).await);
        let found = (failed.code.as_str(), failed.class, failed.external_state);
        let expected =
            (code::INFRASTRUCTURE, FailureClass::Retry { after_ms: None }, Some(ExternalState::ConfirmedStopped));
        assert_eq!(found, expected, "{signal}: {}", failed.message);
        assert_eq!(processes(marker), Vec::<i32>::new(), "{signal}");
    }
}

#[tokio::test]
async fn the_tree_ends_when_the_worker_is_killed() {
    let marker = "26.45751311";
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
    let mut child = Command::new(env!("CARGO_BIN_EXE_worker-agents"))
        .args(["supervise-process", "--grace-ms", "60000", "--", "/bin/sh", "-c"])
        .arg(format!("trap '' TERM; sleep {marker}; sleep {marker}"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .expect("supervisor");
    eventually("the command runs", || processes(marker).len() >= 2).await;
    // What the kernel does to the worker's end when the worker is killed.
    drop(ours);
    eventually("the tree is gone, well before a grace of a minute", || processes(marker).is_empty()).await;
    child.wait().expect("collected");
}

#[tokio::test]
async fn long_output_keeps_both_ends_and_bytes_that_are_not_utf8_are_marked() {
    let world = World::new();
    let done = completed(world.sh("head -c 5000000 /dev/zero | tr '\\0' x; echo the end").await);
    let stdout = done.report.output["stdout"].as_str().expect("text");
    assert!(stdout.starts_with(&format!("{}\n[… 4990008 bytes cut …]\nx", "x".repeat(2500))), "{stdout}");
    assert!(stdout.ends_with("xthe end\n"));
    assert_eq!(done.report.metadata["stdout_truncated"], true);
    assert_eq!(done.report.metadata["stdout_bytes"], 5_000_008);
    let done = completed(world.sh("printf 'a\\377b'").await);
    assert_eq!(done.report.output["stdout"], "a\u{FFFD}b");
    assert_eq!(done.report.metadata["stdout_utf8"], false);
}

#[tokio::test]
async fn inc_75_a_command_sees_nothing_of_the_workers_environment() {
    let done = completed(World::new().run(json!({ "command": "env", "env_vars": { "DEBUG": "true" } })).await);
    let stdout = done.report.output["stdout"].as_str().expect("text");
    let mut names: Vec<&str> = stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["DEBUG", "HOME", "LANG", "LC_ALL", "PATH", "TMPDIR"], "{stdout}");
}

#[tokio::test]
async fn inc_75_no_shell_no_path_no_way_out() {
    let world = World::new();
    std::fs::create_dir(world.path("outside")).expect("folder");
    for (parameters, expected) in [
        (json!({ "command": "rm" }), code::COMMAND_NOT_ALLOWED),
        (json!({ "command": "/tmp/sh" }), code::COMMAND_NOT_ALLOWED),
        (json!({ "command": "sh -c 'echo x'" }), code::COMMAND_NOT_ALLOWED),
        (json!({ "command": "no-such-program" }), code::COMMAND_NOT_FOUND),
        (json!({ "command": "sh", "shell": true }), code::INVALID_PARAMETERS),
        (json!({ "command": "true", "working_dir": "../outside" }), code::INVALID_PARAMETERS),
        (json!({ "command": "true", "working_dir": world.path("outside") }), code::INVALID_PARAMETERS),
        (json!({ "command": "true", "env_vars": { "LD_PRELOAD": "/tmp/x.so" } }), code::INVALID_PARAMETERS),
        (json!({ "command": "true", "timeout_seconds": 0 }), code::INVALID_PARAMETERS),
        (json!({}), code::INVALID_PARAMETERS),
    ] {
        assert_eq!(failed(world.run(parameters.clone()).await).code, expected, "{parameters}");
    }
}

#[tokio::test]
async fn shell_metacharacters_are_arguments() {
    let done = completed(
        World::new()
            .run(json!({ "command": "sh", "args": ["-c", "printf '%s|' \"$@\"", "x", "$(id)", "; ls", "`id`", "a b"] }))
            .await,
    );
    assert_eq!(done.report.output["stdout"], "$(id)|; ls|`id`|a b|");
}

#[tokio::test]
async fn a_ticket_works_in_a_folder_of_its_own_that_is_gone_afterwards() {
    let world = World::new();
    let done = completed(world.sh("pwd; echo x > file; ls").await);
    let folder = done.report.output["stdout"].as_str().and_then(|text| text.lines().next()).expect("folder").to_owned();
    assert!(folder.contains("ticket-t-1"), "{folder}");
    assert!(!Path::new(&folder).exists());
    let kept = completed(
        world.run(json!({ "command": "sh", "args": ["-c", "echo x > kept"], "working_dir": "shared" })).await,
    );
    assert_eq!(kept.report.output["exit_code"], 0);
    assert!(world.path("root/shared/kept").is_file());
}

#[tokio::test]
async fn standard_input_is_empty() {
    let done = completed(World::new().run(json!({ "command": "cat" })).await);
    assert_eq!(done.report.output["stdout"], "");
}
