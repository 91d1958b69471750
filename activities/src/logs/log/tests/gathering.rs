//! Logs in sinks that are not to be asked often.

use tokio::time::{Instant, sleep};

use super::*;

const PACE: Duration = Duration::from_secs(1);
/// How long a call takes.
const TAKES: Duration = Duration::from_millis(100);

fn gathering() -> Arc<MemorySink> {
    Arc::new(MemorySink { pace: PACE, takes: TAKES, ..MemorySink::default() })
}

fn waited(log: &Log) -> u64 {
    log.told().expect("lines").waited_ms
}

#[tokio::test(start_paused = true)]
async fn few_lines_are_kept_once_a_second_and_nobody_waits_for_that() {
    let sink = gathering();
    let log = logs(&sink, &[]).begin(name(), None);
    let (began, mut late) = (Instant::now(), Duration::ZERO);
    for number in 1..=500_u64 {
        for stream in [Stream::Stdout, Stream::Stderr] {
            log.write(stream, b"a line\n").await;
        }
        sleep(Duration::from_millis(20)).await;
        let told = log.told().map_or(0, |told| told.seq);
        late = late.max(Duration::from_millis(20) * u32::try_from(number - told / 2).expect("a number"));
    }
    assert!(began.elapsed() < Duration::from_millis(10_100), "{:?}", began.elapsed());
    assert!((10..=12).contains(&sink.calls()), "in ten seconds: {}", sink.calls());
    assert!(late <= PACE + TAKES * 2, "told so late: {late:?}");
    let end = Instant::now();
    assert!(!ended(&log).await.metadata.contains_key("log_wait_seconds"));
    assert!(end.elapsed() <= TAKES * 2, "the end waits for no pace: {:?}", end.elapsed());
    let numbers: Vec<u64> = sink.lines().iter().map(|line| line.seq).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn much_after_little_is_not_held_up_before_there_is_no_room() {
    let sink = gathering();
    let log = logs(&sink, &[]).begin(name(), None);
    log.write(Stream::Stdout, b"few\n").await;
    sleep(PACE / 2).await;
    let began = Instant::now();
    log.write(Stream::Stdout, "1234567\n".repeat(3000).as_bytes()).await;
    let wide = |lines| ("x".repeat(999) + "\n").repeat(lines);
    log.write(Stream::Stdout, wide(200).as_bytes()).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    // More than a call's worth waits: it is called before a second is over.
    log.write(Stream::Stdout, wide(1000).as_bytes()).await;
    assert!(began.elapsed() <= TAKES, "{:?}", began.elapsed());
    for _ in 0..20 {
        log.write(Stream::Stdout, wide(500).as_bytes()).await;
    }
    // Half a mebibyte in a tenth of a second.
    assert!((1_800..=2_300).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert!(waited(&log) > 1_000, "{}", waited(&log));
    let report = ended(&log).await;
    assert_eq!((sink.lines().len(), report.metadata.get("log_error")), (14_201, None));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_too_slow_for_what_work_writes_is_given_up() {
    for (takes, is_slow) in [(Duration::from_secs(1), true), (TAKES, false)] {
        let sink = Arc::new(MemorySink { pace: PACE, takes, ..MemorySink::default() });
        let log = logs(&sink, &[]).begin(name(), None);
        for _ in 0..1000 {
            log.write(Stream::Stdout, "1234567\n".repeat(600).as_bytes()).await;
        }
        let report = ended(&log).await;
        let slow = report.metadata.get("log_error").and_then(Value::as_str).is_some_and(|it| it.contains("it is slow"));
        assert_eq!((slow, sink.lines().len() == 600_000), (is_slow, !is_slow), "{report:?}");
        assert_eq!(report.metadata["log_lines"], 600_000);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_back_is_kept_first() {
    let sink = gathering();
    let log = logs(&sink, &[]).begin(name(), None);
    for line in ["a\n", "b\n"] {
        log.write(Stream::Stdout, line.as_bytes()).await;
        sleep(TAKES * 2).await;
    }
    let began = Instant::now();
    log.flush().await;
    assert!(began.elapsed() <= TAKES, "{:?}", began.elapsed());
    assert_eq!((log.told().map(|told| told.seq), texts(sink.lines()).len()), (Some(2), 2));
    let hangs = Arc::new(MemorySink { answers: Some(1), then: Then::Hangs, pace: PACE, ..MemorySink::default() });
    let log = logs(&hangs, &[]).begin(name(), None);
    for line in ["a\n", "b\n"] {
        log.write(Stream::Stdout, line.as_bytes()).await;
        sleep(TAKES * 2).await;
    }
    log.flush().await;
    assert!(log.told().and_then(|told| told.trouble).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_told_once_all_before_it_is_kept() {
    let sink = gathering();
    let log = logs(&sink, &[]).begin(name(), None);
    assert_eq!(log.resume().await, Value::Null);
    let place = || recorded(&log).and_then(|told| told.reached).map(|reached| (reached.seq, reached.at));
    for line in ["a", "b", "c"] {
        log.write(Stream::Stdout, format!("{line}\n").as_bytes()).await;
        log.reached(json!(line));
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((place(), sink.lines().len()), (None, 0));
    sleep(TAKES).await;
    assert_eq!((place(), sink.lines().len()), (Some((1, json!("a"))), 1));
    // A connection that is lost meanwhile: what is on its way is not given again.
    assert_eq!(log.resume().await, json!("c"));
    for line in ["d", "e"] {
        log.write(Stream::Stdout, format!("{line}\n").as_bytes()).await;
        log.reached(json!(line));
    }
    sleep(PACE + TAKES).await;
    assert_eq!(place(), Some((5, json!("e"))));
    assert_eq!(texts(sink.lines()), ["1 stdout a", "2 stdout b", "3 stdout c", "4 stdout d", "5 stdout e"]);
    let next = logs(&sink, &[]).begin(name(), recorded(&log));
    assert_eq!(next.resume().await, json!("e"));
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_are_told_in_their_order_also_when_nothing_is_kept() {
    for then in [Then::Fails, Then::Hangs, Then::Panics] {
        let sink = Arc::new(MemorySink { answers: Some(1), then, pace: PACE, ..MemorySink::default() });
        let log = logs(&sink, &[]).begin(name(), None);
        for _ in 0..50 {
            log.write(Stream::Stdout, "1234567\n".repeat(500).as_bytes()).await;
            sleep(Duration::from_millis(200)).await;
        }
        let report = ended(&log).await;
        assert_eq!(report.metadata["log_lines"], 25_000, "{then:?}");
        assert!(report.metadata.contains_key("log_error"), "{report:?}");
        assert!(waited(&log) < 3_500, "{then:?}: {}", waited(&log));
        let numbers: Vec<u64> = log.told().expect("lines").lines.iter().map(|line| line.seq).collect();
        assert_eq!(numbers, (24_996..=25_000).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn lines_that_come_one_by_one_to_a_sink_that_is_slower_than_its_pace_are_kept_together() {
    let sink = Arc::new(MemorySink { pace: PACE, takes: PACE * 3 / 2, ..MemorySink::default() });
    let log = logs(&sink, &[]).begin(name(), None);
    for _ in 0..2000 {
        log.write(Stream::Stdout, b"a line\n").await;
        sleep(Duration::from_millis(1)).await;
    }
    // The first, what has come meanwhile, and the rest.
    sleep(PACE * 4).await;
    assert_eq!((sink.calls(), sink.lines().len()), (3, 2000));
}

#[tokio::test(start_paused = true)]
async fn lines_that_the_end_does_not_wait_for_are_counted() {
    let sink = Arc::new(MemorySink { pace: PACE, takes: PACE * 2, ..MemorySink::default() });
    let log = logs(&sink, &[]).begin(name(), None);
    for _ in 0..10 {
        log.write(Stream::Stdout, b"a line\n").await;
        sleep(Duration::from_millis(1)).await;
    }
    let report = ended(&log).await;
    assert_eq!(report.metadata["log_lines"], 10, "{report:?}");
    assert!(report.metadata["log_error"].as_str().is_some_and(|it| it.contains("its end was not kept")), "{report:?}");
}
