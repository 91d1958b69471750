//! `kill -9` of brokers while tickets come: nothing is lost, nothing doubled, nothing condemned.

use std::time::{Duration, Instant};

use crate::lane::{RealWorld, full, verb, world};
use crate::world::eventually;

/// Between two tickets.
const PACE: Duration = Duration::from_millis(50);
const STARTED: &str = r#"worker_agent_records_total{disposition="started"}"#;

/// Publishes tickets one after the other; each may take as long as a broker is away.
async fn publish(world: &RealWorld, names: &[String]) {
    for name in names {
        world.publish_spread(&world.ticket(name, &format!("sleep 0.5; echo {name}"))).await;
        tokio::time::sleep(PACE).await;
    }
}

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{what}-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn a_killed_broker_that_comes_back_has_cost_nothing() {
    let world = world(&[]).await;
    let worker = world.worker(&[("MAX_CONCURRENT_TASKS", "20"), ("MAX_CONCURRENT_TICKETS", "200")]).await;
    let mut all = Vec::new();
    for round in 0..if full() { 4 } else { 2 } {
        let names = names(&format!("round{round}"), 120);
        let before = all.len();
        let some = (before + names.len() / 4) as f64;
        tokio::join!(publish(&world, &names), async {
            // In mid-run: some are done, some run, some are not published yet.
            worker.reaches(STARTED, some).await;
            verb(&world.kafka, "kill", &[]);
            // Results want to be published meanwhile, and offsets committed.
            tokio::time::sleep(Duration::from_secs(3)).await;
            verb(&world.kafka, "restart", &[]);
        });
        all.extend(names);
        world.all_completed(&all).await;
        assert!(world.topic("execution.tickets").len() >= all.len(), "a record was lost by the broker");
    }
    world.one_run_each(&all).await;
    assert!(world.dead_letters().is_empty());
    // The publisher may have sent a record twice: it does not know whether the broker had it.
    world.drained(world.topic("execution.tickets").len()).await;
    assert_eq!(worker.get("/health").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn with_one_of_three_brokers_gone_tickets_go_on() {
    let world = world(&["--brokers", "3"]).await;
    let worker = world.worker(&[("MAX_CONCURRENT_TASKS", "20"), ("MAX_CONCURRENT_TICKETS", "200")]).await;
    let mut all = names("before", 40);
    publish(&world, &all).await;
    world.all_completed(&all).await;
    for broker in if full() { vec!["1", "2", "3"] } else { vec!["1"] } {
        verb(&world.kafka, "kill", &["--broker", broker]);
        let killed = Instant::now();
        let during = names(&format!("without{broker}"), 40);
        let first = world.ticket_id(&during[0]);
        all.extend(during.iter().cloned());
        let (_, first_result) = tokio::join!(publish(&world, &during), async {
            eventually("a result of a ticket after the kill", || world.results().contains_key(&first).then_some(()))
                .await;
            killed.elapsed()
        });
        world.all_completed(&all).await;
        println!("broker {broker} of 3 killed: the next ticket had its result after {} ms", first_result.as_millis());
        // Two in-sync replicas of three are enough, so nobody has waited for this.
        verb(&world.kafka, "restart", &["--broker", broker]);
    }
    world.one_run_each(&all).await;
    assert!(world.dead_letters().is_empty());
    world.drained(world.topic("execution.tickets").len()).await;
    assert_eq!(worker.get("/health").await.0, 200);
}
