//! Which spans are made, and their way to a collector of these tests.

use std::time::{Instant, SystemTime};

use super::*;
use crate::config::MapSource;
use crate::test_collector::Collector as Peer;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn parent(traceparent: &str) -> TraceContext {
    TraceContext { traceparent: Some(traceparent.to_owned()), baggage: Some("a=b".to_owned()), tracestate: None }
}

struct Made {
    spans: Spans,
    metrics: Arc<Metrics>,
}

impl Made {
    fn of(settings: &[(&str, &str)]) -> Self {
        let mut source = MapSource::default();
        for (name, value) in settings {
            source.set(name, *value, crate::config::Origin::Environment);
        }
        let config = Config::read(&source).expect("settings");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        Self { spans: Spans::of(&config, &metrics).expect("spans"), metrics }
    }

    fn count(&self, outcome: &str) -> u64 {
        self.metrics.trace_spans.with_label_values(&[outcome]).get()
    }

    /// A span that is over.
    fn make(&self, name: &str) {
        let own = self.spans.begin(&parent(PARENT));
        self.spans.end(Span::new(name, &own, &parent(PARENT), SystemTime::now()));
    }

    async fn counted(&self, outcome: &str, spans: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.count(outcome) < spans {
            assert!(Instant::now() < deadline, "{outcome}: {} of {spans}", self.count(outcome));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn inc_04_without_a_collector_contexts_are_passed_on_and_nothing_is_made() {
    for off in [&[][..], &[("OTEL_EXPORTER_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_SDK_DISABLED", "true")]] {
        let made = Made::of(off);
        assert!(!made.spans.are_made());
        assert_eq!(made.spans.begin(&parent(PARENT)), parent(PARENT));
        assert_eq!(made.spans.place(parent(PARENT), "r"), parent(PARENT));
        assert_eq!(made.spans.place(TraceContext::default(), "r"), TraceContext::default());
        made.make("nothing");
        made.spans.finish().await;
        assert_eq!(["exported", "failed", "dropped"].map(|outcome| made.count(outcome)), [0; 3]);
    }
}

#[tokio::test]
async fn inc_04_a_ticket_continues_its_producers_trace_or_begins_one_as_the_sampler_says() {
    /// What of the producer is kept: its trace, its span; and whether spans are made.
    const CASES: &[(&str, &str, bool, bool)] = &[
        ("parentbased_always_on", PARENT, false, true),
        ("parentbased_always_on", UNSAMPLED, true, false),
        ("parentbased_always_off", PARENT, false, true),
        ("always_on", UNSAMPLED, false, true),
        ("always_off", PARENT, true, false),
        ("traceidratio", PARENT, true, false),
        ("parentbased_traceidratio", PARENT, false, true),
    ];
    for (sampler, producer, keeps_span, sampled) in CASES {
        let made = Made::of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ]);
        let place = made.spans.place(parent(producer), "r");
        let text = place.traceparent.clone().expect("a parent");
        assert_eq!(&text[..35], &producer[..35], "{sampler}: the trace is the producer's");
        assert_eq!(text[..52] == producer[..52], *keeps_span, "{sampler}: {text}");
        assert_eq!(text.ends_with("-01"), *sampled, "{sampler}: {text}");
        assert_eq!(place.baggage.as_deref(), Some("a=b"));
        assert_eq!(made.spans.begin(&place) == place, !sampled, "{sampler}: no span of an unsampled ticket");
        // Without a producer's trace there is one too, so that others decide alike.
        let root = made.spans.place(TraceContext::default(), "r").traceparent.expect("a trace of its own");
        assert_eq!(root.ends_with("-01"), matches!(*sampler, "parentbased_always_on" | "always_on"), "{sampler}");
        assert_eq!(made.spans.place(TraceContext::default(), "r").traceparent, Some(root), "the same start");
    }
}

#[tokio::test]
async fn spans_reach_the_collector_with_what_they_say_of_the_worker() {
    let (peer, url) = Peer::start().await;
    let made = Made::of(&[
        ("OTEL_EXPORTER_ENDPOINT", &url),
        ("AGENT_ID", "me"),
        ("ENVIRONMENT", "staging"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=platform, neural.hive.layer=other,note=a%2Cb"),
        ("OTEL_SERVICE_NAME", "worker"),
    ]);
    let own = made.spans.begin(&parent(PARENT));
    assert_eq!(own.baggage.as_deref(), Some("a=b"));
    let long = "é".repeat(1_000);
    let span = Span::new("call", &own, &parent(PARENT), SystemTime::now() - Duration::from_secs(1));
    made.spans.end(span.with("text", long).with("empty", "").with("number", 7i64).failed(Some("refused")));
    // One of a trace that is not sampled, and one of none.
    for none in [parent(UNSAMPLED), TraceContext::default()] {
        made.spans.end(Span::new("none", &made.spans.begin(&none), &none, SystemTime::now()));
    }
    made.spans.finish().await;

    let [seen] = &peer.spans()[..] else { panic!("{:?}", peer.spans()) };
    assert_eq!((seen.name.as_str(), seen.trace.as_str(), seen.parent.as_str()), ("call", TRACE, "00f067aa0ba902b7"));
    assert_eq!(own.traceparent, Some(format!("00-{TRACE}-{}-01", seen.id)));
    assert!(seen.failed && seen.nanos >= 1_000_000_000);
    assert_eq!((seen.attribute("text").len(), seen.attribute("number")), (256, "7"));
    assert_eq!((seen.attribute("error.type"), seen.attributes.len()), ("refused", 3));
    let resource = peer.resource();
    for (key, value) in [
        ("service.name", "worker"),
        ("service.instance.id", "me"),
        ("service.version", "1.0.0"),
        ("neural.hive.component", "worker-agent"),
        ("neural.hive.layer", "other"),
        ("deployment.environment", "staging"),
        ("team", "platform"),
        ("note", "a,b"),
    ] {
        assert_eq!(resource.get(key).map(String::as_str), Some(value), "{key}: {resource:?}");
    }
    assert_eq!(peer.headers()["x-neural-hive-source"], "worker-agents");
    assert_eq!((made.count("exported"), made.count("failed")), (1, 0));
}

#[tokio::test]
async fn the_collector_gets_the_headers_of_the_settings_as_their_file_has_them_now() {
    let (peer, url) = Peer::start().await;
    let file = tempfile::NamedTempFile::new().expect("file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("written");
    write("authorization=Bearer%20first, X-Tenant=a");
    let made = Made::of(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE", file.path().to_str().expect("utf-8")),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]);
    made.make("one");
    made.counted("exported", 1).await;
    assert_eq!((peer.headers()["authorization"].as_str(), peer.headers()["x-tenant"].as_str()), ("Bearer first", "a"));
    write("authorization=Bearer%20second");
    made.make("two");
    made.counted("exported", 2).await;
    assert_eq!(peer.headers()["authorization"], "Bearer second");
    write("no header");
    made.make("three");
    made.counted("failed", 1).await;
    assert_eq!(peer.spans().len(), 2);
}

#[tokio::test]
async fn a_collector_that_refuses_or_says_nothing_loses_spans_which_are_counted_and_blocks_nobody() {
    let (peer, url) = Peer::start().await;
    let made = Made::of(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "50"),
    ]);
    peer.set_refusing(true);
    made.make("refused");
    made.counted("failed", 1).await;
    peer.set_refusing(false);
    peer.reject(1);
    made.make("rejected");
    made.counted("failed", 2).await;
    peer.reject(0);
    made.make("taken");
    made.counted("exported", 1).await;

    // Silent: 50 wait at most, whoever makes more is not held up.
    peer.set_silent(true);
    let before = Instant::now();
    for _ in 0..1_000 {
        made.make("many");
    }
    assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
    assert!(made.count("dropped") >= 900, "{}", made.count("dropped"));
    made.counted("failed", 3).await;
    peer.set_silent(false);
    let calls = peer.calls();
    made.make("again");
    made.spans.finish().await;
    assert!(peer.calls() > calls && peer.spans().iter().any(|seen| seen.name == "again"));
    let all = ["exported", "failed", "dropped"].map(|outcome| made.count(outcome));
    assert_eq!(all.iter().sum::<u64>(), 1_004, "every span is accounted for: {all:?}");
}

#[tokio::test]
async fn a_collector_that_is_silent_at_the_end_holds_it_up_for_a_bounded_time() {
    let (peer, url) = Peer::start().await;
    let made = Made::of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")]);
    peer.set_silent(true);
    made.make("last");
    let before = Instant::now();
    made.spans.finish().await;
    assert!(before.elapsed() < FLUSH_TIMEOUT * 2, "{:?}", before.elapsed());
    // Nobody listens.
    let made = Made::of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    made.make("last");
    made.spans.finish().await;
    assert_eq!(made.count("failed"), 1);
}
