//! Every registered compensation is rehearsed by one harness. A new one needs a world, and a line in [`rehearsals`].
//!
//! What undoes commands is rehearsed with real scripts under the real supervisor, in real folders.

mod commands;
mod faulty;
mod harness;

use std::collections::BTreeSet;

use futures::future::{BoxFuture, FutureExt as _};
use ticket_schemas::TaskType;
use worker_agents::config::{Config, MapSource};
use worker_agents::worker::{WorkerOptions, executors};

use commands::{Cleanup, Rollback};
use faulty::{Careless, Forgetful};
use harness::{Rehearsed, Saga, rehearse};

/// An action, and its rehearsal.
type Rehearsal = (&'static str, BoxFuture<'static, Result<Rehearsed, String>>);

fn of<S: Saga + 'static>() -> Rehearsal {
    (S::ACTION, rehearse::<S>().boxed())
}

/// Every compensation.
fn rehearsals() -> Vec<Rehearsal> {
    vec![of::<Rollback>(), of::<Cleanup>()]
}

#[test]
fn every_registered_compensation_is_rehearsed() {
    let settings = MapSource::from([("LOCAL_RUNTIME_ENABLED", "true"), ("LOCAL_RUNTIME_CGROUPS", "false")]);
    let registry = executors(&Config::read(&settings).expect("settings"), &WorkerOptions::default());
    let registered: BTreeSet<_> = registry.providers(TaskType::Compensate).collect();
    let rehearsed: BTreeSet<_> = rehearsals().into_iter().map(|(action, _)| action).collect();
    assert_eq!(registered, rehearsed, "a compensation joins the rehearsals in rehearsals()");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_survives_a_failure_a_repetition_and_a_kill_at_each_of_its_steps() {
    for (action, rehearsal) in rehearsals() {
        let rehearsed = rehearsal.await.unwrap_or_else(|found| panic!("{action}: {found}"));
        // The straight run, its repetition, and at each step: a failure and a kill, before and after it.
        assert!(rehearsed.steps > 1, "{action}: {rehearsed:?}");
        assert_eq!(rehearsed.runs, 2 + 4 * rehearsed.steps, "{action}");
    }
}

#[tokio::test]
async fn the_harness_sees_an_undo_that_does_twice_what_it_may_do_once() {
    let found = rehearse::<Careless>().await.expect_err("it undoes too much");
    assert!(found.contains("repeat"), "{found}");
}

#[tokio::test]
async fn the_harness_sees_an_undo_that_is_done_before_all_is_undone() {
    let found = rehearse::<Forgetful>().await.expect_err("it forgets what failed");
    assert!(found.contains("fail"), "{found}");
}
