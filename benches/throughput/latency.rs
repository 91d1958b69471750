//! How long starts take: one call among a few, and from a record's publication to its workflow when nothing is busy.

use std::time::{Duration, SystemTime};

use serde_json::json;
use temporalio_client::Client;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;
use worker_agents::config::Config;

use crate::bare::BareStarter;
use crate::compare::rounds;
use crate::load::Load;
use crate::meter::Sample;
use crate::report::{Better, Reporter, rounded};
use crate::stack::Stack;
use crate::{history, ours};

/// Start calls of one run.
const CALLS: usize = 400;
/// Start calls in flight.
pub(crate) const CALLS_IN_FLIGHT: usize = 8;

/// Tickets a second of the open loop: far below what a server can start.
pub(crate) const RATE: u32 = 30;
/// Tickets of one run of the open loop: ten seconds.
const APPENDED: usize = 300;
/// What is promised at that rate on an otherwise idle machine, in milliseconds: p50 and p99.
const TARGETS: (f64, f64) = (40.0, 150.0);

/// The start call alone.
pub(crate) async fn start_latency(
    stack: &Stack,
    client: &Client,
    starter: impl Fn(&str) -> BareStarter,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let (mut bare_tail, mut tail) = (0.0_f64, 0.0_f64);
    let comparison = rounds(
        "start_latency_ms",
        async |number| {
            let starter = starter(&format!("nobody-bare-call-{number}"));
            let (p50, p99) = percentiles(starter.starts(CALLS, CALLS_IN_FLIGHT).await?);
            bare_tail = bare_tail.max(p99);
            Ok(Sample { value: p50, cpu: None })
        },
        async |number| {
            let queue = format!("nobody-call-{number}");
            let topic = format!("bench.calls.{number}");
            let config = stack.config(&[("TEMPORAL_TASK_QUEUE", &queue), ("KAFKA_TICKETS_TOPIC", &topic)])?;
            let (p50, p99) = percentiles(ours::start_calls(&config, client, CALLS, CALLS_IN_FLIGHT).await?);
            tail = tail.max(p99);
            Ok(Sample { value: p50, cpu: None })
        },
    )
    .await?;
    // Median of the p50 of each run; worst p99 of all runs.
    let more = json!({ "p50": rounded(comparison.ours), "p99": rounded(tail), "bare_p99": rounded(bare_tail) });
    reporter.figure("start_latency_ms", "ms", Better::Lower, &comparison, more);
    Ok(())
}

/// From the moment a ticket is handed to the producer to the time of its workflow's first event, at [`RATE`]; the whole
/// worker runs, and runs the tickets. Bare: from asking for a start to the first event, at the same rate.
pub(crate) async fn append_to_start(
    config: &Config,
    client: &Client,
    load: &Load,
    starter: impl Fn(&str) -> BareStarter,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let (mut all, mut bare_all) = (Vec::new(), Vec::new());
    let comparison = rounds(
        "append_to_start_ms",
        async |number| {
            let starter = starter(&format!("nobody-open-loop-{number}"));
            let waited = bare_open_loop(client, &starter).await?;
            bare_all.extend_from_slice(&waited);
            Ok(Sample { value: percentiles(waited).0, cpu: None })
        },
        async |_| {
            let waited = ours::appended_to_started(config, client, load, APPENDED).await?;
            all.extend_from_slice(&waited);
            Ok(Sample { value: percentiles(waited).0, cpu: None })
        },
    )
    .await?;
    // Of the tickets of all runs.
    let ((p50, p99), (bare_p50, bare_p99)) = (percentiles(all), percentiles(bare_all));
    let more = json!({
        "rate": RATE,
        "p50": rounded(p50),
        "p99": rounded(p99),
        "bare_p50": rounded(bare_p50),
        "bare_p99": rounded(bare_p99),
        "target_p50": TARGETS.0,
        "target_p99": TARGETS.1,
        "met": p50 <= TARGETS.0 && p99 <= TARGETS.1,
    });
    reporter.figure("append_to_start_ms", "ms", Better::Lower, &comparison, more);
    Ok(())
}

async fn bare_open_loop(client: &Client, starter: &BareStarter) -> anyhow::Result<Vec<Duration>> {
    let asked = open_loop(APPENDED, |_| {
        let (starter, workflow_id) = (starter.clone(), format!("bare-{}", Uuid::new_v4()));
        async move {
            starter.start(workflow_id.clone()).await?;
            Ok(workflow_id)
        }
    })
    .await?;
    until_started(client, asked).await
}

/// Begins `count` pieces of work at [`RATE`], whether or not those before have ended. When each was begun, and what it
/// came to.
pub(crate) async fn open_loop<W>(
    count: usize,
    mut work: impl FnMut(usize) -> W,
) -> anyhow::Result<Vec<(SystemTime, String)>>
where
    W: Future<Output = anyhow::Result<String>> + Send + 'static,
{
    let mut clock = tokio::time::interval(Duration::from_secs(1) / RATE);
    // The rate is kept when this task is late.
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut begun = JoinSet::new();
    for number in 0..count {
        clock.tick().await;
        let (now, work) = (SystemTime::now(), work(number));
        begun.spawn(async move { anyhow::Ok((now, work.await?)) });
    }
    begun.join_all().await.into_iter().collect()
}

/// How long each workflow's first event came after its moment. One clock: the server is on this machine.
pub(crate) async fn until_started(client: &Client, asked: Vec<(SystemTime, String)>) -> anyhow::Result<Vec<Duration>> {
    let mut waited = Vec::with_capacity(asked.len());
    for (moment, workflow_id) in asked {
        waited.push(history::started_at(client, &workflow_id).await?.duration_since(moment)?);
    }
    Ok(waited)
}

/// p50 and p99, in milliseconds.
pub(crate) fn percentiles(mut durations: Vec<Duration>) -> (f64, f64) {
    durations.sort_unstable();
    let at = |fraction: usize| durations.get(durations.len() * fraction / 100).map_or(0.0, Duration::as_secs_f64);
    (at(50) * 1000.0, at(99) * 1000.0)
}
