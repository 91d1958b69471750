//! Every compensation is rehearsed by one harness. A new one needs a world with its provider in it, and a line here.

mod harness;
mod undo;

use harness::rehearse;
use undo::{Careless, Forgetful, Orderly};

#[tokio::test]
async fn an_undo_survives_a_failure_a_repetition_and_a_kill_at_each_of_its_steps() {
    let rehearsed = rehearse::<Orderly>().await.expect("it undoes");
    assert_eq!(rehearsed.steps, 3, "each of its calls was a step");
    // The straight run, its repetition, and at each step: a failure and a kill, before and after it.
    assert_eq!(rehearsed.runs, 2 + 3 * 4);
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
