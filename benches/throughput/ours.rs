//! The product's own code, in this process.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prometheus::core::Metric as _;
use rdkafka::Message as _;
use temporalio_client::Client;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use ticket_workflows::{RecordPosition, TraceContext};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker_agents::bridge::decision::Decision;
use worker_agents::bridge::{self, BridgeParts, Gate, Provenance, Starter};
use worker_agents::cli::TopicFollower;
use worker_agents::config::Config;
use worker_agents::health::Health;
use worker_agents::kafka::Clients;
use worker_agents::metrics::Metrics;
use worker_agents::registry::RegistryClient;
use worker_agents::spans::Spans;
use worker_agents::worker::{self, WorkerOptions};

use crate::history;
use crate::latency::{open_loop, until_started};
use crate::load::{Load, Record, ticket};
use crate::meter::{Meter, Sample};
use crate::stack::PARTITIONS;

/// Longest time one run may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tickets a second, from the first record's publication to the last result record, by a worker of its own. `first`
/// others go before.
pub(crate) async fn end_to_end(
    config: &Config,
    load: &Load,
    meter: &Meter,
    first: usize,
    count: usize,
) -> anyhow::Result<Sample> {
    with_worker(config, async {
        run_to_results(config, load, &load.records(first)?).await?;
        let records = load.records(count)?;
        meter.rate(count, run_to_results(config, load, &records)).await
    })
    .await
}

/// The history of one ticket.
pub(crate) async fn one_history(config: &Config, client: &Client, load: &Load) -> anyhow::Result<Vec<HistoryEvent>> {
    with_worker(config, async {
        let records = load.records(1)?;
        let (ticket_id, _) = records.first().context("no ticket")?;
        run_to_results(config, load, &records).await?;
        history::of_closed(client, &ticket_workflows::workflow_id(ticket_id)).await
    })
    .await
}

/// Runs the whole worker beside `work`.
pub(crate) async fn with_worker<T>(
    config: &Config,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let worker = worker::start(config.clone(), WorkerOptions { noop_runtime: true }).await?;
    let health = worker.health.clone();
    let mut done = None;
    worker
        .run_until(async {
            health.wait_ready().await;
            done = Some(work.await);
        })
        .await?;
    done.context("the worker ended by itself")?
}

/// Publishes tickets and waits until each has its result.
async fn run_to_results(config: &Config, load: &Load, records: &[Record]) -> anyhow::Result<()> {
    let results = follow(config, records).await?;
    load.publish(&config.kafka.tickets_topic, records).await?;
    tokio::time::timeout(PATIENCE, results).await.context("not every result came")??
}

/// Waits, in a task of its own, until each ticket has its result.
async fn follow(config: &Config, records: &[Record]) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let follower = TopicFollower::from_now(&config.kafka, &config.kafka.results_topic).await?;
    let mut open: HashSet<Vec<u8>> = records.iter().map(|(key, _)| key.clone().into_bytes()).collect();
    // The caller's task runs both workers.
    Ok(tokio::spawn(async move {
        while !open.is_empty() {
            let message = follower.next().await?;
            open.remove(message.key().unwrap_or_default());
        }
        Ok(())
    }))
}

/// How long `count` tickets waited, from being handed to the producer to their workflow's first event, while a worker of
/// its own runs them. Others go before.
pub(crate) async fn appended_to_started(
    config: &Config,
    client: &Client,
    load: &Load,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    with_worker(config, async {
        // Connections are made, schemas fetched, caches filled.
        run_to_results(config, load, &load.records(2 * PARTITIONS as usize)?).await?;
        let records: Arc<[Record]> = load.records(count)?.into();
        let follower = follow(config, &records).await?;
        let appended = open_loop(count, |number| {
            let (load, topic, records) = (load.clone(), config.kafka.tickets_topic.clone(), Arc::clone(&records));
            async move {
                let record = records.get(number).context("no such ticket")?;
                load.append(&topic, number as i32 % PARTITIONS, record).await?;
                Ok(ticket_workflows::workflow_id(&record.0))
            }
        })
        .await?;
        // Nothing else is asked of the server meanwhile.
        tokio::time::timeout(PATIENCE, follower).await.context("not every result came")???;
        until_started(client, appended).await
    })
    .await
}

/// What the window did to starts at full load.
pub(crate) struct StartTimes {
    /// The 99th percentile in milliseconds, within the bucket it is in; infinite beyond the last one.
    pub(crate) p99_ms: f64,
    /// Part of the starts that took 150 ms or less.
    pub(crate) within_150_ms: f64,
    /// Mean, in seconds.
    pub(crate) mean: f64,
}

/// The histogram of start durations at one moment.
struct Durations {
    count: f64,
    sum: f64,
    /// Upper bound and cumulative count of each bucket.
    buckets: Vec<(f64, f64)>,
}

impl Durations {
    fn of(metrics: &Metrics) -> Self {
        let metric = metrics.start_duration.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        Self {
            count: histogram.get_sample_count() as f64,
            sum: histogram.get_sample_sum(),
            buckets: buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count() as f64)).collect(),
        }
    }
}

impl StartTimes {
    /// Of the starts between two moments.
    fn between(before: &Durations, after: &Durations) -> Self {
        let all = after.count - before.count;
        let (mut p99_ms, mut within_150_ms) = (f64::INFINITY, f64::NAN);
        let (mut lower, mut below) = (0.0, 0.0);
        for ((bound, count), (_, earlier)) in after.buckets.iter().zip(&before.buckets) {
            let count = count - earlier;
            if p99_ms.is_infinite() && count >= 0.99 * all {
                p99_ms = 1000.0 * (lower + (bound - lower) * (0.99 * all - below) / (count - below));
            }
            if (bound - 0.15).abs() < 1e-9 {
                within_150_ms = count / all;
            }
            (lower, below) = (*bound, count);
        }
        Self { p99_ms, within_150_ms, mean: (after.sum - before.sum) / all }
    }
}

/// Starts a second of a whole bridge that finds `first + count` tickets in its topic, from the `first`th start to the last:
/// what an assignment costs is no matter of throughput. Nobody polls the task queue.
pub(crate) async fn bridge_starts(
    config: &Config,
    client: &Client,
    meter: &Meter,
    first: usize,
    count: usize,
) -> anyhow::Result<(Sample, StartTimes)> {
    let metrics = Arc::new(Metrics::new()?);
    let health = Health::default();
    let stop = CancellationToken::new();
    let url = config.kafka.schema_registry_url.as_deref().context("no registry is configured")?;
    let kafka = Clients::new(&config.kafka)?;
    let parts = BridgeParts {
        spans: Spans::default(),
        client: client.clone(),
        retention: None,
        producer: kafka.producer()?,
        kafka,
        registry: Some(Arc::new(RegistryClient::new(url)?)),
        gate: Gate::new(&config.bridge, Arc::clone(&metrics)),
        metrics: Arc::clone(&metrics),
        health: health.clone(),
    };
    let started = metrics.records.with_label_values(&["started"]);
    let until = async |goal: usize| {
        let reached = async {
            while started.get() < goal as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.context("not every ticket was started")
    };
    let measured = async {
        until(first).await?;
        let before = Durations::of(&metrics);
        let measured = meter.rate(count, until(first + count)).await;
        let times = StartTimes::between(&before, &Durations::of(&metrics));
        stop.cancel();
        anyhow::Ok((measured?, times))
    };
    let (ran, measured) = tokio::join!(bridge::run(config, parts, stop.clone()), measured);
    ran?;
    measured
}

/// Durations of `count` start calls of the bridge, `in_flight` at once.
pub(crate) async fn start_calls(
    config: &Config,
    client: &Client,
    count: usize,
    in_flight: usize,
) -> anyhow::Result<Vec<Duration>> {
    let starter = Arc::new(Starter::new(
        client.clone(),
        config.temporal.task_queue.clone(),
        config.identity.agent_id.clone(),
        config.bridge.policy.clone(),
    ));
    let tickets = (0..count).map(ticket).collect::<anyhow::Result<Vec<_>>>()?;
    stream::iter(tickets.into_iter().enumerate())
        .map(|(number, ticket)| {
            let (starter, topic) = (Arc::clone(&starter), config.kafka.tickets_topic.clone());
            let task = tokio::spawn(async move {
                let position = RecordPosition { topic, partition: 0, offset: i64::try_from(number)? };
                let provenance =
                    Provenance { position, written_at_ms: None, redrive: false, trace: TraceContext::default() };
                let asked = Instant::now();
                let decision = starter.start(&ticket, &provenance).await;
                anyhow::ensure!(matches!(decision, Decision::Started { .. }), "{decision:?}");
                Ok(asked.elapsed())
            });
            async { task.await? }
        })
        .buffer_unordered(in_flight)
        .try_collect()
        .await
}
