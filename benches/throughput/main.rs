//! `make bench`: the product against a bare loop of the same SDK, on one server, in one run.
//!
//! Both loops run in this process, one after the other, with one connection each, the same slots, pollers, cache and
//! payload sizes, workflow and activity on one task queue, and eager activity starts. Absolute figures are the machine's;
//! the ratios are the product's.
//!
//! `SERVER=postgres` measures on a durable Temporal server instead of the dev server, `KAFKA=real` on Apache Kafka instead of
//! the embedded one. Words on the command line are figures to measure, instead of all: `make bench FIGURES=bridge_starts`.

mod bare;
mod compare;
mod decode;
mod dependencies;
mod history;
#[path = "../../tests/support/instance.rs"]
mod instance;
mod latency;
mod load;
mod local;
mod meter;
mod ours;
mod report;
mod stack;

use std::fs::File;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use temporalio_client::Client;
use temporalio_common::protos::temporal::api::common::v1::SearchAttributes;
use worker_agents::config::Config;
use worker_agents::{logging, temporal};

use bare::{Bare, BareStarter};
use compare::{median, rounds};
use history::PayloadSizes;
use load::Load;
use meter::{Meter, Sample};
use report::{Better, Reporter, rounded};
use stack::{Choice, PARTITIONS, Stack};

/// Tickets open at once, in both loops: `MAX_CONCURRENT_TICKETS`.
const OPEN: usize = 64;
/// Activity slots, in both loops: `MAX_CONCURRENT_TASKS`.
const TASKS: usize = 64;
/// Starts in flight while the bare loop's starts are measured: as many as the window settles at on two cores.
const STARTING: usize = 8;
/// Tickets of one end-to-end run.
const END_TO_END: usize = 400;
/// Tickets of one run of starts.
const STARTS: usize = 600;
/// Those that go before: the window finds its size with them.
const FIRST_STARTS: usize = 100;
/// Every figure.
const FIGURES: [&str; 8] = [
    "history_events_simple_ticket",
    "ticket_end_to_end",
    "bridge_starts",
    "start_latency_ms",
    "append_to_start_ms",
    "dependency_release_ms",
    "local_executor_overhead_ms",
    "decode_rate",
];

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The figures named on the command line, all when none is.
fn wanted() -> anyhow::Result<Vec<String>> {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = named.iter().find(|name| !FIGURES.contains(&name.as_str())) {
        anyhow::bail!("{unknown:?} is no figure; there are {}", FIGURES.join(", "));
    }
    Ok(if named.is_empty() { FIGURES.map(str::to_owned).to_vec() } else { named })
}

fn choice() -> anyhow::Result<Choice> {
    #[expect(clippy::disallowed_methods, reason = "settings of the bench, not of the product")]
    let variable = |name| std::env::var(name).unwrap_or_default();
    Choice::of(&variable("SERVER"), &variable("KAFKA"))
}

fn run() -> anyhow::Result<()> {
    let (wanted, choice) = (wanted()?, choice()?);
    log_to_nowhere()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stack = Stack::start(&choice).await?;
        let measured = measure(&stack, &wanted).await;
        stack.stop().await;
        measured
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Log lines are written as in production, and go nowhere: what they cost is the product's cost.
fn log_to_nowhere() -> anyhow::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null").context("/dev/null cannot be opened")?;
    tracing_subscriber::fmt()
        .with_env_filter(logging::filter("INFO")?)
        .with_writer(Mutex::new(nowhere))
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("no log subscriber: {error}"))
}

async fn measure(stack: &Stack, wanted: &[String]) -> anyhow::Result<()> {
    let (open, tasks) = (OPEN.to_string(), TASKS.to_string());
    let config = stack.config(&[
        ("MAX_CONCURRENT_TICKETS", &open),
        ("CONSUMER_PAUSE_THRESHOLD", "1"),
        ("CONSUMER_RESUME_THRESHOLD", "1"),
        ("MAX_CONCURRENT_TASKS", &tasks),
        ("TEMPORAL_TASK_QUEUE", "bench"),
    ])?;
    let client = temporal::connect(&config).await?;
    let load = Load::new(&config.kafka).await?;
    let reporter = Reporter::new(stack.server_name(&client).await?);

    let history = ours::one_history(&config, &client, &load).await?;
    let sizes = PayloadSizes::of(&history);
    let attributes = history::search_attributes(&history);
    let attributes = attributes.as_ref();
    reporter.limits(&limits(stack, &config, sizes, attributes)?);
    let bare = Bare::new(&config, &client, sizes)?;
    let starter = |queue: &str| BareStarter::new(client.clone(), queue, sizes).with(attributes);
    for figure in wanted {
        match figure.as_str() {
            "history_events_simple_ticket" => {
                let events = (history.len(), bare.one_history().await?.len()).into();
                reporter.figure(figure, "events", Better::Lower, &events, json!({}));
            }
            "ticket_end_to_end" => end_to_end(&config, &load, &bare, attributes, &stack.meter()?, &reporter).await?,
            "bridge_starts" => bridge_starts(stack, &client, &load, starter, &reporter).await?,
            "start_latency_ms" => latency::start_latency(stack, &client, starter, &reporter).await?,
            "append_to_start_ms" => latency::append_to_start(&config, &client, &load, starter, &reporter).await?,
            "dependency_release_ms" => dependencies::measure(&config, &client, &load, &reporter).await?,
            "local_executor_overhead_ms" => local::executor_overhead(&config, &reporter).await?,
            _ => decode_rate(&reporter).await?,
        }
    }
    Ok(())
}

fn limits(
    stack: &Stack,
    config: &Config,
    sizes: PayloadSizes,
    attributes: Option<&SearchAttributes>,
) -> anyhow::Result<serde_json::Value> {
    Ok(json!({
        "kafka": stack.kafka_name()?,
        "MAX_CONCURRENT_TICKETS": OPEN,
        "MAX_CONCURRENT_TASKS": TASKS,
        "partitions": PARTITIONS,
        "window_per_partition": "adapts to start latency",
        "open_end_to_end": OPEN,
        "bare_starts_in_flight": STARTING,
        "start_calls_in_flight": latency::CALLS_IN_FLIGHT,
        "open_loop_rate": latency::RATE,
        "connections": 1,
        "grpc_compression": if config.temporal.compressed { "gzip" } else { "none" },
        "payload_bytes": {
            "input": sizes.input,
            "activity_input": sizes.activity_input,
            "activity_result": sizes.activity_result,
            "result": sizes.result,
        },
        "search_attributes": attributes.map_or(0, |attributes| attributes.indexed_fields.len()),
        "queue_split": "none: workflow and activity on one task queue",
        "eager_activity_start": true,
        "eager_workflow_start": false,
        "log": "INFO, JSON, to /dev/null",
        "rounds": "bare, ours, bare; median of 3",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    }))
}

async fn end_to_end(
    config: &Config,
    load: &Load,
    bare: &Bare,
    attributes: Option<&SearchAttributes>,
    meter: &Meter,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let (starter, plain_starter) = (bare.starter().with(attributes), bare.starter());
    let mut plain = Vec::new();
    let comparison = rounds(
        "ticket_end_to_end",
        async |_| bare.end_to_end(&starter, meter, OPEN, END_TO_END).await,
        async |_| {
            let sample = ours::end_to_end(config, load, meter, OPEN, END_TO_END).await?;
            plain.push(bare.end_to_end(&plain_starter, meter, OPEN, END_TO_END).await?.value);
            Ok(sample)
        },
    )
    .await?;
    let more = json!({ "bare_without_search_attributes": rounded(median(plain)) });
    reporter.figure("ticket_end_to_end", "tickets/s", Better::Higher, &comparison, more);
    Ok(())
}

async fn bridge_starts(
    stack: &Stack,
    client: &Client,
    load: &Load,
    starter: impl Fn(&str) -> BareStarter,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let meter = stack.meter()?;
    let (mut plain, mut calls_alone) = (Vec::new(), Vec::new());
    let (mut tails, mut within, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
    let comparison = rounds(
        "bridge_starts",
        async |number| {
            let starter = starter(&format!("nobody-bare-{number}"));
            meter.rate(STARTS, async { starter.starts(STARTS, STARTING).await.map(drop) }).await
        },
        async |number| {
            let topic = format!("bench.starts.{number}");
            stack.create_topic(&topic, PARTITIONS)?;
            // Every record is there before the bridge comes, and as many again: no partition is at its end while another
            // one is measured.
            load.publish(&topic, &load.records(2 * (FIRST_STARTS + STARTS))?).await?;
            let fetch_wait = if stack.kafka_is_embedded() { "100" } else { "500" };
            let config = stack.config(&[
                ("KAFKA_TICKETS_TOPIC", &topic),
                ("KAFKA_CONSUMER_GROUP_ID", &topic),
                ("TEMPORAL_TASK_QUEUE", &format!("nobody-{number}")),
                ("MAX_CONCURRENT_TICKETS", "100000"),
                ("KAFKA_FETCH_WAIT_MAX_MS", fetch_wait),
            ])?;
            let (sample, times) = ours::bridge_starts(&config, client, &meter, FIRST_STARTS, STARTS).await?;
            tails.push(times.p99_ms);
            within.push(times.within_150_ms);
            // Little's law.
            in_flight.push(times.mean * sample.value);
            let calls = async { ours::start_calls(&config, client, STARTS, STARTING).await.map(drop) };
            calls_alone.push(meter.rate(STARTS, calls).await?.value);
            let starter = starter(&format!("nobody-plain-{number}")).with(None);
            let starts = async { starter.starts(STARTS, STARTING).await.map(drop) };
            plain.push(meter.rate(STARTS, starts).await?.value);
            Ok(sample)
        },
    )
    .await?;
    // `start_calls_alone`: the bridge's requests without Kafka, gate and commits. Of the starts under this load, which the
    // window is to keep quick: the worst run.
    let more = json!({
        "start_p99_ms": rounded(tails.into_iter().fold(0.0, f64::max)),
        "starts_within_150_ms": rounded(within.into_iter().fold(1.0, f64::min)),
        "starts_in_flight": rounded(median(in_flight)),
        "start_calls_alone": rounded(median(calls_alone)),
        "bare_without_search_attributes": rounded(median(plain)),
    });
    reporter.figure("bridge_starts", "starts/s", Better::Higher, &comparison, more);
    Ok(())
}

async fn decode_rate(reporter: &Reporter) -> anyhow::Result<()> {
    let of = |value| Ok(Sample { value, cpu: None });
    let samples = decode::Samples::new()?;
    let comparison = rounds("decode_rate", async |_| of(samples.bare()?), async |_| of(samples.ours()?)).await?;
    let more = json!({ "avro_bytes": samples.avro_bytes(), "json_bytes": samples.json_bytes() });
    reporter.figure("decode_rate", "tickets/s", Better::Higher, &comparison, more);
    Ok(())
}
