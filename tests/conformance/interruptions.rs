//! A cancel, a time-out and a drain at any step.

use std::time::Duration;

use ticket_activities::{ExternalState, FailureClass, Job, Outcome, code};

use crate::candidate::{Candidate, Step};
use crate::candidates;
use crate::server::{Damage, Heard};
use crate::world::{World, completed, eventually, failed};

/// An attempt that hangs at `step` and is interrupted there by `how`.
async fn interrupted(world: &World, step: Step, heard: Heard, how: impl Fn(&Job)) -> (Job, Outcome) {
    let what = format!("{}: interrupted at {step:?}, heard: {heard:?}", world.candidate.provider());
    let mut job = world.job();
    if step == Step::LookUp {
        job.lost_workers = 1;
    }
    if step == Step::Collect {
        world.peer.end_all(0);
    }
    world.server.script(step, heard, Damage::Never);
    let attempt = world.begin(job);
    eventually(&what, || world.server.damaged(step) > 0).await;
    how(&attempt.job);
    let job = attempt.job.clone();
    (job, attempt.outcome(&what).await)
}

/// The steps before work is stopped.
fn steps(candidate: &dyn Candidate) -> impl Iterator<Item = (Step, Heard)> {
    let all = candidate.steps().iter().filter(|step| **step != Step::Stop);
    all.flat_map(|step| [(*step, Heard::No), (*step, Heard::Yes)])
        // A watch that is heard is answered when the work ends, so it does not hang but wait.
        .filter(|(step, heard)| *step != Step::Watch || *heard == Heard::No)
}

#[tokio::test]
async fn inc_44_a_cancel_at_any_step_leaves_nothing_running_and_says_so() {
    for candidate in candidates() {
        for (step, heard) in steps(&*candidate) {
            let what = format!("{}: cancelled at {step:?}, heard: {heard:?}", candidate.provider());
            let world = World::new(&candidate).await;
            let (_, outcome) = interrupted(&world, step, heard, |job| job.stop.cancel()).await;
            let goes_on = !candidate.ends_work() && (step > Step::Create || heard == Heard::Yes);
            assert_eq!(world.peer.running(), usize::from(goes_on), "{what}");
            if step == Step::Collect {
                completed(outcome, &what);
                continue;
            }
            let failed = failed(outcome, &what);
            assert_eq!(failed.code, code::CANCELLED, "{what}");
            if !candidate.ends_work() {
                assert_eq!(failed.external_state, Some(ExternalState::Unknown), "{what}");
            } else if step > Step::Create {
                assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_drain_at_any_step_stops_nothing_and_the_next_worker_finishes_the_same_work() {
    for candidate in &candidates() {
        for (step, heard) in steps(&**candidate).filter(|(step, _)| candidate.knows_again(*step, true)) {
            let what = format!("{}: drained at {step:?}, heard: {heard:?}", candidate.provider());
            let world = World::new(candidate).await;
            let (job, outcome) = interrupted(&world, step, heard, |job| {
                job.detach.cancel();
                job.stop.cancel();
            })
            .await;
            failed(outcome, &what);
            assert_eq!(world.peer.stops(), 0, "{what}");
            completed(world.finish_elsewhere(&job, true).await, &what);
            world.was_done_once(&what);
        }
    }
}

#[tokio::test]
async fn work_that_outlives_its_time_is_stopped_and_that_is_confirmed_where_it_can_be() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        let mut job = world.job();
        job.time_left = Duration::from_secs(1);
        let failed = failed(world.begin(job).outcome("the attempt").await, candidate.provider());
        let state = if candidate.ends_work() { ExternalState::ConfirmedStopped } else { ExternalState::Unknown };
        assert_eq!((failed.code.as_str(), failed.external_state), (code::TIMEOUT, Some(state)));
        assert_eq!(world.peer.running(), usize::from(!candidate.ends_work()));
        // Another attempt would begin the same work beside it.
        assert_eq!(failed.class == FailureClass::Permanent, !candidate.ends_work());
    }
}

#[tokio::test]
async fn a_stop_whose_answer_is_lost_is_asked_for_again() {
    for candidate in candidates().iter().filter(|candidate| candidate.ends_work()) {
        for damage in [Damage::Reset, Damage::Status(500), Damage::Html(502), Damage::Throttled(1)] {
            let what = format!("{}: {damage:?}", candidate.provider());
            let world = World::new(candidate).await;
            world.server.script(Step::Stop, Heard::No, damage);
            let attempt = world.begin(world.job());
            eventually("work runs", || world.peer.running() > 0).await;
            attempt.job.stop.cancel();
            let failed = failed(attempt.outcome(&what).await, &what);
            assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped), "{what}");
            assert_eq!(world.peer.running(), 0, "{what}");
        }
    }
}
