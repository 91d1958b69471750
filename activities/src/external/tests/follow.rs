//! What work writes: each line once and in its order, whatever happens to the reader.

use super::fake::{Fake, LOOKUP, NoParams, Scripted, Step, lost, throttled};
use super::*;
use crate::logs::Logs;
use crate::logs::tests::{MemorySink, redactor_of};
use crate::ports::LogName;

/// The job with a log that goes on where `recorded` says.
fn logged(job: Job, sink: &Arc<MemorySink>, secrets: &[&'static str]) -> Job {
    let recorded = job.progress.log().told();
    let logs = Logs { sink: Some(Arc::clone(sink) as _), secrets: Some(redactor_of(secrets)) };
    Job { progress: Progress::of(logs.begin(LogName::default(), recorded)), ..job }
}

fn written(fake: &Fake<LOOKUP>, lines: std::ops::Range<u32>) {
    fake.state().written.extend(lines.map(|line| format!("line {line}\n")));
}

fn numbers(sink: &MemorySink) -> Vec<(u64, String)> {
    sink.lines().into_iter().map(|line| (line.seq, line.text)).collect()
}

fn expected(lines: std::ops::Range<u32>) -> Vec<(u64, String)> {
    lines.map(|line| (u64::from(line) + 1, format!("line {line}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_line_is_written_once_while_work_runs_and_after_its_end() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let job = logged(job("t"), &sink, &[]);
    fake.script(Step::Follow, [Scripted::Untaken(lost()), Scripted::Untaken(throttled(1))]);
    let driver = fake.driver();
    let work = async {
        for line in 0..4 {
            written(&fake, line..line + 1);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(numbers(&sink), expected(0..line + 1), "it is followed");
        }
        // What it writes last is read although nobody follows any more.
        written(&fake, 4..7);
        fake.end_all(0);
    };
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job.clone()), work);
    completed(outcome);
    assert_eq!(numbers(&sink), expected(0..7));
}

#[tokio::test(start_paused = true)]
async fn the_next_worker_goes_on_where_the_heartbeat_says_and_repeats_nothing_that_is_kept() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let first = logged(job("t"), &sink, &[]);
    written(&fake, 0..3);
    {
        let driver = fake.driver();
        let attempt = driver.execute(NoParams {}, first.clone());
        // The worker is lost.
        let _ = tokio::time::timeout(Duration::from_secs(5), attempt).await.expect_err("it runs");
    }
    assert_eq!(numbers(&sink), expected(0..3));
    let next = logged(Job { progress: first.progress.clone(), ..next_worker(&first) }, &sink, &[]);
    written(&fake, 3..5);
    fake.end_all(0);
    completed(fake.driver().execute(NoParams {}, next.clone()).await);
    assert_eq!(numbers(&sink), expected(0..5), "it goes on after the third line");
    assert_eq!(next.progress.log().told().expect("told").seq, 5);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_output_is_asked_for_again_while_it_cannot_be_read() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let job = logged(job("t"), &sink, &[]);
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        written(&fake, 0..3);
        fake.script(Step::Follow, vec![Scripted::Untaken(lost()); 5]);
        fake.end_all(0);
    };
    let driver = fake.driver();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job), end);
    let report = completed(outcome).report;
    assert_eq!(numbers(&sink), expected(0..3));
    assert!(!report.logs.iter().any(|said| said.contains("not read to its end")), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_of_the_output_that_cannot_be_read_holds_no_ticket_up_for_long_and_is_told() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let job = logged(job("t"), &sink, &[]);
    written(&fake, 0..1);
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.script(Step::Follow, vec![Scripted::Untaken(lost()); 1000]);
        fake.end_all(0);
        tokio::time::Instant::now()
    };
    let driver = fake.driver();
    let (outcome, ended) = tokio::join!(driver.execute(NoParams {}, job.clone()), end);
    completed(outcome);
    assert!(ended.elapsed() < Duration::from_secs(25), "{:?}", ended.elapsed());
    let trouble = job.progress.log().told().expect("a line").trouble;
    assert!(trouble.is_some_and(|trouble| trouble.contains("not read to its end")));
}

#[tokio::test(start_paused = true)]
async fn output_that_was_read_is_kept_although_the_time_is_over_before_its_log_is_read() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let job = logged(Job { time_left: Duration::from_secs(10), ..job("t") }, &sink, &[]);
    written(&fake, 0..1);
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.script(Step::Follow, vec![Scripted::Untaken(lost()); 1000]);
        fake.end_all(0);
        tokio::time::sleep(Duration::from_secs(4)).await;
        // The provider is away from here on.
        fake.script(Step::Collect, vec![Scripted::Untaken(lost()); 1000]);
    };
    let driver = fake.driver();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job.clone()), end);
    let report = completed(outcome).report;
    assert!(report.output["stdout"].as_str().is_some_and(|output| output.starts_with("output of")), "{report:?}");
    assert!(!report.metadata.contains_key("output_missing"), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn output_that_was_read_to_its_end_is_not_asked_for_without_a_pause() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Follow, vec![Scripted::Slow(Duration::ZERO); 1000]);
    let end = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        fake.end_all(0);
    };
    let driver = fake.driver();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job("t")), end);
    completed(outcome);
    // Half a second to a second apart, once it has been silent for a moment; once more at the end.
    let asked = 1000 - fake.left(Step::Follow);
    assert!((18..=46).contains(&asked), "{asked} times in 20 s");
}

#[tokio::test(start_paused = true)]
async fn secrets_of_the_worker_are_in_no_outcome() {
    let (fake, sink) = (Fake::<LOOKUP>::default(), Arc::new(MemorySink::default()));
    let job = logged(job("t"), &sink, &["output of", "exit code"]);
    fake.end_all(1);
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.end_all(1);
    };
    let driver = fake.driver();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job), end);
    let failed = failed(outcome);
    assert_eq!(failed.message, "[redacted] 1");
    for text in [&failed.report.output["stdout"], &failed.report.output["parts"][0]["text"]] {
        assert!(text.as_str().expect("text").starts_with("[redacted] t-t-1-"), "{failed:?}");
    }
}
