//! Faults at every step: which are waited out, which go back to the workflow, and how often work is created meanwhile.

use std::time::Duration;

use serde_json::json;
use ticket_activities::{ExternalState, FailureClass, Recognition, code};

use crate::candidate::Step;
use crate::candidates;
use crate::server::{Damage, Heard};
use crate::world::{TOO_SLOW, World, completed, eventually, failed};

/// Everything that can become of an answer and that passes.
const DAMAGES: [Damage; 11] = [
    Damage::Reset,
    Damage::Status(500),
    Damage::Status(503),
    Damage::Throttled(1),
    Damage::Status(400),
    Damage::Html(404),
    Damage::Html(502),
    Damage::Html(503),
    Damage::Html(200),
    Damage::Truncated,
    Damage::Slow(TOO_SLOW),
];

/// Whether an answer says that nothing was done.
fn says_no(damage: Damage) -> bool {
    matches!(damage, Damage::Throttled(_) | Damage::Status(400 | 503))
}

#[tokio::test]
async fn work_without_a_fault_is_done_once_and_has_the_contracts_metadata() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        world.peer.end_all(0);
        let done = completed(world.begin(world.job()).outcome("the attempt").await, candidate.provider());
        world.was_done_once(candidate.provider());
        assert_eq!(done.report.metadata["simulated"], json!(false));
        assert!(done.report.metadata["duration_seconds"].is_number());
        for step in candidate.steps().iter().filter(|step| **step != Step::LookUp) {
            assert!(world.server.seen(*step) > 0, "{step:?} is one of its steps");
        }
    }
}

#[tokio::test]
async fn a_fault_at_any_step_costs_no_second_piece_of_work() {
    for candidate in &candidates() {
        for step in candidate.steps() {
            for damage in DAMAGES {
                for heard in [Heard::No, Heard::Yes] {
                    if heard == Heard::Yes && says_no(damage) {
                        continue;
                    }
                    let what = format!("{}: {damage:?} at {step:?}, heard: {heard:?}", candidate.provider());
                    let world = World::new(candidate).await;
                    world.peer.end_all(0);
                    world.server.script(*step, heard, damage);
                    let mut job = world.job();
                    if *step == Step::LookUp {
                        job.lost_workers = 1;
                    }
                    // Whoever was told to begin, and gives no answer, may still do so.
                    let in_doubt = (*step, heard) == (Step::Start, Heard::No)
                        && !matches!(damage, Damage::Status(_) | Damage::Throttled(_));
                    if in_doubt {
                        job.time_left = Duration::from_secs(1);
                    }
                    let outcome = world.begin(job.clone()).outcome(&what).await;
                    assert!(world.server.damaged(*step) > 0, "{what}: the fault was met");
                    // What has not been begun is for the workflow to try again; a preparation may take its time.
                    let late = heard == Heard::Yes && damage == Damage::Slow(TOO_SLOW);
                    if (*step == Step::Prepare && !late) || (*step == Step::Create && says_no(damage)) {
                        let failed = failed(outcome, &what);
                        let for_good = (*step, damage) == (Step::Create, Damage::Status(400));
                        assert_eq!(failed.class == FailureClass::Permanent, for_good, "{what}: {failed:?}");
                        assert!(
                            for_good || matches!(failed.class, FailureClass::Unavailable { .. }),
                            "{what}: {failed:?}"
                        );
                        assert_eq!((failed.external_state, world.peer.creates().len()), (None, 0), "{what}");
                        continue;
                    }
                    // An answer that comes with the end of the work takes the time of the work.
                    let in_time = candidate.answers_at_the_end() && late;
                    let unrecognised =
                        candidate.recognition() == Recognition::None && *step == Step::Create && !in_time;
                    if unrecognised {
                        let failed = failed(outcome, &what);
                        let (code, state) = (failed.code.as_str(), failed.external_state);
                        assert_eq!((code, state), (code::PROVIDER_UNAVAILABLE, Some(ExternalState::Unknown)), "{what}");
                        // Another attempt may run beside it, and would not say so.
                        let is_final = failed.class == FailureClass::Permanent;
                        assert_eq!(is_final, candidate.answers_at_the_end(), "{what}: {failed:?}");
                        let creates = world.peer.creates().values().sum::<usize>();
                        assert_eq!(creates, usize::from(heard == Heard::Yes), "{what}");
                        continue;
                    }
                    if in_doubt {
                        let failed = failed(outcome, &what);
                        assert_eq!(
                            (failed.code.as_str(), failed.external_state, world.server.seen(Step::Start)),
                            (code::TIMEOUT, Some(ExternalState::ConfirmedStopped), 1),
                            "{what}"
                        );
                        continue;
                    }
                    completed(outcome, &what);
                    world.was_done_once(&what);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_create_that_nothing_recognises_and_whose_answer_is_lost_is_unknown() {
    for candidate in candidates().iter().filter(|candidate| candidate.recognition() == Recognition::None) {
        let world = World::new(candidate).await;
        world.peer.end_all(0);
        world.server.script(Step::Create, Heard::Yes, Damage::Reset);
        let failed = failed(world.begin(world.job()).outcome("the attempt").await, candidate.provider());
        assert_eq!(failed.external_state, Some(ExternalState::Unknown));
    }
}

#[tokio::test]
async fn retry_after_reaches_the_workflow() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        world.server.script(Step::Create, Heard::No, Damage::Throttled(7));
        let failed = failed(world.begin(world.job()).outcome("the attempt").await, candidate.provider());
        let after_ms = candidate.hears_retry_after().then_some(7_000);
        assert_eq!(
            (failed.code.as_str(), failed.class),
            (code::PROVIDER_UNAVAILABLE, FailureClass::Unavailable { after_ms })
        );
    }
}

#[tokio::test]
async fn a_peers_page_is_quoted_harmlessly() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        world.server.script(candidate.steps()[0], Heard::No, Damage::Html(502));
        let failed = failed(world.begin(world.job()).outcome("the attempt").await, candidate.provider());
        assert!(failed.message.contains("502") && failed.message.len() < 1000, "{}", failed.message);
        assert!(!failed.message.chars().any(char::is_control), "{}", failed.message);
    }
}

#[tokio::test]
async fn work_that_vanished_is_said_to_have_and_not_created_again_within_the_attempt() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        let attempt = world.begin(world.job());
        eventually("work runs", || world.peer.running() > 0).await;
        world.peer.vanish();
        // The watch that hangs finds out with the next one.
        let failed = failed(attempt.outcome("the attempt").await, candidate.provider());
        // Where nobody can look for it, only its answer is missing.
        let code = if candidate.answers_at_the_end() { code::PROVIDER_UNAVAILABLE } else { code::WORK_VANISHED };
        assert_eq!((failed.code.as_str(), failed.external_state), (code, Some(ExternalState::Unknown)));
        assert_eq!(world.peer.creates().values().sum::<usize>(), 1);
    }
}

#[tokio::test]
async fn a_peer_whose_clock_is_wrong_changes_nothing() {
    for candidate in candidates() {
        for ahead in [86_400, -86_400] {
            let what = format!("{}: {ahead} s ahead", candidate.provider());
            let world = World::new(&candidate).await;
            world.peer.set_clock(ahead);
            let mut job = world.job();
            job.time_left = Duration::from_secs(2);
            let begun = std::time::Instant::now();
            let late = failed(world.begin(job).outcome(&what).await, &what);
            assert_eq!(late.code, code::TIMEOUT, "{what}");
            assert!(begun.elapsed() >= Duration::from_secs(2), "{what}: its time is its own");

            let world = World::new(&candidate).await;
            world.peer.set_clock(ahead);
            world.peer.end_all(0);
            completed(world.begin(world.job()).outcome(&what).await, &what);
        }
    }
}
