//! Logs that are cut, resumed, rotated, forged and followed by several.

use std::sync::Arc;

use super::*;
use crate::execute::kubernetes::faults::{Error, fault};
use crate::logs::Logs;
use crate::logs::tests::MemorySink;
use crate::ports::LogName;

fn stamp(second: u32, nano: u32) -> String {
    format!("2026-01-02T03:04:{second:02}.{nano:09}Z")
}

/// A log that is followed from its start.
fn log() -> PodLog {
    PodLog { from_start: true, ..PodLog::default() }
}

/// A reading to the end of what `answered` says for this `sinceTime`.
async fn read_since(
    log: &PodLog,
    follower: Option<&Log>,
    answered: impl FnOnce(Option<Timestamp>) -> String,
) -> Result<(), Error> {
    let mut reading = log.reading(100_000, follower).await;
    let text = answered(reading.since());
    reading.take(text.as_bytes()).await?;
    reading.finish()
}

async fn read(log: &PodLog, text: &str) -> Result<(), Error> {
    read_since(log, None, |_| text.to_owned()).await
}

/// A reading whose connection breaks after this text.
async fn begin(log: &PodLog, follower: Option<&Log>, text: &[u8]) {
    log.reading(100_000, follower).await.take(text).await.expect("a log");
}

/// What the kubelet answers: lines whose part is not before `since`, each with a stamp only where it begins.
fn answer(parts: &[(u32, &str)], since: Option<Timestamp>) -> String {
    let mut text = String::new();
    let mut begins = true;
    for (second, part) in parts {
        let at = stamp(*second, 0);
        if since.is_none_or(|since| at.parse::<Timestamp>().expect("a stamp") >= since) {
            text += &if begins { format!("{at} {part}") } else { (*part).to_owned() };
        }
        begins = part.ends_with('\n');
    }
    text
}

fn text(log: &PodLog) -> String {
    log.written(None).text.text
}

#[tokio::test]
async fn a_log_is_read_the_same_wherever_it_is_cut() {
    let (first, second) = (stamp(5, 1), stamp(6, 0));
    let whole = format!("{first} one\n{first} \n{first}\n{second} two words\n{second} unfinished");
    let expected = "one\n\n\ntwo words\nunfinished";
    for at in 0..=whole.len() {
        let log = log();
        let mut reading = log.reading(1000, None).await;
        reading.take(&whole.as_bytes()[..at]).await.expect("a log");
        reading.take(&whole.as_bytes()[at..]).await.expect("a log");
        reading.finish().expect("its end");
        let written = log.written(None);
        assert_eq!((written.text.text.as_str(), written.incomplete), (expected, None), "cut at {at}");
    }
}

#[tokio::test]
async fn a_reading_that_was_broken_off_anywhere_is_resumed_without_gap_and_repetition() {
    let lines = [(5, 1, "a"), (5, 1, "b"), (5, 2, "c"), (6, 0, "d"), (6, 0, "d"), (7, 0, "e")];
    let whole: String =
        lines.iter().map(|(second, nano, text)| format!("{} {text}\n", stamp(*second, *nano))).collect();
    for broken_at in 0..=whole.len() {
        let log = log();
        begin(&log, None, &whole.as_bytes()[..broken_at]).await;
        let rest = |since: Option<Timestamp>| {
            // As the API does: everything from that second on.
            let is_told =
                |line: &&str| since.is_none_or(|since| line[..30].parse::<Timestamp>().expect("a stamp") >= since);
            whole.split_inclusive('\n').filter(is_told).collect()
        };
        read_since(&log, None, rest).await.expect("its end");
        let written = log.written(None);
        assert_eq!((written.text.text.as_str(), written.incomplete), ("a\nb\nc\nd\nd\ne\n", None), "at {broken_at}");
    }
}

#[tokio::test]
async fn lines_that_the_runtime_has_cut_into_pieces_are_resumed_whatever_is_in_them() {
    let forged = format!("{} of the command's own\n", stamp(59, 0));
    let kubelet = "unable to retrieve it, says the command\n";
    for piece in ["more of it\n", forged.as_str(), kubelet] {
        let parts = [(1, "long "), (3, "er "), (4, piece), (4, "next\n"), (5, "long "), (6, piece), (7, "last\n")];
        let whole = answer(&parts, None);
        let expected = format!("long er {piece}next\nlong {piece}last\n");
        for broken_at in 0..=whole.len() {
            let log = log();
            begin(&log, None, &whole.as_bytes()[..broken_at]).await;
            read_since(&log, None, |since| answer(&parts, since)).await.expect("its end");
            let written = log.written(None);
            assert_eq!((written.text.text.as_str(), written.incomplete), (expected.as_str(), None), "at {broken_at}");
        }
    }
}

#[tokio::test]
async fn each_line_is_followed_once_over_broken_connections_and_lost_workers_while_the_result_has_all_of_them() {
    let parts = [(1, "a\n"), (1, "b\n"), (3, "long "), (4, "er\n"), (5, "c\n"), (5, "50%\r"), (5, "100%\n"), (9, "d")];
    let whole = answer(&parts, None);
    let half = answer(&parts[..6], None).len();
    let numbered = |sink: &MemorySink| -> Vec<_> {
        sink.lines().into_iter().map(|line| format!("{} {}", line.seq, line.text)).collect()
    };
    for broken_at in 0..=whole.len() {
        let sink = Arc::new(MemorySink::default());
        let logs = Logs { sink: Some(Arc::clone(&sink) as _), secrets: None };
        let (pod, first) = (log(), logs.begin(LogName::default(), None));
        begin(&pod, Some(&first), &whole.as_bytes()[..broken_at]).await;
        // The connection breaks again, at once.
        begin(&pod, Some(&first), b"").await;
        let present = if broken_at > half { &parts[..] } else { &parts[..6] };
        read_since(&pod, Some(&first), |since| answer(present, since)).await.expect("its present end");

        // The next worker has nothing for the result, and goes on with the log.
        let (pod, next) = (log(), logs.begin(LogName::default(), first.told()));
        read_since(&pod, Some(&next), |since| answer(&parts, since)).await.expect("its end");
        read_since(&pod, Some(&next), |since| answer(&parts, since)).await.expect("its end, again");
        next.end().await;
        assert_eq!(numbered(&sink), ["1 a", "2 b", "3 long er", "4 c", "5 50%", "6 100%", "7 d"], "at {broken_at}");
        assert_eq!(text(&pod), "a\nb\nlong er\nc\n50%\r100%\nd", "at {broken_at}");
        assert_eq!(next.told().and_then(|told| told.trouble), None, "at {broken_at}");
    }
}

#[tokio::test]
async fn whoever_follows_is_told_of_lines_that_the_node_has_thrown_away() {
    let sink = Arc::new(MemorySink::default());
    let logs = Logs { sink: Some(Arc::clone(&sink) as _), secrets: None };
    let (pod, follower) = (log(), logs.begin(LogName::default(), None));
    begin(&pod, Some(&follower), format!("{} a\n", stamp(1, 0)).as_bytes()).await;
    let rotated = format!("{} x\n{} y\n", stamp(9, 0), stamp(9, 1));
    read_since(&pod, Some(&follower), |_| rotated).await.expect("its end");
    let trouble = follower.told().and_then(|told| told.trouble).expect("lines are missing");
    assert!(trouble.contains("missing"), "{trouble}");
}

#[tokio::test]
async fn a_reading_goes_on_a_second_before_the_last_line() {
    let log = log();
    assert_eq!((log.reading(10, None).await.since(), log.heard()), (None, None));
    begin(&log, None, b"2026-01-02T03:04:05.123456789+02:00 x\n").await;
    let since = log.reading(10, None).await.since();
    assert_eq!(since.map(|since| since.to_string()).as_deref(), Some("2026-01-02T01:04:04Z"));
    assert!(log.heard().is_some());
}

#[tokio::test]
async fn a_clock_that_goes_back_costs_no_line() {
    let log = log();
    let lines = format!("{} a\n{} b\n{} c\n", stamp(9, 0), stamp(3, 0), stamp(4, 0));
    read(&log, &lines).await.expect("a log");
    assert_eq!(text(&log), "a\nb\nc\n");
}

#[tokio::test]
async fn lines_that_the_node_has_thrown_away_are_missed() {
    let rotated = format!("{} x\n{} y\n", stamp(9, 0), stamp(9, 1));
    let log = log();
    begin(&log, None, format!("{} a\n", stamp(5, 0)).as_bytes()).await;
    assert!(read(&log, "").await.is_err(), "what was read does not come again");
    read(&log, &rotated).await.expect("its end");
    let written = log.written(None);
    assert!(written.text.text.starts_with("a\n") && written.text.text.ends_with("y\n"), "{written:?}");
    assert!(written.incomplete.is_some_and(|why| why.contains("missing")));
    // The newest file begins within a line.
    let log = log_of_late_reader(Some(stamp(9, 0)));
    read(&log, &format!("of a line\n{rotated}")).await.expect("its end");
    let written = log.written(None);
    assert_eq!(written.text.text, "x\ny\n");
    assert!(written.incomplete.is_some());
}

/// Of a command that began at `began`.
fn log_of_late_reader(began: Option<String>) -> PodLog {
    let log = PodLog::default();
    let at = began.map(|at| at.parse().expect("a stamp"));
    log.begun.set(Begun { pod: "p".to_owned(), at }).expect("once");
    log
}

#[tokio::test]
async fn whoever_reads_late_says_so_unless_the_first_line_is_as_old_as_the_command() {
    for (began, is_late) in [(Some(stamp(5, 0)), false), (Some(stamp(1, 0)), true), (None, true)] {
        let log = log_of_late_reader(began);
        read(&log, &format!("{} a\n", stamp(6, 0))).await.expect("a log");
        assert_eq!(log.written(None).incomplete.is_some(), is_late);
    }
    let silent = log_of_late_reader(None);
    read(&silent, "").await.expect("a log");
    assert_eq!(silent.written(None).incomplete, None, "nothing was written");
}

#[tokio::test]
async fn only_both_ends_are_kept_and_a_line_without_end_needs_no_memory() {
    let log = log();
    let mut reading = log.reading(8, None).await;
    reading.take(format!("{} ", stamp(1, 1)).as_bytes()).await.expect("a log");
    for _ in 0..1000 {
        reading.take(&[b'x'; 1000]).await.expect("a log");
    }
    reading.take(b" end\n").await.expect("a log");
    let written = log.written(None).text;
    assert_eq!(written.text, "xx\n[… 999997 bytes cut …]\nx end\n");
    assert_eq!(written.total, 1_000_005);
}

#[tokio::test]
async fn the_kubelets_own_words_and_a_proxys_page_are_faults_and_no_output() {
    let words = "unable to retrieve container logs for containerd://0abc";
    let page = "<html><head></head><body>Bad Gateway</body></html>\n";
    for instead in [words, page, "<html>\n<body>\n</html>\n", "<html></html>"] {
        for before in [String::new(), format!("{} a\n", stamp(1, 0))] {
            for at in 0..instead.len() {
                let log = log();
                let mut reading = log.reading(100, None).await;
                let mut taken = Ok(());
                for piece in [before.as_bytes(), &instead.as_bytes()[..at], &instead.as_bytes()[at..]] {
                    if taken.is_ok() {
                        taken = reading.take(piece).await;
                    }
                }
                let fault = taken.and_then(|()| reading.finish());
                assert!(matches!(fault, Err(Error::NoAnswer(_))), "{instead}, cut at {at}: {fault:?}");
                assert_eq!(text(&log), if before.is_empty() { "" } else { "a\n" }, "{instead}, cut at {at}");
            }
        }
    }
}

#[tokio::test]
async fn only_a_reading_that_began_after_the_end_of_the_command_has_all_of_it() {
    let gone = || Fault::Vanished { cause: "gone".to_owned() };
    let ready = std::future::ready::<Result<(), Fault>>;
    let log = log();
    log.begun.set(Begun { pod: "p".to_owned(), at: None }).expect("once");
    log.followed(|live| ready(if live { Ok(()) } else { Err(gone()) })).await.expect("its present end");
    assert!(!log.is_whole(), "a connection that has ended says nothing of the command");
    let told_later = async {
        tokio::task::yield_now().await;
        log.over.set(false).expect("once");
    };
    let hangs = |live| async move { if live { std::future::pending().await } else { Ok(()) } };
    let (rest, ()) = tokio::join!(log.followed(hangs), told_later);
    assert!(rest.is_ok() && log.is_whole(), "it is read to its end once the command has ended");
    log.settled(Duration::from_secs(3600)).await;
    log.followed(|_| ready(Err(gone()))).await.expect("nobody asks again");

    let lost = PodLog::default();
    lost.begun.set(Begun { pod: "p".to_owned(), at: None }).expect("once");
    assert!(lost.followed(|_| ready(Err(gone()))).await.is_err());
    lost.settled(Duration::from_secs(3600)).await;
    assert!(!lost.is_whole(), "a pod that is gone takes the rest with it");
    PodLog::default().settled(Duration::from_secs(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_the_command_ends_is_taken_although_the_pod_is_gone_by_then() {
    let pieces = ["a\n", "b\n", "c\n"];
    let log = log();
    log.begun.set(Begun { pod: "p".to_owned(), at: None }).expect("once");
    let read = |live: bool| {
        let log = &log;
        async move {
            if !live {
                return Err::<(), _>(Fault::Vanished { cause: "no such pod".to_owned() });
            }
            let mut reading = log.reading(1000, None).await;
            for (second, piece) in (1..).zip(pieces) {
                reading.take(format!("{} {piece}", stamp(second, 0)).as_bytes()).await.expect("a log");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending().await
        }
    };
    let ends = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        log.over.set(false).expect("once");
        log.settled(Duration::from_secs(3)).await;
    };
    let (followed, ()) = tokio::join!(log.followed(read), ends);
    assert!(matches!(followed, Err(Fault::Vanished { .. })), "{followed:?}");
    assert_eq!((text(&log).as_str(), log.is_whole()), ("a\nb\nc\n", false));
}

/// Follows a log that brings `live`, and nothing more when the command ends; then reads an empty file, as a rotation leaves it.
async fn follow_then_rotate(log: &PodLog, follower: Option<&Log>, live: &str, breaks: bool, is_leaving: bool) -> bool {
    let read = async |is_live: bool| {
        let mut reading = log.reading(1000, follower).await;
        if is_live {
            reading.take(live.as_bytes()).await.expect("a log");
            log.over.set(is_leaving).expect("once");
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !breaks {
                std::future::pending::<()>().await;
            }
            return Err(Fault::Lost { cause: "reset".to_owned() });
        }
        reading.finish().map_err(fault)
    };
    let followed = log.followed(read).await;
    assert_eq!(followed.is_ok(), log.is_whole(), "{followed:?}");
    log.is_whole()
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_rotated_after_all_of_it_was_followed_leaves_nothing_out() {
    let lines = format!("{} a\n{} b\n", stamp(1, 0), stamp(2, 0));
    for (breaks, is_leaving, is_whole) in [(false, false, true), (true, false, false), (false, true, false)] {
        let log = log();
        assert_eq!(follow_then_rotate(&log, None, &lines, breaks, is_leaving).await, is_whole);
        assert_eq!(text(&log), "a\nb\n");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_rotated_before_a_connection_had_caught_up_is_not_all_of_it() {
    let known = log();
    begin(&known, None, format!("{} a\n", stamp(1, 0)).as_bytes()).await;
    assert!(!follow_then_rotate(&known, None, "", false, false).await, "the line that is known did not come again");

    let logs = Logs { sink: Some(Arc::new(MemorySink::default())), secrets: None };
    let (lost, first) = (log(), logs.begin(LogName::default(), None));
    begin(&lost, Some(&first), format!("{} a\n", stamp(1, 0)).as_bytes()).await;
    let (pod, next) = (log(), logs.begin(LogName::default(), first.told()));
    assert!(!follow_then_rotate(&pod, Some(&next), "", false, false).await, "nor did it for the next worker");

    let mut live = vec![format!("{} a\n", stamp(1, 0)), String::new()];
    for is_whole in [false, true] {
        let log = log();
        for text in &live {
            let read = async |_| {
                let mut reading = log.reading(1000, None).await;
                reading.take(text.as_bytes()).await.expect("a log");
                reading.finish().map_err(fault)
            };
            let ended = log.followed(read).await;
            assert_eq!(ended.is_ok(), !text.is_empty(), "{ended:?}");
        }
        log.over.set(false).expect("once");
        let rest = log.followed(async |_| log.reading(1000, None).await.finish().map_err(fault)).await;
        assert_eq!((rest.is_ok(), log.is_whole()), (is_whole, is_whole), "{live:?}: {rest:?}");
        // The next time the node ends the one connection because the command has ended, and it is not asked again before that is told.
        live.pop();
    }

    let more = log();
    more.read().at_rest = true;
    begin(&more, None, format!("{} a\n", stamp(1, 0)).as_bytes()).await;
    assert!(!more.read().at_rest, "what comes after all shows that there was more");
}

#[tokio::test(start_paused = true)]
async fn the_rest_is_asked_for_at_once_where_the_pod_is_being_removed() {
    for (is_leaving, longest) in [(true, Duration::from_millis(250)), (false, Duration::from_secs(2))] {
        let log = log();
        log.over.set(is_leaving).expect("once");
        let asked = Instant::now();
        let hangs = log.while_it_runs(std::future::pending());
        assert_eq!(hangs.await, None);
        assert!(asked.elapsed() < longest, "{is_leaving}: {:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_not_silent_while_its_lines_are_being_given() {
    let log = log();
    let silent = log.unless_silent(Duration::from_secs(1), Instant::now(), std::future::pending::<()>()).await;
    assert_eq!(silent, None);
    log.gives.store(true, Ordering::Relaxed);
    let long = tokio::time::sleep(Duration::from_secs(10));
    assert_eq!(log.unless_silent(Duration::from_secs(1), Instant::now(), long).await, Some(()));
}
