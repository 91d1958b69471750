//! Races by force: many tickets, at moments drawn from a seed. `RACES=1000` is the whole of it, `SEED` another draw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::compensation::{Undone, announced};
use crate::ticket_service::ticket_service;
use crate::world::{World, eventually_within, patience, size};

/// What one race may take of a test's patience.
const EACH: Duration = Duration::from_millis(500);

fn seeded() -> Rng {
    let seed = size("SEED", 1);
    println!("SEED={seed}");
    Rng::with_seed(seed as u64)
}

fn time(draw: &mut Rng, most: Duration) -> Duration {
    most.mul_f64(draw.f64())
}

/// Each dependent comes around the moment in which its predecessor closes, or in which it starts while the waiting list of
/// another dependent is being created.
#[tokio::test(flavor = "multi_thread")]
async fn dependents_that_come_while_their_predecessor_starts_or_closes_are_all_released() {
    let races = size("RACES", 60);
    let mut draw = seeded();
    let world = World::new().await;
    let worker = world.worker(&[]).await;
    worker.wait_ready().await;
    // A ticket takes about so long from its record to its end, on a machine that does little else.
    let life = Duration::from_millis(120);
    let mut records: Vec<(Duration, Value)> = Vec::new();
    for n in 0..races {
        let at = Duration::from_millis(60) * u32::try_from(n).expect("few") + life;
        records.push((at, world.ticket(&format!("p{n}"), "true")));
        for (kind, middle) in [("starts", at), ("closes", at + life)] {
            let mut dependent = world.ticket(&format!("{kind}{n}"), "true");
            dependent["dependencies"] = json!([world.ticket_id(&format!("p{n}"))]);
            records.push((middle + time(&mut draw, life) - life / 2, dependent));
        }
    }
    records.sort_by_key(|(at, _)| *at);
    let begun = tokio::time::Instant::now();
    for (at, ticket) in &records {
        tokio::time::sleep_until(begun + *at).await;
        world.publish(ticket).await;
    }
    let completed = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
    worker.reaches_within(completed, 3.0 * races as f64, patience(EACH, races)).await;
    eventually_within("every ticket and every waiting list is closed", patience(EACH, races), || {
        world.open_workflows().is_empty().then_some(())
    })
    .await;
}

/// Tickets fail and are undone while workers are killed at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn inc_35_inc_38_workers_killed_at_random_while_tickets_are_undone_leave_one_undo_each_and_a_truthful_end() {
    let races = size("RACES", 60);
    let mut draw = seeded();
    let undone = Undone::new().await;
    let world = &undone.world;
    let (service, url, _stop) = ticket_service().await;
    service.know_all();
    // It publishes what it creates, most of the time: what it loses is published by the worker, after this patience.
    let settings = [("EXECUTION_TICKET_SERVICE_URL", url.as_str()), ("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "5")];
    let mut created = service.created();
    let publisher = async {
        let mut draw = seeded();
        while let Some(ticket) = created.recv().await {
            if draw.u8(0..10) > 0 {
                world.publish(&ticket).await;
            }
        }
    };
    let names: Vec<_> = (0..races).map(|n| format!("r{n}")).collect();
    let story = async {
        let (mut kills, mut next, begun) = (0, 0, Instant::now());
        while next < names.len() {
            let mut worker = undone.spawn(&settings);
            // The group gives a new member partitions some seconds after the killed one was last seen: some workers die before
            // that, and go on with what others began.
            let until = Instant::now() + Duration::from_secs(1) + time(&mut draw, Duration::from_secs(8));
            while Instant::now() < until {
                if let Some(name) = names.get(next) {
                    world.publish(&undone.ticket(name, "exit 3")).await;
                    next += 1;
                }
                tokio::time::sleep(time(&mut draw, Duration::from_millis(400))).await;
            }
            worker.kill_9();
            kills += 1;
        }
        println!("{} tickets failed under {kills} kills in {:.1?}", names.len(), begun.elapsed());
        let _worker = undone.worker(&settings).await;
        eventually_within("every ticket is closed", patience(EACH, races), || {
            world.open_workflows().is_empty().then_some(())
        })
        .await;
        kills
    };
    let kills = tokio::select! {
        kills = story => kills,
        () = publisher => unreachable!("the service goes on"),
    };
    let published: BTreeSet<String> = undone.published().into_iter().collect();
    let results: BTreeMap<String, Vec<Value>> = world.results();
    for name in &names {
        let id = world.ticket_id(name);
        let own = &results[&id];
        assert!(own.iter().all(|result| result == &own[0]), "{name} has two results: {own:?}");
        assert_eq!(own[0]["status"], "FAILED", "{name}");
        let (undo, _) = announced(&own[0]);
        undone.is_undone(name, &undo, kills);
        assert_eq!(results[&undo][0]["status"], "COMPLETED", "{name}");
        let statuses: Vec<_> = service.updates(&id).iter().map(|it| it["status"].clone()).collect();
        assert_eq!(statuses.last(), Some(&json!("COMPENSATED")), "{name}: {statuses:?}");
        assert_eq!(world.runs(name), 1, "{name}");
    }
    let expected: BTreeSet<String> =
        names.iter().map(|name| announced(&results[&world.ticket_id(name)][0]).0).collect();
    assert!(published.is_subset(&expected), "undos of nothing: {:?}", published.difference(&expected));
}
