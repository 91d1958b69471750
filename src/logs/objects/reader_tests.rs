//! How logs are read: of segments that lie beside each other, and of a store that answers what it should not.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use object_store::path::Path;
use ticket_activities::LogSink as _;
use ticket_activities::logs::{Line, Stream};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::reader::SegmentReader;
use super::segments::{TicketSegments, segment_key, segments};
use super::sink::ObjectSink;
use super::store::Store;
use super::tests::{Odd, config, lines, name, read, serve, store};
use crate::logs::kept::TicketLogs;

const FOLDER: &str = "all/logs/ticket-t/run.1";

fn bytes(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{}\n", serde_json::to_string(line).expect("JSON")).into_bytes()).collect()
}

/// Writes a copy of a segment.
async fn copy(store: &Store, writer: Uuid, copy: u32, lines: &[Line]) {
    let key = segment_key(&Path::from(FOLDER), lines[0].seq, writer, copy);
    store.put(&key, bytes(lines)).await.expect("written");
}

/// Writes a segment of a writer of its own.
async fn segment(store: &Store, lines: &[Line]) {
    copy(store, Uuid::new_v4(), 0, lines).await;
}

/// The same lines, by another worker.
fn of(worker: &str, lines: Vec<Line>) -> Vec<Line> {
    lines.into_iter().map(|line| Line { text: worker.to_owned(), ..line }).collect()
}

async fn rest(reader: &mut SegmentReader) -> Vec<Line> {
    let mut lines = Vec::new();
    while let Some(line) = reader.line().await.expect("readable") {
        lines.push(line);
    }
    lines
}

#[tokio::test]
async fn of_copies_of_a_segment_the_longest_is_read_and_each_word_of_a_worker_once() {
    let objects = Odd::of(&[]);
    let store = store(&objects);
    let note = Line { stream: Stream::Worker, ..lines(1..=1).remove(0) };
    let log = [vec![note], lines(2..=4)].concat();
    let mut follower = TicketSegments::new(store.clone(), "t").open("run", 1);
    let (mut followed, writer) = (Vec::new(), Uuid::new_v4());
    // The last one was sent before the others, and its answer was lost.
    for (number, length) in [(8, 2), (9, 3), (10, 4), (11, 1)] {
        copy(&store, writer, number, &log[..length]).await;
        followed.extend(rest(&mut follower).await);
    }
    assert_eq!(followed, log, "as they come");
    assert_eq!(read(&objects, "t").await, log, "as they are there");
    let found = segments(&store, &Path::from(FOLDER), 0, 10).await.expect("listed");
    assert_eq!(found.iter().map(|segment| segment.size).collect::<Vec<_>>(), [bytes(&log).len() as u64]);
}

#[tokio::test]
async fn segments_of_two_workers_that_begin_with_one_line_are_both_read() {
    // Whichever is listed first.
    for writers in [[1, 2], [2, 1]] {
        let objects = Odd::of(&[]);
        let store = store(&objects);
        let note = Line { stream: Stream::Worker, ..lines(4..=4).remove(0) };
        let next = [vec![note.clone()], of("next", lines(5..=5))].concat();
        segment(&store, &lines(1..=3)).await;
        copy(&store, Uuid::from_u128(writers[0]), 0, &next).await;
        copy(&store, Uuid::from_u128(writers[1]), 0, &of("lost", lines(4..=8))).await;
        let read = read(&objects, "t").await;
        assert!(read.contains(&note), "{read:?}");
        assert_eq!(read.iter().map(|line| line.seq).max(), Some(8));
        let opened = ObjectSink::new(store, 1 << 20).open(name("t")).await.expect("opened");
        assert_eq!(opened.last_seq, 8, "no number is given a third time");
    }
}

#[tokio::test]
async fn of_numbers_that_workers_have_written_beside_each_other_each_is_read_once() {
    let objects = Odd::of(&[]);
    let store = store(&objects);
    segment(&store, &of("lost", lines(1..=6))).await;
    segment(&store, &of("next", lines(4..=5))).await;
    assert_eq!(read(&objects, "t").await, of("lost", lines(1..=6)));
    // The lost one has begun another segment before it ended, in the middle of what the next one wrote.
    segment(&store, &of("next", lines(4..=20))).await;
    segment(&store, &of("lost", lines(7..=9))).await;
    segment(&store, &of("next", lines(21..=22))).await;
    let read: Vec<u64> = read(&objects, "t").await.iter().map(|line| line.seq).collect();
    assert_eq!(read, (1..=22).collect::<Vec<_>>(), "none is missing, none comes twice");
}

#[tokio::test]
async fn lines_that_the_first_of_three_workers_has_alone_are_read() {
    let objects = Odd::of(&[]);
    let store = store(&objects);
    segment(&store, &of("first", lines(1..=50))).await;
    segment(&store, &of("second", lines(10..=14))).await;
    segment(&store, &of("third", lines(12..=13))).await;
    assert_eq!(read(&objects, "t").await, of("first", lines(1..=50)));
}

#[tokio::test]
async fn what_lies_below_a_log_and_is_no_segment_of_it_is_passed_over() {
    let objects = Odd::of(&[]);
    let store = store(&objects);
    segment(&store, &lines(1..=1)).await;
    for name in [
        "7-x-0.jsonl",
        "00000000000000000002.jsonl",
        "00000000000000000002-x.jsonl",
        "00000000000000000002-x-y.jsonl",
        "a/00000000000000000002-x-0.jsonl",
        "0000000000000000000x-x-0.jsonl",
    ] {
        let key = Path::from(format!("{FOLDER}/{name}"));
        store.put(&key, bytes(&lines(2..=2))).await.expect("written");
    }
    assert_eq!(read(&objects, "t").await, lines(1..=1));
    assert_eq!(ObjectSink::new(store, 1 << 20).open(name("t")).await.expect("opened").last_seq, 1);
}

#[tokio::test]
async fn a_log_of_more_segments_than_can_be_looked_through_is_not_gone_on_with_and_says_so() {
    let objects = Odd::of(&[]);
    let store = store(&objects);
    for first in 1..=8_001 {
        segment(&store, &lines(first..=first)).await;
    }
    let error = ObjectSink::new(store, 1 << 20).open(name("t")).await.err().expect("too many").to_string();
    assert!(error.contains("more than 8000 segments"), "{error}");
    let numbers: Vec<u64> = read(&objects, "t").await.iter().map(|line| line.seq).collect();
    assert_eq!(numbers, (1..=8_001).collect::<Vec<_>>(), "it can be read");
}

/// A store that speaks S3, on a port. Remembers which paths were asked for, with their queries.
struct Server {
    logs: TicketSegments,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn new(answer: impl Fn(&str) -> (StatusCode, String) + Clone + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        let answer = move |request: Request| async move {
            let path = request.uri().to_string();
            heard.lock().expect("no test panics with it").push(path.clone());
            answer(&path)
        };
        let (url, serving) = serve(Router::new().fallback(answer)).await;
        let logs = TicketSegments::of(&config(url), "t").expect("a client");
        Self { logs, asked, _serving: serving }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

/// The answer to a list, with these names of objects.
fn listing(keys: impl IntoIterator<Item = String>) -> (StatusCode, String) {
    let object = |key: String| {
        format!("<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>64</Size></Contents>")
    };
    let objects: String = keys.into_iter().map(object).collect();
    (StatusCode::OK, format!("<ListBucketResult>{objects}</ListBucketResult>"))
}

fn key(first: u64) -> String {
    format!("{FOLDER}/{first:020}-x-0.jsonl")
}

/// The number of the segment that a path asks for; `None`: it asks for a list.
fn segment_of(path: &str) -> Option<u64> {
    path.split_once("/run.1/")?.1.split_once('-')?.0.parse().ok()
}

#[tokio::test]
async fn each_look_asks_for_the_last_segments_only() {
    let server = Server::new(|path| match segment_of(path) {
        Some(first) => (StatusCode::OK, String::from_utf8(bytes(&lines(first..=first))).expect("JSON")),
        None => listing((1..=150).map(key)),
    })
    .await;
    let mut reader = server.logs.open("run", 1);
    assert_eq!(rest(&mut reader).await, lines(1..=150));
    assert_eq!(rest(&mut reader).await, []);
    let lists: Vec<String> = server.asked().into_iter().filter(|path| path.contains("list-type=2")).collect();
    let begin = |first: u64| format!("start-after={}%2F{first:020}", FOLDER.replace('/', "%2F"));
    assert!(lists[0].contains(&begin(0)) && lists.last().is_some_and(|list| list.ends_with(&begin(51))), "{lists:?}");
}

#[tokio::test]
async fn a_segment_that_is_removed_while_a_log_is_read_does_not_end_it() {
    let server = Server::new(|path| match segment_of(path) {
        Some(2) => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>".to_owned()),
        Some(first) => (StatusCode::OK, String::from_utf8(bytes(&lines(first..=first))).expect("JSON")),
        None => listing((1..=3).map(key)),
    })
    .await;
    let numbers: Vec<u64> = rest(&mut server.logs.open("run", 1)).await.iter().map(|line| line.seq).collect();
    assert_eq!(numbers, [1, 3]);
}

#[tokio::test]
async fn what_a_store_answers_is_told_in_short_and_without_what_a_terminal_would_act_on() {
    let body = format!("<html>\u{1b}[31m{}</html>", "x".repeat(100_000));
    let server = Server::new(move |_| (StatusCode::INTERNAL_SERVER_ERROR, body.clone())).await;
    let logs = TicketLogs::Objects(server.logs);
    let listed = logs.attempts("run").await.expect_err("refused").to_string();
    let read = logs.open("run", 1).expect("opened").line().await.expect_err("refused").to_string();
    for error in [listed, read] {
        assert!(error.contains("500") && error.contains("check EXECUTION_LOG_SINK"), "{error}");
        assert!(error.len() < 1_000 && !error.contains(char::is_control), "{error}");
    }
}
