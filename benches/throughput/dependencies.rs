//! How soon tickets go on when those they depend on have ended: pairs one by one, a chain, and a fan.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::json;
use temporalio_client::Client;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use ticket_schemas::{Ticket, TicketId, encode_json_ticket};
use ticket_workflows::workflow_id;
use worker_agents::config::Config;

use crate::latency::percentiles;
use crate::load::{Load, Record, ticket};
use crate::report::{Reporter, rounded};
use crate::{history, ours};

/// Pairs of a predecessor and a dependent.
const PAIRS: usize = 100;
/// Predecessors published in a second. Each sets two tickets to work: a machine of which this is more than half is measured
/// in its queues. Two slow cores end some twenty tickets a second.
const RATE: u32 = 4;
/// Levels of the chain.
const LEVELS: usize = 100;
/// Tickets between the one they all wait for and the one that waits for them all.
const FAN: usize = 500;
/// How long tickets get to be waiting: registration is not what is measured.
const SETTLE: Duration = Duration::from_secs(5);
/// What is asked, in milliseconds: p50 and p99 of a release, a level of the chain, the fan.
const TARGETS: (f64, f64, f64, f64) = (150.0, 300.0, 200.0, 25_000.0);

/// All three, by one worker.
pub(crate) async fn measure(config: &Config, client: &Client, load: &Load, reporter: &Reporter) -> anyhow::Result<()> {
    let measured = ours::with_worker(config, async {
        Ok((
            releases(config, client, load).await?,
            chain(config, client, load).await?,
            fan(config, client, load).await?,
        ))
    });
    let ((p50, p99), level, fan) = measured.await?;
    let (p50_target, p99_target, level_target, fan_target) = TARGETS;
    reporter.alone(
        "dependency_release_ms",
        "ms",
        p50,
        json!({
            "p50": rounded(p50),
            "p99": rounded(p99),
            "chain_level_ms": rounded(level),
            "fan_1_500_1_ms": rounded(fan),
            "targets": [p50_target, p99_target, level_target, fan_target],
            "met": p50 <= p50_target && p99 <= p99_target && level <= level_target && fan <= fan_target,
        }),
    );
    Ok(())
}

fn depends(number: usize, on: &[TicketId]) -> anyhow::Result<Ticket> {
    Ok(Ticket { dependencies: on.to_vec(), ..ticket(number)? })
}

fn record(ticket: &Ticket) -> Record {
    (ticket.ticket_id.as_str().to_owned(), encode_json_ticket(ticket))
}

fn records(tickets: &[Ticket]) -> Vec<Record> {
    tickets.iter().map(record).collect()
}

/// From the answer of a predecessor's attempt to the scheduling of its dependent's.
async fn releases(config: &Config, client: &Client, load: &Load) -> anyhow::Result<(f64, f64)> {
    let first = (0..PAIRS).map(ticket).collect::<anyhow::Result<Vec<_>>>()?;
    let second = first.iter().map(|first| depends(0, std::slice::from_ref(&first.ticket_id)));
    let second = second.collect::<anyhow::Result<Vec<_>>>()?;
    let topic = &config.kafka.tickets_topic;
    load.publish(topic, &records(&second)).await?;
    tokio::time::sleep(SETTLE).await;
    let mut clock = tokio::time::interval(Duration::from_secs(1) / RATE);
    for first in &first {
        clock.tick().await;
        load.publish(topic, &[record(first)]).await?;
    }
    let mut waited = Vec::with_capacity(PAIRS);
    for (first, second) in first.iter().zip(&second) {
        let (first, second) = (closed(client, first).await?, closed(client, second).await?);
        let ended = time(&first, |event| matches!(event, Attributes::ActivityTaskCompletedEventAttributes(_)))?;
        let scheduled = time(&second, |event| matches!(event, Attributes::ActivityTaskScheduledEventAttributes(_)))?;
        waited.push(scheduled.duration_since(ended).unwrap_or_default());
    }
    Ok(percentiles(waited))
}

/// Milliseconds of one level of a chain, all of which wait when its first ticket comes.
async fn chain(config: &Config, client: &Client, load: &Load) -> anyhow::Result<f64> {
    let mut tickets = vec![ticket(0)?];
    for number in 1..LEVELS {
        let before = tickets.last().context("the first")?.ticket_id.clone();
        tickets.push(depends(number, &[before])?);
    }
    let (first, others) = tickets.split_first().context("the first")?;
    run(config, client, load, first, others).await.map(|ms| ms / LEVELS as f64)
}

/// Milliseconds from the start of one ticket, over all that wait for it, to the end of one that waits for all of those.
async fn fan(config: &Config, client: &Client, load: &Load) -> anyhow::Result<f64> {
    let root = ticket(0)?;
    let root_id = std::slice::from_ref(&root.ticket_id);
    let mut others = (0..FAN).map(|number| depends(number, root_id)).collect::<anyhow::Result<Vec<_>>>()?;
    let all: Vec<_> = others.iter().map(|ticket| ticket.ticket_id.clone()).collect();
    others.push(depends(0, &all)?);
    run(config, client, load, &root, &others).await
}

/// Publishes `others`, which wait, then `first`: milliseconds from its start to the end of the last.
async fn run(config: &Config, client: &Client, load: &Load, first: &Ticket, others: &[Ticket]) -> anyhow::Result<f64> {
    let topic = &config.kafka.tickets_topic;
    load.publish(topic, &records(others)).await?;
    tokio::time::sleep(SETTLE).await;
    load.publish(topic, &[record(first)]).await?;
    let last = closed(client, others.last().context("the last")?).await?;
    let ended = last.last().and_then(|event| event.event_time).context("no closing event")?;
    let ended = UNIX_EPOCH + Duration::new(u64::try_from(ended.seconds)?, u32::try_from(ended.nanos)?);
    let started = history::started_at(client, &workflow_id(first.ticket_id.as_str())).await?;
    Ok(ended.duration_since(started)?.as_secs_f64() * 1000.0)
}

/// The history of a ticket's workflow, once that has closed. It may not have been started yet.
async fn closed(client: &Client, ticket: &Ticket) -> anyhow::Result<Vec<HistoryEvent>> {
    let workflow_id = workflow_id(ticket.ticket_id.as_str());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match history::of_closed(client, &workflow_id).await {
            Ok(history) => return Ok(history),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn time(history: &[HistoryEvent], is: impl Fn(&Attributes) -> bool) -> anyhow::Result<SystemTime> {
    let event = history.iter().find(|event| event.attributes.as_ref().is_some_and(&is)).context("no such event")?;
    let time = event.event_time.context("an event without its time")?;
    Ok(UNIX_EPOCH + Duration::new(u64::try_from(time.seconds)?, u32::try_from(time.nanos)?))
}
