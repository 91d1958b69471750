//! What attempts of one worker do to each other at a provider that fails, and how fast they call one that does not.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures::future::join_all;
use ticket_activities::external::EndpointLimits;
use ticket_activities::{ExternalState, FailureClass, Job, Outcome, code};

use crate::candidate::{Driver, Step};
use crate::candidates;
use crate::server::{Damage, Heard};
use crate::world::{Attempt, World, completed, eventually, failed};

const FAULTS_TO_OPEN: u32 = 5;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

fn limits(pause: Duration) -> EndpointLimits {
    EndpointLimits { faults_to_open: NonZeroU32::new(FAULTS_TO_OPEN), pause, rate: NonZeroU32::new(50) }
}

/// The job of another attempt, so that its work has another key.
fn attempt(world: &World, attempt: u32) -> Job {
    Job { attempt, ..world.job() }
}

/// Attempts at other tickets, whose creates are turned away until the circuit opens.
async fn open(world: &World, driver: &Driver) {
    for number in 0..FAULTS_TO_OPEN {
        world.server.script(Step::Create, Heard::No, Damage::Status(503));
        let turned_away = Attempt::begin(driver, world.job_of(&format!("t-{number}"))).outcome("an attempt").await;
        failed(turned_away, world.candidate.provider());
    }
}

/// An attempt that is let begin nothing.
async fn is_refused(world: &World, driver: &Driver) {
    let provider = world.candidate.provider();
    let before = (world.server.seen(Step::Prepare), world.server.seen(Step::Create));
    let refused = failed(Attempt::begin(driver, attempt(world, 200)).outcome("an attempt").await, provider);
    assert_eq!((refused.code.as_str(), refused.external_state), (code::PROVIDER_UNAVAILABLE, None), "{provider}");
    assert!(matches!(refused.class, FailureClass::Unavailable { after_ms: Some(_) }), "{provider}: {refused:?}");
    let after = (world.server.seen(Step::Prepare), world.server.seen(Step::Create));
    assert_eq!(before, after, "{provider}: nobody called");
}

#[tokio::test]
async fn a_provider_that_fails_in_a_row_is_left_alone() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        let driver = world.driver(limits(LONG));
        open(&world, &driver).await;
        assert_eq!(world.server.damaged(Step::Create), FAULTS_TO_OPEN as usize, "each was asked for once");
        is_refused(&world, &driver).await;
        assert!(world.peer.creates().is_empty());
    }
}

#[tokio::test]
async fn a_provider_that_is_back_has_work_again() {
    for candidate in candidates() {
        let world = World::new(&candidate).await;
        let driver = world.driver(limits(Duration::from_millis(50)));
        world.peer.end_all(0);
        open(&world, &driver).await;
        let mut tries = 0;
        while let Outcome::Failed(refused) = Attempt::begin(&driver, world.job()).outcome("the next attempt").await {
            tries += 1;
            assert!(tries < 1000, "{}: {refused:?}", candidate.provider());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.was_done_once(candidate.provider());
    }
}

#[tokio::test]
async fn work_that_has_begun_is_seen_to_its_end_while_its_provider_is_sent_none() {
    for candidate in candidates() {
        for stopped in [false, true] {
            let what = format!("{}, stopped: {stopped}", candidate.provider());
            let world = World::new(&candidate).await;
            let driver = world.driver(limits(LONG));
            let begun = Attempt::begin(&driver, world.job());
            eventually("work runs", || world.peer.running() > 0).await;
            open(&world, &driver).await;
            is_refused(&world, &driver).await;
            if stopped {
                begun.job.stop.cancel();
                let failed = failed(begun.outcome(&what).await, &what);
                let ends = candidate.ends_work();
                let state = if ends { ExternalState::ConfirmedStopped } else { ExternalState::Unknown };
                assert_eq!((failed.external_state, world.peer.running()), (Some(state), usize::from(!ends)), "{what}");
            } else {
                world.peer.end_all(0);
                completed(begun.outcome(&what).await, &what);
            }
            world.was_done_once(&what);
        }
    }
}

#[tokio::test]
async fn one_piece_of_work_that_cannot_be_started_or_watched_keeps_none_from_its_provider() {
    for candidate in candidates() {
        for (step, damage) in [(Step::Start, Damage::Status(500)), (Step::Watch, Damage::Html(502))] {
            if !candidate.steps().contains(&step) {
                continue;
            }
            let what = format!("{}: {damage:?} at {step:?}", candidate.provider());
            let world = World::new(&candidate).await;
            let driver = world.driver(limits(LONG));
            world.peer.end_all(0);
            (0..3 * FAULTS_TO_OPEN).for_each(|_| world.server.script(step, Heard::No, damage));
            let first = Attempt::begin(&driver, world.job());
            eventually(&what, || world.server.damaged(step) > FAULTS_TO_OPEN as usize).await;
            let second = Attempt::begin(&driver, attempt(&world, 2));
            for attempt in [second, first] {
                completed(attempt.outcome(&what).await, &what);
            }
        }
    }
}

#[tokio::test]
async fn a_burst_of_attempts_begins_no_faster_than_the_rate() {
    const TURNS: u32 = 80;
    for candidate in candidates() {
        // A turn each to prepare and to create; of what is one call, one.
        let attempts = if candidate.answers_at_the_end() { TURNS } else { TURNS / 2 };
        let world = World::new(&candidate).await;
        let driver = world.driver(limits(LONG));
        world.peer.end_all(0);
        let begun = Instant::now();
        let begin = (1..=attempts).map(|number| Attempt::begin(&driver, attempt(&world, number)));
        for outcome in join_all(begin.map(|attempt| attempt.outcome("an attempt of the burst"))).await {
            completed(outcome, candidate.provider());
        }
        assert_eq!(world.peer.creates().values().sum::<usize>(), attempts as usize);
        // 50 of them at once.
        assert!(begun.elapsed() >= Duration::from_millis(600), "{}: {:?}", candidate.provider(), begun.elapsed());
    }
}
