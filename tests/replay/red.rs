//! Histories that must come back red. `ticket-other-timer.json` is `0.1.0/retried.json` with its timer an hour long: no
//! released code ever waited so, and the point is that nothing else differs. The others are as the server gave them.

use crate::TICKETS;
use crate::gate::{Code, code, replayer_alone, verdict};
use crate::history::{Recording, files};
use crate::parcel::{old, plain};

const PARCELS: Code = code!(old::Parcel);
const PARCELS_WITHOUT_A_PATCH: Code = code!(plain::Parcel);

#[tokio::test]
async fn another_timer_alone_is_red_and_named() {
    let ticket = Recording::read("red/ticket-other-timer.json");
    assert_eq!(replayer_alone(TICKETS, &ticket).await, None, "the SDK's replayer does not see it");
    let red = verdict(TICKETS, &ticket).await.expect("red");
    assert_eq!(red.lines().count(), 1, "{red}");
    assert!(red.starts_with("event 11 TimerStarted (timer 1), start_to_fire_timeout: recorded \"3600.0"), "{red}");
    assert!(red.contains("the code asks for \"2.694"), "{red}");

    let parcel = Recording::read("red/parcel-other-timer.json");
    assert_eq!(replayer_alone(PARCELS, &parcel).await, None, "the SDK's replayer does not see it");
    let red = verdict(PARCELS, &parcel).await.expect("red");
    assert_eq!(
        red,
        "event 11 TimerStarted (timer 1), start_to_fire_timeout: recorded \"1.400000000s\", the code asks for \
         \"0.700000000s\""
    );
}

#[tokio::test]
async fn a_stuck_ticket_is_red_and_named() {
    let ticket = Recording::read("red/ticket-stuck.json");
    assert_eq!(replayer_alone(TICKETS, &ticket).await, None, "the SDK's replayer does not see it");
    let red = verdict(TICKETS, &ticket).await.expect("red");
    assert!(red.starts_with("event 4: the last workflow task failed ("), "{red}");
    assert!(red.contains("the code of today breaks too"), "{red}");
    assert!(red.contains("the code breaks in this workflow task: "), "{red}");
}

#[tokio::test]
async fn a_workflow_stuck_by_a_change_without_a_patch_is_red_until_it_has_got_on() {
    let parcel = Recording::read("red/parcel-stuck.json");
    let red = verdict(PARCELS_WITHOUT_A_PATCH, &parcel).await.expect("red");
    assert!(red.contains("WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR"), "{red}");
    assert!(red.contains("the code of today breaks too"), "{red}");
    // Code that was repaired would get it on; a history that ends so is refused all the same.
    let red = verdict(PARCELS, &parcel).await.expect("red");
    assert!(red.ends_with("the code of today gets on"), "{red}");
    assert_eq!(red.lines().count(), 1, "{red}");
}

#[test]
fn none_of_them_counts_as_a_history_of_a_release() {
    let red = files(Some("red"));
    assert!(red.len() >= 4, "{red:?}");
    assert!(files(None).iter().all(|file| !red.contains(file)));
}
