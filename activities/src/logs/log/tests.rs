mod gathering;

use serde_json::json;
use ticket_workflows::ExecutionReport;

use super::*;
use crate::logs::tests::{MemorySink, Then, redactor_of};

fn name() -> LogName {
    LogName { ticket_id: "t".to_owned(), run_id: "r".to_owned(), attempt: 2 }
}

fn logs(sink: &Arc<MemorySink>, secrets: &[&'static str]) -> Logs {
    Logs { sink: Some(Arc::clone(sink) as _), secrets: Some(redactor_of(secrets)) }
}

fn texts(lines: impl IntoIterator<Item = Line>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{} {} {}", line.seq, line.stream.as_str(), line.text)).collect()
}

async fn ended(log: &Log) -> ExecutionReport {
    let mut report = ExecutionReport::default();
    if let Some(logged) = log.end().await {
        logged.describe(&mut report);
    }
    report
}

#[tokio::test]
async fn lines_are_numbered_over_both_streams_and_kept_in_that_order() {
    let sink = Arc::new(MemorySink::default());
    let log = logs(&sink, &[]).begin(name(), None);
    log.write(Stream::Stdout, b"a\nb").await;
    log.write(Stream::Stderr, b"\x1b[31mc\x1b[0m\n").await;
    log.write(Stream::Stdout, b"d\n").await;
    log.write(Stream::Stderr, b"last").await;
    assert_eq!(texts(sink.lines()), ["1 stdout a", "2 stderr c", "3 stdout bd"]);
    let told = log.told().expect("lines");
    assert_eq!((told.attempt, told.seq, told.address.as_deref()), (2, 3, Some("memory://")));
    assert_eq!(texts(told.lines), ["1 stdout a", "2 stderr c", "3 stdout bd"]);
    let report = ended(&log).await;
    assert_eq!(texts(sink.lines())[3], "4 stderr last", "what was written last is a line too");
    assert_eq!((&report.metadata["log"], &report.metadata["log_lines"]), (&json!("memory://"), &json!(4)));
    assert_eq!(report.metadata.get("log_error"), None);
}

#[tokio::test]
async fn a_heartbeat_tells_few_lines_and_little_of_each() {
    let log = Log::default();
    assert_eq!(log.told(), None, "nothing was written");
    let long = "é".repeat(100_000);
    for _ in 0..3 {
        log.write(Stream::Stdout, format!("{long}\n\n{long}\n").as_bytes()).await;
    }
    let told = log.told().expect("lines");
    assert_eq!((told.seq, told.lines.len()), (9, 5));
    assert_eq!(told.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    let bytes: usize = told.lines.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= 2048, "{bytes}");
    assert_eq!(told.lines[0].text.len() as u64 + told.lines[0].cut, 0, "the empty one is fifth");
    assert_eq!(told.lines[4].text.len() as u64 + told.lines[4].cut, 200_000, "what is cut is told");
    assert!(ended(&log).await.metadata.is_empty(), "without a sink results are as they were");
}

#[tokio::test]
async fn a_secret_is_found_across_pieces_under_control_codes_and_at_the_end_of_what_is_kept() {
    let sink = Arc::new(MemorySink::default());
    let log = logs(&sink, &["hunter2-hunter2"]).begin(name(), None);
    let secret = "hunter2-\x1b[0mhunter2";
    for byte in format!("key={secret}!\n").bytes() {
        log.write(Stream::Stdout, &[byte]).await;
    }
    let text = format!("{}hunter2-hunter2 and more\n", "x".repeat(Line::MAX_BYTES - 5));
    log.write(Stream::Stdout, text.as_bytes()).await;
    let long = format!("{}hunter2-hunter2{}\n", "x".repeat(Line::MAX_BYTES + 8), "y".repeat(100_000));
    log.write(Stream::Stderr, long.as_bytes()).await;
    // The escape takes the character that follows it from a terminal, and not from whoever knows the secret.
    log.write(Stream::Stdout, b"\x1bhunter2-hunter2 is \x1b(hunter2-hunter2\n").await;
    let lines = sink.lines();
    assert_eq!(lines[0].text, "key=[redacted]!");
    assert!(lines[1].text.ends_with("xx[reda"), "{}", &lines[1].text[Line::MAX_BYTES - 20..]);
    assert!(lines[3].text.starts_with("[redacted] is ") && !lines[3].text.contains("unter2"), "{}", lines[3].text);
    assert!(!lines[2].text.contains('h') && lines[2].cut > 100_000, "{}", lines[2].cut);
    let told = serde_json::to_string(&log.told()).expect("JSON");
    assert!(!told.contains("hunter"), "{told}");
}

#[tokio::test]
async fn work_that_is_run_again_after_a_lost_worker_is_told_and_numbered_on() {
    let sink = Arc::new(MemorySink::default());
    let lost = logs(&sink, &[]).begin(name(), None);
    lost.write(Stream::Stdout, b"a\nb\n").await;
    let told = lost.told();
    // A heartbeat does not tell what came after it; the sink knows.
    lost.write(Stream::Stdout, b"c\n").await;
    let next = logs(&sink, &[]).begin(name(), told);
    next.write(Stream::Stdout, b"a\n").await;
    let lines = texts(sink.lines());
    assert_eq!(lines[..3], ["1 stdout a", "2 stdout b", "3 stdout c"]);
    assert!(lines[3].starts_with("4 worker a worker was lost"), "{lines:?}");
    assert_eq!(lines[4..], ["5 stdout a"]);
}

#[tokio::test]
async fn output_that_outlives_a_worker_is_read_on_from_the_last_heartbeat_and_kept_once() {
    let sink = Arc::new(MemorySink::default());
    let lost = logs(&sink, &[]).begin(name(), None);
    assert_eq!(lost.resume().await, Value::Null);
    lost.write(Stream::Stdout, b"a\nb\n").await;
    lost.reached(json!("after b"));
    let told: Option<Logged> =
        serde_json::from_str(&serde_json::to_string(&lost.told()).expect("JSON")).expect("what was told");
    lost.write(Stream::Stdout, b"c\nhalf").await;
    let next = logs(&sink, &[]).begin(name(), told);
    assert_eq!(next.resume().await, json!("after b"));
    next.write(Stream::Stdout, b"c\nhalf of it\n").await;
    assert_eq!(texts(sink.lines()), ["1 stdout a", "2 stdout b", "3 stdout c", "4 stdout half of it"]);
    next.reached(json!("after half"));
    // A connection that broke within a line.
    next.write(Stream::Stdout, b"e begi").await;
    assert_eq!(next.resume().await, json!("after half"));
    next.write(Stream::Stdout, b"e begins\n").await;
    assert_eq!(texts(sink.lines())[4..], ["5 stdout e begins"]);
    // One that was lost before any heartbeat: all is read again, and nothing is kept twice.
    let third = logs(&sink, &[]).begin(name(), None);
    assert_eq!(third.resume().await, Value::Null);
    third.write(Stream::Stdout, b"a\nb\nc\nhalf of it\ne begins\nf\n").await;
    assert_eq!(texts(sink.lines())[5..], ["6 stdout f"]);
    third.resume().await;
    third.write(Stream::Stdout, b"a\nb\nc\n").await;
    assert_eq!(third.told().expect("lines").lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

/// As a heartbeat has it.
fn recorded(log: &Log) -> Option<Logged> {
    serde_json::from_str(&serde_json::to_string(&log.told()).expect("JSON")).expect("what was told")
}

#[tokio::test]
async fn a_hole_that_a_lost_worker_left_is_in_the_log_and_in_the_result() {
    let failing = Arc::new(MemorySink { answers: Some(1), ..MemorySink::default() });
    let lost = logs(&failing, &[]).begin(name(), None);
    lost.resume().await;
    for line in ["a\n", "b\n"] {
        lost.write(Stream::Stdout, line.as_bytes()).await;
    }
    lost.reached(json!("after b"));
    let mended = Arc::new(MemorySink { lines: Arc::clone(&failing.lines), ..MemorySink::default() });
    let elsewhere = Arc::new(MemorySink::default());
    for (sink, why) in [(&mended, "no space left"), (&elsewhere, "no space left")] {
        let next = logs(sink, &[]).begin(name(), recorded(&lost));
        assert_eq!(next.resume().await, json!("after b"));
        next.write(Stream::Stdout, b"c\n").await;
        let lines = texts(sink.lines());
        let [.., note, last] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(note.starts_with("2 worker a worker was lost, and "), "{lines:?}");
        assert_eq!(last, "3 stdout c");
        let report = ended(&next).await;
        assert!(report.metadata["log_error"].as_str().expect("text").contains(why), "{report:?}");
    }
}

#[tokio::test]
async fn lines_that_are_in_another_workers_sink_are_missed_also_when_that_one_had_no_trouble() {
    let (first, second) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let lost = logs(&first, &[]).begin(name(), None);
    lost.write(Stream::Stdout, b"a\nb\n").await;
    let next = logs(&second, &[]).begin(name(), recorded(&lost));
    next.write(Stream::Stdout, b"a\n").await;
    let lines = texts(second.lines());
    assert_eq!(lines[0], "2 worker a worker was lost, and 2 of the lines up to here were not kept, see memory://");
    assert!(lines[1].starts_with("3 worker a worker was lost; what follows"), "{lines:?}");
    assert_eq!(lines[2], "4 stdout a");
    let report = ended(&next).await;
    assert!(report.metadata["log_error"].as_str().is_some_and(|error| error.contains("2 of the lines")), "{report:?}");
    let without = Logs::default().begin(name(), recorded(&lost));
    without.write(Stream::Stdout, b"a\n").await;
    assert!(ended(&without).await.metadata["log_error"].as_str().is_some_and(|error| error.contains("keeps no logs")));
}

#[tokio::test]
async fn what_a_lost_worker_left_out_is_no_hole_and_is_counted_on() {
    let sink = Arc::new(MemorySink::default());
    logs(&sink, &[]).begin(name(), None).write(Stream::Stdout, b"a\nb\nc\n").await;
    let lost = Logged { attempt: 2, seq: 10, left_out: 7, ..Logged::default() };
    let next = logs(&sink, &[]).begin(name(), Some(lost));
    next.write(Stream::Stdout, b"a\n").await;
    assert_eq!(texts(sink.lines())[4..], ["12 stdout a"], "after what the worker says of another run");
    let report = ended(&next).await;
    assert_eq!((&report.metadata["log_lines_left_out"], report.metadata.get("log_error")), (&json!(7), None));
}

#[tokio::test]
async fn no_more_than_a_thousand_lines_are_kept_at_once_and_no_more_bytes_than_a_quarter_of_a_mebibyte() {
    for (line, count, most) in
        [("\n", 50_000, 1000), ("\r", 50_000, 1000), (&*format!("{}\n", "x".repeat(16_000)), 100, 17)]
    {
        let sink = Arc::new(MemorySink::default());
        let log = logs(&sink, &[]).begin(name(), None);
        log.write(Stream::Stdout, line.repeat(count).as_bytes()).await;
        assert_eq!((sink.lines().len(), sink.most()), (count, most));
        assert_eq!(log.told().expect("lines").seq, count as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_waits_for_is_carried_out_in_its_order_and_what_came_of_it_is_told() {
    for (then, kept) in [(Then::IsSlow, &["1 stdout a", "2 stdout b", "3 stdout c"][..]), (Then::FailsLate, &[][..])] {
        let sink = Arc::new(MemorySink { answers: Some(0), then, ..MemorySink::default() });
        let log = logs(&sink, &[]).begin(name(), None);
        for line in ["a\n", "b\n"] {
            let written =
                tokio::time::timeout(Duration::from_millis(100), log.write(Stream::Stdout, line.as_bytes())).await;
            assert!(written.is_err(), "{then:?}: it is slow");
        }
        if then == Then::IsSlow {
            log.write(Stream::Stdout, b"c\n").await;
        }
        let report = ended(&log).await;
        assert_eq!(texts(sink.lines()), kept, "{then:?}");
        let error = report.metadata.get("log_error").and_then(Value::as_str);
        assert_eq!(error.is_some_and(|error| error.contains("no space left")), then == Then::FailsLate, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_slow_for_ten_seconds_in_all_is_given_up_and_the_result_says_so() {
    let sink = Arc::new(MemorySink { answers: Some(0), then: Then::IsSlow, ..MemorySink::default() });
    let log = logs(&sink, &[]).begin(name(), None);
    let began = tokio::time::Instant::now();
    for line in 0..100 {
        log.write(Stream::Stdout, format!("{line}\n").as_bytes()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
    assert_eq!(sink.lines().len(), 6, "two seconds each");
    let report = ended(&log).await;
    assert!(
        report.metadata["log_error"].as_str().is_some_and(|error| error.contains("has waited 12.0 s")),
        "{report:?}"
    );
    let waited = |report: &ExecutionReport| report.metadata["log_wait_seconds"].as_f64().expect("a number");
    assert!((12.0..12.1).contains(&waited(&report)) && report.metadata["log_lines"] == 100, "{report:?}");
    // Work that runs for long may wait for longer.
    let sink = Arc::new(MemorySink { answers: Some(0), then: Then::IsSlow, ..MemorySink::default() });
    let log = logs(&sink, &[]).begin(name(), None);
    for line in 0..20 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        log.write(Stream::Stdout, format!("{line}\n").as_bytes()).await;
    }
    let report = ended(&log).await;
    assert_eq!((sink.lines().len(), report.metadata.get("log_error")), (20, None));
    assert!((40.0..40.1).contains(&waited(&report)), "what it has cost is told all the same: {report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_told_also_when_nobody_waits_for_the_line_that_says_so() {
    let (first, slow) =
        (Arc::new(MemorySink::default()), MemorySink { answers: Some(0), then: Then::IsSlow, ..MemorySink::default() });
    let lost = logs(&first, &[]).begin(name(), None);
    lost.write(Stream::Stdout, b"a\nb\n").await;
    let next = logs(&Arc::new(slow), &[]).begin(name(), recorded(&lost));
    tokio::time::timeout(Duration::from_millis(100), next.write(Stream::Stdout, b"a\n")).await.expect_err("it is slow");
    assert!(next.told().and_then(|told| told.trouble).is_some_and(|trouble| trouble.contains("2 of the lines")));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_log_has_three_seconds_in_all() {
    for then in [Then::IsSlow, Then::HangsAtTheEnd] {
        let sink = Arc::new(MemorySink { answers: Some(0), then, ..MemorySink::default() });
        let log = logs(&sink, &[]).begin(name(), None);
        for stream in [Stream::Stdout, Stream::Stderr] {
            log.write(stream, b"a last word").await;
        }
        let began = tokio::time::Instant::now();
        let report = ended(&log).await;
        assert!(began.elapsed() < LOG_END + Duration::from_millis(100), "{then:?}: {:?}", began.elapsed());
        assert!(report.metadata["log_error"].as_str().is_some_and(|error| error.contains("within 3 s")), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_or_hangs_is_given_up_and_the_result_says_so() {
    for (then, expected) in [(Then::Fails, "no space left"), (Then::Hangs, "no answer within 3 s")] {
        let sink = Arc::new(MemorySink { answers: Some(1), then, ..MemorySink::default() });
        let log = logs(&sink, &[]).begin(name(), None);
        let began = tokio::time::Instant::now();
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            log.write(Stream::Stdout, line.as_bytes()).await;
        }
        assert!(began.elapsed() <= Duration::from_secs(3), "{then:?}: work waits once");
        assert_eq!(texts(sink.lines()), ["1 stdout a"], "{then:?}");
        assert_eq!(log.told().expect("lines").seq, 4, "{then:?}: the last lines are still told");
        let report = ended(&log).await;
        assert_eq!(report.metadata["log_lines"], 4, "{then:?}");
        assert!(report.metadata["log_error"].as_str().expect("text").contains(expected), "{then:?}: {report:?}");
        assert!(report.logs[0].contains(expected), "{then:?}: {report:?}");
    }
}
