//! What is removed, and when.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use futures::future::BoxFuture;

use super::fake::{Fake, LOOKUP, NoParams, Scripted, Step, throttled};
use super::*;

/// Runs by id: whether they have ended; one that is not there cannot be asked for.
struct Known(BTreeMap<&'static str, bool>);

impl Runs for Known {
    fn has_ended<'a>(&'a self, _: &'a str, run_id: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        let known = self.0.get(run_id).copied();
        Box::pin(async move { known.ok_or_else(|| "the server is away".to_owned()) })
    }
}

fn leftover(run_id: &str) -> Leftover<String> {
    Leftover { ticket_id: "t".to_owned(), run_id: run_id.to_owned(), handle: format!("work of {run_id}") }
}

fn runs() -> Arc<dyn Runs> {
    Arc::new(Known(BTreeMap::from([("open", false), ("ended", true)])))
}

#[tokio::test(start_paused = true)]
async fn only_what_is_known_to_have_ended_is_removed() {
    let fake = Fake::<LOOKUP>::default();
    fake.state().leftovers = ["open", "ended", "nobody knows"].map(leftover).to_vec();
    let janitor = fake.driver().janitor(runs(), Duration::from_secs(300));
    assert_eq!(janitor.sweep().await, Ok(1));
    assert_eq!(fake.state().removed, ["work of ended"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_no_answer_keeps_no_sweep_for_ever() {
    let fake = Fake::<LOOKUP>::default();
    let for_ever = || Scripted::Slow(Duration::from_secs(1_000_000));
    fake.state().leftovers = ["ended", "ended"].map(leftover).to_vec();
    let janitor = fake.driver().janitor(runs(), Duration::from_secs(300));
    fake.script(Step::CleanUp, [for_ever()]);
    assert_eq!(janitor.sweep().await, Ok(1), "the second one is removed");
    fake.script(Step::Leftovers, [for_ever()]);
    assert!(matches!(janitor.sweep().await, Err(Fault::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn when_it_is_told_to_come_later_attempts_wait_too() {
    for step in [Step::Leftovers, Step::CleanUp] {
        let fake = Fake::<LOOKUP>::default();
        fake.state().leftovers = vec![leftover("ended")];
        fake.script(step, [Scripted::Untaken(throttled(3))]);
        let driver = fake.driver();
        let _ = driver.janitor(runs(), Duration::from_secs(300)).sweep().await;
        let begun = tokio::time::Instant::now();
        driver.endpoint.turn(Duration::from_secs(60)).await;
        assert!(begun.elapsed() >= Duration::from_secs(3), "{step:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_the_work_of_ended_tickets_waits_for_no_turn() {
    let fake = Fake::<LOOKUP>::default();
    fake.state().leftovers = vec![leftover("ended"); 10];
    let limits = EndpointLimits { rate: NonZeroU32::new(1), ..EndpointLimits::default() };
    let driver = fake.driver().at(Endpoint::new("fake", limits, Arc::new(|_| ())));
    // Attempts have taken all turns that there are for now.
    driver.endpoint.turn(Duration::ZERO).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(driver.janitor(runs(), Duration::from_secs(300)).sweep().await, Ok(10));
    assert!(begun.elapsed().is_zero(), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn it_asks_for_nothing_more_once_it_is_told_to_come_later() {
    for step in [Step::Leftovers, Step::CleanUp] {
        let fake = Fake::<LOOKUP>::default();
        fake.state().leftovers = vec![leftover("ended"); 3];
        fake.script(step, [Scripted::Untaken(throttled(600))]);
        let driver = fake.driver();
        let running = tokio::spawn(driver.janitor(runs(), Duration::from_secs(1)).run(CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        // Attempts that end meanwhile do not hurry it.
        let _ = driver.execute(NoParams {}, Job { time_left: Duration::ZERO, ..job("t") }).await;
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert!(fake.state().removed.is_empty(), "{step:?}: {:?}", fake.state().removed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!fake.state().removed.is_empty(), "{step:?}");
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn it_sweeps_at_once_soon_after_an_attempt_and_every_interval() {
    let fake = Fake::<LOOKUP>::default();
    fake.state().leftovers = vec![leftover("ended")];
    let driver = fake.driver();
    let stop = CancellationToken::new();
    let running = tokio::spawn(driver.janitor(runs(), Duration::from_secs(300)).run(stop.clone()));
    let removed_within = async |least: u64, most: u64| {
        tokio::time::sleep(Duration::from_secs(least)).await;
        let before = fake.state().removed.len();
        tokio::time::sleep(Duration::from_secs(most - least)).await;
        fake.state().removed.len() - before
    };
    assert_eq!(removed_within(0, 1).await, 1, "what an earlier worker left");

    fake.state().leftovers = vec![leftover("ended")];
    assert_eq!(removed_within(0, 290).await, 0);
    assert_eq!(removed_within(0, 20).await, 1, "the interval");

    let mut job = job("t");
    job.time_left = Duration::ZERO;
    let _ = driver.execute(NoParams {}, job).await;
    fake.state().leftovers = vec![leftover("ended")];
    assert_eq!(removed_within(1, 4).await, 1, "an attempt has ended");
    stop.cancel();
    running.await.expect("it ends");
}
