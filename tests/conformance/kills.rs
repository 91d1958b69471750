//! Workers that are lost at any step, and two that run the same attempt.

use ticket_activities::Recognition;

use crate::candidate::Step;
use crate::candidates;
use crate::server::{Damage, Heard};
use crate::world::{World, completed, eventually};

#[tokio::test]
async fn inc_44_a_worker_lost_at_any_step_costs_no_second_piece_of_work() {
    for candidate in candidates() {
        for step in candidate.steps() {
            for heard in [Heard::No, Heard::Yes] {
                for told in [true, false] {
                    let what = format!("{}: lost at {step:?}, heard: {heard:?}, told: {told}", candidate.provider());
                    let world = World::new(&candidate).await;
                    // What is asked for is done, or not; nobody is there to hear of it.
                    world.server.script(*step, heard, Damage::Never);
                    if *step > Step::Create {
                        world.peer.end_all(0);
                    }
                    let mut job = world.job();
                    if *step == Step::LookUp {
                        // Only an attempt that may have been begun before looks.
                        job.lost_workers = 1;
                    }
                    let attempt = world.begin(job);
                    eventually(&what, || world.server.damaged(*step) > 0).await;
                    let lost = attempt.job.clone();
                    drop(attempt);
                    let outcome = world.finish_elsewhere(&lost, told).await;
                    completed(outcome, &what);
                    // What is not known again is done again. Whether it may be, and that its result is in doubt, is said above
                    // the protocol.
                    if candidate.knows_again(*step, told) {
                        world.was_done_once(&what);
                        continue;
                    }
                    let first = usize::from(*step > Step::Create || heard == Heard::Yes);
                    assert_eq!(world.peer.creates().values().sum::<usize>(), first + 1, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn two_workers_that_run_one_attempt_do_its_work_once() {
    for candidate in candidates().iter().filter(|candidate| candidate.recognition() != Recognition::None) {
        let world = World::new(candidate).await;
        // One that the server has given up, and that does not know it yet.
        let first = world.begin(world.job());
        let mut job = world.job();
        job.lost_workers = 1;
        let second = world.begin(job);
        eventually("work runs", || world.peer.running() > 0).await;
        world.peer.end_all(0);
        for attempt in [first, second] {
            completed(attempt.outcome("an attempt").await, candidate.provider());
        }
        world.was_done_once(candidate.provider());
    }
}
