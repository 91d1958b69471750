//! Logs in a store in memory, and in one that does as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::path::Path;
use ticket_activities::logs::{Line, Stream};
use ticket_activities::{LogName, LogSink as _, OpenLog};
use uuid::Uuid;

use super::segments::{TicketSegments, segment_key};
use super::sink::ObjectSink;
use super::store::{PACE, child};
use super::writer::FULL;

mod answers;
mod credentials;
mod odd;

pub(super) use odd::{Odd, Then, config, lines, name, open, read, serve, store};

/// Adds lines once the last segment may be written anew.
async fn append_later(log: &mut OpenLog, lines: Vec<Line>) {
    tokio::time::sleep(PACE).await;
    assert_eq!(log.writer.append(lines).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_log_is_opened_again_behind_its_last_line_by_a_writer_with_a_segment_of_its_own() {
    let objects = Odd::of(&[]);
    let mut lost = open(&objects, 1 << 20).await;
    assert_eq!((lost.last_seq, lost.address.as_str()), (0, "s3://bucket/all/logs/ticket-t/run.1/"));
    for line in lines(1..=3) {
        append_later(&mut lost, vec![line]).await;
    }
    let mut next = open(&objects, 1 << 20).await;
    assert_eq!(next.last_seq, 3);
    append_later(&mut next, lines(4..=5)).await;
    // The lost one was not lost, and goes on beside it.
    append_later(&mut lost, lines(4..=6)).await;
    append_later(&mut next, lines(6..=7)).await;
    assert_eq!(next.writer.close().await, Ok(0));
    assert_eq!(read(&objects, "t").await, lines(1..=7));
    let asked = objects.asked();
    let distinct: std::collections::BTreeSet<_> = asked.iter().collect();
    assert_eq!(distinct.len(), 2, "each wrote one segment anew: {asked:?}");
    assert!(distinct.iter().all(|key| key.as_ref().starts_with("all/logs/ticket-t/run.1/0000000000000000000")));
    assert_eq!(open(&objects, 1 << 20).await.last_seq, 7);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_large_enough_is_written_no_more() {
    let objects = Odd::of(&[]);
    let mut log = open(&objects, 1 << 30).await;
    let long = |seq| Line { text: "x".repeat(16_000), ..lines(seq..=seq).remove(0) };
    for seq in 1..=40 {
        append_later(&mut log, vec![long(seq)]).await;
    }
    let segments = store(&objects).objects(&Path::from("all/logs/ticket-t/run.1")).await.expect("listed");
    let sizes: Vec<u64> = segments.iter().map(|segment| segment.size).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes[..2].iter().all(|size| (FULL as u64..FULL as u64 + 17_000).contains(size)), "{sizes:?}");
    assert_eq!(read(&objects, "t").await, (1..=40).map(long).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn no_name_is_written_twice_within_a_second_and_nothing_waits_for_that() {
    let objects = Odd::of(&[]);
    let mut log = open(&objects, 3_000).await;
    let mut seq = 0;
    for pause in [0, 300, 700, 1_000, 1_000, 999, 1_001, 10, 10, 5_000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let began = tokio::time::Instant::now();
        seq += 1;
        assert_eq!(log.writer.append(lines(seq..=seq)).await, Ok(0));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    assert!(objects.shortest_pace().is_some_and(|pace| pace >= PACE), "{:?}", objects.shortest_pace());
    let names: std::collections::BTreeSet<_> = objects.asked().into_iter().collect();
    assert_eq!((objects.asked().len(), names.len()), (10, 6));
    assert_eq!(read(&objects, "t").await, lines(1..=10));
    // Too much is left out, which is said at the end, at once.
    log.writer.append(lines(11..=100)).await.expect("written");
    let began = tokio::time::Instant::now();
    assert!(log.writer.close().await.is_ok_and(|left_out| left_out > 0));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(objects.shortest_pace().is_some_and(|pace| pace >= PACE));
    let last = read(&objects, "t").await.pop().expect("lines");
    assert!(last.text.ends_with("lines were left out …]"), "{last:?}");
}

#[tokio::test]
async fn a_log_that_is_too_large_says_where_it_was_cut_over_all_its_segments() {
    let objects = Odd::of(&[]);
    open(&objects, 1000).await.writer.append(lines(1..=5)).await.expect("written");
    let mut log = open(&objects, 1000).await;
    for line in lines(6..=100) {
        log.writer.append(vec![line]).await.expect("written");
    }
    let left_out = log.writer.close().await.expect("closed");
    let (kept, notes): (Vec<_>, Vec<_>) =
        read(&objects, "t").await.into_iter().partition(|line| line.stream == Stream::Stdout);
    assert_eq!(kept, lines(1..=100 - left_out));
    assert!(left_out > 50, "{left_out}");
    assert!(notes[0].text.contains("EXECUTION_LOG_MAX_MB") && notes[0].seq == 101 - left_out, "{notes:?}");
    assert_eq!(notes[1].text, format!("[… {left_out} lines were left out …]"));
}

#[tokio::test]
async fn no_id_leaves_the_prefix_and_attempts_are_found_in_their_order() {
    let objects = Odd::of(&[]);
    for id in ["..", ".", "a/b", "a:b", "é", &"x".repeat(200)] {
        for attempt in [10, 9] {
            let name = LogName { attempt, ..name(id) };
            let mut log = ObjectSink::new(store(&objects), 1 << 20).open(name).await.expect("opened");
            log.writer.append(lines(1..=1)).await.expect("written");
        }
        let ticket = TicketSegments::new(store(&objects), id);
        assert_eq!(ticket.attempts("run").await.expect("listed"), [9, 10], "{id}");
        assert_eq!(ticket.attempts("ru").await.expect("listed"), [0; 0], "{id}");
        assert_eq!(ticket.open("run", 9).line().await.expect("read"), Some(lines(1..=1).remove(0)), "{id}");
    }
    let asked = objects.asked();
    assert!(
        asked.iter().all(|key| key.as_ref().starts_with("all/logs/ticket-") && key.parts().count() == 5),
        "{asked:?}"
    );
    assert_eq!(TicketSegments::new(store(&objects), "unknown").attempts("run").await.expect("listed"), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn segments_are_read_on_as_they_grow_and_what_is_none_is_passed_over() {
    let objects = Odd::of(&[]);
    let (store, folder) = (store(&objects), Path::from("all/logs/ticket-t/run.1"));
    let mut reader = TicketSegments::new(store.clone(), "t").open("run", 1);
    assert_eq!(reader.line().await.expect("read"), None, "there is none yet");
    let mut log = open(&objects, 1 << 20).await;
    for line in lines(1..=3) {
        append_later(&mut log, vec![line.clone()]).await;
        assert_eq!(reader.line().await.expect("read"), Some(line));
        assert_eq!(reader.line().await.expect("read"), None);
    }
    for (key, text) in [("notes.txt", "no segment\n"), ("x-1.jsonl", "none either\n")] {
        store.put(&child(&folder, key.to_owned()), text.as_bytes().to_vec()).await.expect("written");
    }
    store.put(&segment_key(&folder, 4, Uuid::new_v4(), 0), b"rubbish\n\nhalf a li".to_vec()).await.expect("written");
    assert_eq!(reader.line().await.expect("read"), None);
    let mut next = open(&objects, 1 << 20).await;
    assert_eq!(next.last_seq, 3, "whoever began with the fourth line knew of three");
    next.writer.append(lines(4..=4)).await.expect("written");
    assert_eq!(reader.line().await.expect("read"), Some(lines(4..=4).remove(0)));
}

#[tokio::test]
async fn trying_out_writes_one_object_that_all_workers_share_and_says_what_is_wrong() {
    let objects = Odd::of(&[Then::Writes, Then::Writes, Then::Refuses]);
    let sink = ObjectSink::new(store(&objects), 1000);
    assert_eq!(sink.root(), "s3://bucket/all/logs/");
    sink.try_out().await.expect("it can be written");
    sink.try_out().await.expect("and again");
    let error = sink.try_out().await.expect_err("no more").to_string();
    assert!(error.contains("AccessDenied"), "{error}");
    assert_eq!(store(&objects).objects(&Path::from("all")).await.expect("listed").len(), 1);
}
