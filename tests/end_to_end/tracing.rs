//! Traces: one for each ticket, from its producer's span to its result, as a collector sees them; and what becomes of tickets
//! while that is away.

#[expect(dead_code, reason = "shared with tests of the exporter alone")]
#[path = "../support/collector.rs"]
pub(crate) mod collector;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::collector::{Collector, Seen};
use crate::ticket_service::ticket_service;
use crate::world::{Record, WORKER, World, cli, eventually};

const CONSUME: &str = "kafka.consume.execution.tickets";
const PRODUCE: &str = "kafka.produce.execution.results";
const UPDATE: &str = "execution_ticket_service.update_ticket_status";

/// A trace of a producer, by a digit of its own.
fn trace_id(n: u8) -> String {
    format!("{n:032x}")
}

const PRODUCER: &str = "00f067aa0ba902b7";

fn traceparent(n: u8, flags: &str) -> String {
    format!("00-{}-{PRODUCER}-{flags}", trace_id(n))
}

async fn publish(world: &World, ticket: &Value, headers: &[(&str, &str)]) {
    world.publish_to("execution.tickets", "key", Some(ticket.to_string().as_bytes()), headers).await;
}

/// The spans of a trace, once so many of this name are there.
async fn spans(collector: &Collector, trace: &str, name: &str, count: usize) -> Vec<Seen> {
    eventually(&format!("{count} {name} in trace {trace}"), || {
        let spans: Vec<Seen> = collector.spans().into_iter().filter(|span| span.trace == trace).collect();
        (spans.iter().filter(|span| span.name == name).count() >= count).then_some(spans)
    })
    .await
}

fn named<'a>(spans: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn one<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let [span] = named(spans, name)[..] else { panic!("one {name}: {spans:?}") };
    span
}

/// Every span hangs together: each has an id of its own, and a parent that is there, but for the one of `producer`.
fn hangs_together(spans: &[Seen], producer: &str) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:?}");
    for span in spans {
        let outside = span.name == CONSUME && span.parent == producer;
        assert!(outside || ids.contains(span.parent.as_str()), "{span:?} hangs on nothing of {spans:?}");
    }
}

fn record(world: &World, name: &str) -> Record {
    let id = world.ticket_id(name);
    let records = world.topic("execution.results");
    records.into_iter().find(|record| record.key.as_deref() == Some(&id)).expect("a result")
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_04_one_ticket_is_one_trace_from_its_producers_span_to_its_result() {
    let world = World::new().await;
    let (collector, url) = Collector::start().await;
    let (service, service_url, _stop) = ticket_service().await;
    service.know_all();
    let mut worker = world
        .worker(&[
            ("OTEL_EXPORTER_ENDPOINT", &url),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("EXECUTION_TICKET_SERVICE_URL", &service_url),
            ("RETRY_BACKOFF_BASE_SECONDS", "0.1"),
        ])
        .await;
    // The first attempt outlives its time-out, which is retried.
    let mut retried = world.ticket_in("kept", "retried", "sleep 0.2; [ -e once ] || { touch once; sleep 60; }");
    retried["sla"]["max_retries"] = json!(1);
    retried["sla"]["timeout_ms"] = json!(2_000);
    let baggage = ("baggage", "neural.hive.plan.id=plan");
    let cases = [
        (1, "completed", world.ticket("completed", "sleep 0.2; echo hunter2"), 1, ""),
        (2, "failed", world.ticket("failed", "sleep 0.2; exit 3"), 1, "execution_failed"),
        (3, "retried", retried, 2, ""),
    ];
    for (n, _, ticket, _, _) in &cases {
        publish(&world, ticket, &[("traceparent", &traceparent(*n, "01")), baggage]).await;
    }
    for (n, name, _, attempts, error) in &cases {
        let (n, trace, error) = (*n, trace_id(*n), *error);
        let result = world.result(name).await;
        assert_eq!(result["status"], if error.is_empty() { "COMPLETED" } else { "FAILED" }, "{result}");
        let spans = spans(&collector, &trace, "ticket_execution", 1).await;
        hangs_together(&spans, PRODUCER);
        let consumed = one(&spans, CONSUME);
        assert_eq!((consumed.parent.as_str(), consumed.kind), (PRODUCER, 5), "{n}");
        assert_eq!(consumed.attribute("neural.hive.disposition"), "started");
        let ticket = one(&spans, "ticket_execution");
        assert_eq!((&ticket.parent, ticket.failed), (&consumed.id, !error.is_empty()));
        for (key, value) in [
            ("neural.hive.ticket_id", world.ticket_id(name).as_str()),
            ("neural.hive.task_type", "EXECUTE"),
            ("neural.hive.plan_id", "plan"),
            ("neural.hive.intent_id", "intent"),
            ("error.type", error),
        ] {
            assert_eq!(ticket.attribute(key), value, "{key} of {ticket:?}");
        }
        let runs = named(&spans, "task_execution");
        assert_eq!(runs.len(), *attempts, "{spans:?}");
        for (at, run) in runs.iter().enumerate() {
            assert_eq!((&run.parent, run.attribute("neural.hive.attempt")), (&ticket.id, &*(at + 1).to_string()));
            assert!(run.nanos >= 200_000_000, "{run:?}");
        }
        let last = if error.is_empty() { "success" } else { "failed" };
        let statuses: Vec<&str> = runs.iter().map(|run| run.attribute("neural.hive.execution_status")).collect();
        assert_eq!(statuses, if *attempts == 1 { vec![last] } else { vec!["timeout", last] });
        // The service hears RUNNING within each attempt, and the end within the ticket.
        let updates: Vec<&str> = named(&spans, UPDATE).iter().map(|update| update.parent.as_str()).collect();
        assert_eq!(updates.len(), attempts + 1, "{spans:?}");
        assert!(updates.contains(&&*ticket.id) && runs.iter().all(|run| updates.contains(&&*run.id)), "{spans:?}");
        let mut told = service.traceparents(&world.ticket_id(name));
        let mut made: Vec<String> =
            named(&spans, UPDATE).iter().map(|update| format!("00-{trace}-{}-01", update.id)).collect();
        told.sort();
        made.sort();
        assert_eq!(told, made, "outgoing calls carry the span that they are");
        let produced = one(&spans, PRODUCE);
        assert_eq!((&produced.parent, produced.kind), (&ticket.id, 4));
        let result = record(&world, name);
        assert_eq!(result.header("traceparent"), Some(&*format!("00-{trace}-{}-01", produced.id)));
        assert_eq!(result.header("baggage"), Some(baggage.1));
    }

    // What is not sampled is passed on and not exported.
    let unsampled = traceparent(4, "00");
    publish(&world, &world.ticket("unsampled", "sleep 0.2"), &[("traceparent", &unsampled)]).await;
    world.result("unsampled").await;
    assert_eq!(record(&world, "unsampled").header("traceparent"), Some(&*unsampled));
    // One without a trace begins one; a duplicate of a ticket and a dead letter belong to their producer's.
    publish(&world, &world.ticket("plain", "true"), &[]).await;
    publish(&world, &cases[0].2, &[("traceparent", &traceparent(5, "01"))]).await;
    publish(&world, &json!({ "ticket_id": "x" }), &[("traceparent", &traceparent(6, "01"))]).await;
    world.result("plain").await;
    let header = record(&world, "plain").header("traceparent").expect("a trace of its own").to_owned();
    let begun = spans(&collector, &header[3..35], "ticket_execution", 1).await;
    hangs_together(&begun, "");
    for (n, disposition, failed) in [(5, "duplicate", false), (6, "dead_lettered", true)] {
        let spans = spans(&collector, &trace_id(n), CONSUME, 1).await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((span.attribute("neural.hive.disposition"), span.failed), (disposition, failed));
        assert_eq!(span.parent, PRODUCER);
    }
    let told = service.traceparents(&world.ticket_id("unsampled"));
    assert!(!told.is_empty() && told.iter().all(|trace| *trace == unsampled), "{told:?}");
    assert!(collector.spans().iter().all(|span| span.trace != trace_id(4)), "not exported");

    // INC-95: nothing of what a ticket wants done is in a span; log lines of an attempt name its trace.
    assert!(!format!("{:?}", collector.spans()).contains("hunter2"));
    let started = |line: &&str| line.contains("attempt_started") && line.contains(&world.ticket_id("completed"));
    let log = worker.log();
    let line: Value = serde_json::from_str(log.lines().find(started).expect("a line")).expect("JSON");
    assert_eq!(line["span"]["trace_id"], json!(trace_id(1)), "{line}");
    worker.signal("-TERM");
    assert!(worker.child.wait().expect("ended").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_04_without_export_the_ticket_service_hears_of_the_producers_span() {
    let world = World::new().await;
    let (service, service_url, _stop) = ticket_service().await;
    service.know_all();
    let _worker = world.worker(&[("EXECUTION_TICKET_SERVICE_URL", &service_url)]).await;
    let parent = traceparent(1, "01");
    publish(&world, &world.ticket("traced", "sleep 0.2"), &[("traceparent", &parent)]).await;
    world.result("traced").await;
    let told = eventually("RUNNING and the end are told", || {
        Some(service.traceparents(&world.ticket_id("traced"))).filter(|told| told.len() >= 2)
    })
    .await;
    assert!(told.iter().all(|told| *told == parent), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_slow_costs_no_ticket_and_is_told_once() {
    let world = World::new().await;
    let (collector, url) = Collector::start().await;
    collector.set_silent(true);
    let mut worker = world
        .worker(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ])
        .await;
    let completed = async |names: std::ops::Range<usize>| {
        for n in names.clone() {
            world.publish(&world.ticket(&n.to_string(), "true")).await;
        }
        for n in names {
            assert_eq!(world.result(&n.to_string()).await["status"], "COMPLETED");
        }
    };
    completed(0..20).await;
    worker.reaches("worker_agent_trace_spans_total{outcome=\"failed\"}", 2.0).await;
    worker.reaches("worker_agent_trace_spans_total{outcome=\"dropped\"}", 1.0).await;
    assert_eq!(worker.log().matches("trace_collector_away").count(), 1);
    assert_eq!((worker.get("/health").await.0, worker.get("/ready").await.0), (200, 200));

    collector.set_silent(false);
    completed(20..25).await;
    eventually("it answers again", || worker.log().contains("trace_collector_answers").then_some(())).await;

    // It is silent at the end, too: that is bounded.
    collector.set_silent(true);
    completed(25..26).await;
    let told = Instant::now();
    worker.signal("-TERM");
    assert!(worker.child.wait().expect("ended").success());
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_04_the_collector_receives_one_trace_for_each_ticket_of_the_demo() {
    let (collector, url) = Collector::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let mut demo = Command::new(WORKER);
    demo.arg("demo")
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", cli().parent().expect("a folder").display()))
        .env("OTEL_EXPORTER_ENDPOINT", url)
        .current_dir(folder.path());
    let ended = tokio::task::spawn_blocking(move || demo.output().expect("the demo runs")).await.expect("join");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));

    let mut traces: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for span in collector.spans() {
        let spans = traces.entry(span.trace.clone()).or_default();
        // On a busy machine a report is made again when its workflow task was lost. The ticket's span has the same id then, and is one
        // to whoever keeps spans; the result goes out again.
        if spans.iter().all(|known| known.id != span.id) {
            spans.push(span);
        }
    }
    let mut tickets = BTreeSet::new();
    for spans in traces.values() {
        let ticket = one(spans, "ticket_execution");
        assert!(tickets.insert(ticket.attribute("neural.hive.ticket_id").to_owned()), "two traces of {ticket:?}");
        assert!(!named(spans, PRODUCE).is_empty(), "no result of {ticket:?}");
        let started =
            named(spans, CONSUME).into_iter().find(|span| span.attribute("neural.hive.disposition") == "started");
        hangs_together(spans, &started.expect("a start").parent);
    }
    // Nine that stand alone, one published twice, one of a collision, four that depend on each other, one without executor.
    assert_eq!(tickets.len(), 16, "{said}");
}
