//! What happens to tickets over hours and days, in milliseconds: the server skips the time in which nothing runs.
#![cfg(feature = "dev-stack")]

mod attendance;
mod calls;
#[path = "../support/dev_server.rs"]
mod dev_server;
mod rows;
mod scripted;
mod server;
#[path = "../support/table.rs"]
mod table;
mod world;

use std::time::Duration;

use ticket_workflows::Verb;
use world::{HOUR, Scenario, world};

const SECOND: Duration = Duration::from_secs(1);

/// Ticket `b` is parked, and stays so until something else than its predecessor ends that.
fn b_waits_for_what_never_comes() -> Scenario {
    world()
        .setting("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "864000")
        .ticket("a")
        .never_comes()
        .ticket("b")
        .depends_on("a")
}

#[tokio::test]
async fn a_dependent_waits_four_hours_for_its_predecessor() {
    let ended = world().ticket("b").depends_on("a").ticket("a").after(4 * HOUR).run().await;
    // 300 s is how long a predecessor may be unheard of.
    ended.completed("a").failed("b", "dependency_unknown");
    let ended = world()
        .setting("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "86400")
        .ticket("b")
        .depends_on("a")
        .ticket("a")
        .after(4 * HOUR)
        .run()
        .await;
    ended.completed("a").completed("b");
    let parked = ended.parked("b");
    assert!((4 * HOUR..4 * HOUR + SECOND).contains(&parked), "{parked:?}");
    assert!(ended.real < Duration::from_secs(10), "four hours took {:?}", ended.real);
}

#[tokio::test]
async fn a_predecessor_that_never_comes_fails_its_dependent_after_the_unknown_timeout_and_not_before() {
    let ended = world().ticket("a").never_comes().ticket("b").depends_on("a").run().await;
    ended.failed("b", "dependency_unknown");
    let parked = ended.parked("b");
    assert!((300 * SECOND..301 * SECOND).contains(&parked), "{parked:?}");
}

#[tokio::test]
async fn a_failure_reaches_the_last_of_a_chain() {
    let ended = world()
        .ticket("c")
        .depends_on("b")
        .ticket("b")
        .depends_on("a")
        .ticket("a")
        .fails_with("execution_failed")
        .run()
        .await;
    ended.failed("a", "execution_failed").failed("b", "dependency_failed").failed("c", "dependency_failed");
}

#[tokio::test]
async fn retry_after_a_day_is_waited_for_and_costs_one_attempt() {
    let ended = world().ticket("a").retries(2).stumbles("execution_failed", Some(24 * HOUR)).run().await;
    ended.completed("a");
    assert_eq!(ended.attempts("a"), 2);
    let waited = ended.between_attempts("a");
    assert!((24 * HOUR..25 * HOUR).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_retry_that_would_come_after_the_deadline_is_not_waited_for() {
    let ended =
        world().ticket("a").deadline_in(4 * HOUR).retries(2).stumbles("execution_failed", Some(24 * HOUR)).run().await;
    ended.failed("a", "deadline_exceeded");
    assert_eq!((ended.attempts("a"), ended.between_attempts("a")), (1, Duration::ZERO));
}

#[tokio::test]
async fn a_parked_ticket_fails_within_a_second_of_a_strict_deadline_and_never_early() {
    let ended = b_waits_for_what_never_comes().deadline_in(48 * HOUR).setting("DEADLINE_POLICY", "strict").run().await;
    ended.failed("b", "deadline_exceeded");
    // It was created a little before its workflow started.
    let parked = ended.parked("b") + SECOND / 4;
    assert!((48 * HOUR..48 * HOUR + SECOND).contains(&parked), "{parked:?}");
}

#[tokio::test]
async fn an_expired_ticket_fails_at_once() {
    let ended = world().ticket("a").deadline_in(Duration::ZERO).run().await;
    ended.failed("a", "deadline_exceeded");
    assert_eq!(ended.attempts("a"), 0);
}

#[tokio::test]
async fn retry_now_ends_a_wait_of_a_week_after_an_hour() {
    let ended = world()
        .ticket("a")
        .retries(1)
        .stumbles("execution_failed", Some(7 * 24 * HOUR))
        .order(HOUR, "a", Verb::RetryNow)
        .run()
        .await;
    ended.completed("a");
    let waited = ended.between_attempts("a");
    // The order comes an hour after the start, the wait begins a moment after it.
    assert!((HOUR - SECOND..HOUR + SECOND).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_ticket_paused_for_a_weekend_goes_on_after_it() {
    let ended = world()
        .ticket("a")
        .retries(1)
        .stumbles("execution_failed", Some(HOUR))
        .order(HOUR / 2, "a", Verb::Pause)
        .order(60 * HOUR, "a", Verb::Resume)
        .run()
        .await;
    ended.completed("a");
    let waited = ended.between_attempts("a");
    assert!((60 * HOUR..61 * HOUR).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_parked_ticket_is_cancelled_after_a_day() {
    let ended = b_waits_for_what_never_comes()
        .order(24 * HOUR, "b", Verb::Cancel { preempted_by: None, grace_ms: None })
        .run()
        .await;
    ended.failed("b", "cancelled");
    let parked = ended.parked("b");
    assert!((24 * HOUR..24 * HOUR + SECOND).contains(&parked), "{parked:?}");
}

#[tokio::test]
async fn a_dependency_is_skipped_after_a_day() {
    let ended = b_waits_for_what_never_comes()
        .order(24 * HOUR, "b", Verb::SkipDependency { ticket_id: "a".to_owned() })
        .run()
        .await;
    ended.completed("b");
}
