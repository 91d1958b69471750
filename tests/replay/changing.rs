//! The example of docs/changing-the-workflow.md: which history replays on which version of the code.

use crate::gate::{Code, code, verdict};
use crate::history::Recording;
use crate::parcel::{deprecated, old, patched, plain};

async fn replays(code: Code, file: &str) -> Result<(), String> {
    verdict(code, &Recording::read(file)).await.map_or(Ok(()), Err)
}

/// Where the old code started the timer, other code weighs.
fn named(red: &str) {
    let lines: Vec<&str> = red.lines().collect();
    assert!(lines[0].starts_with("event 11: timer 1 (TimerStarted {"), "{red}");
    assert!(lines[0].ends_with("is recorded and not asked for"), "{red}");
    let asked = "event 9: activity 2 (ActivityTaskScheduled {\"activity_id\":\"2\",\"activity_type\":{\"name\":\"Activities::weigh\"}";
    assert!(lines[1].starts_with(asked), "{red}");
    assert!(lines[1].ends_with("is asked for in this workflow task and not recorded"), "{red}");
    let replayer = "the SDK's replayer: [TMPRL1100] Nondeterminism error: Activity machine does not handle this event: \
                    HistoryEvent(id: 11, TimerStarted)";
    assert_eq!(lines[2..], [replayer], "{red}");
}

#[tokio::test]
async fn each_version_replays_its_own_history() {
    replays(code!(old::Parcel), "examples/parcel-old.json").await.expect("old");
    replays(code!(patched::Parcel), "examples/parcel-patched.json").await.expect("patched");
    replays(code!(deprecated::Parcel), "examples/parcel-deprecated.json").await.expect("deprecated");
    replays(code!(plain::Parcel), "examples/parcel-plain.json").await.expect("plain");
}

#[tokio::test]
async fn first_release_open_workflows_of_the_old_code_go_on_under_the_patched_code() {
    replays(code!(patched::Parcel), "examples/parcel-old.json").await.expect("the patch lets the old code run");
}

#[tokio::test]
async fn second_release_a_deprecated_patch_wants_the_marker_in_every_history() {
    replays(code!(deprecated::Parcel), "examples/parcel-patched.json").await.expect("the marker is there");
    let red = replays(code!(deprecated::Parcel), "examples/parcel-old.json").await.expect_err("no marker");
    named(&red);
}

#[tokio::test]
async fn third_release_without_the_patch_a_history_with_a_deprecated_marker_replays() {
    replays(code!(plain::Parcel), "examples/parcel-deprecated.json").await.expect("a deprecated marker may be passed");
    let red = replays(code!(plain::Parcel), "examples/parcel-patched.json").await.expect_err("the marker is wanted");
    assert!(red.contains("weigh-parcels"), "{red}");
}

#[tokio::test]
async fn a_change_without_a_patch_comes_back_red() {
    let red = replays(code!(plain::Parcel), "examples/parcel-old.json").await.expect_err("another order of commands");
    named(&red);
}

#[tokio::test]
async fn code_that_was_there_before_the_patch_cannot_take_over_what_came_after_it() {
    for file in ["examples/parcel-patched.json", "examples/parcel-deprecated.json", "examples/parcel-plain.json"] {
        let red = replays(code!(old::Parcel), file).await.expect_err("a roll-back");
        assert!(red.contains("weigh"), "{file}: {red}");
    }
    replays(code!(patched::Parcel), "examples/parcel-deprecated.json").await.expect("a roll-back by one release");
}

#[tokio::test]
async fn a_workflow_that_was_stuck_and_got_on_replays() {
    replays(code!(old::Parcel), "examples/parcel-recovered.json").await.expect("the code that got it on");
}
