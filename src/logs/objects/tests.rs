//! Logs in a store in memory, and in one that does as it is told.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::StatusCode;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use ticket_activities::logs::{Line, Stream};
use ticket_activities::{LogName, LogSink as _, OpenLog};

use super::segments::{TicketSegments, new_key};
use super::sink::ObjectSink;
use super::store::{Store, child};
use super::writer::FULL;
use crate::config::{PeerAccess, S3Config, S3Keys, S3Login, Secret, SecretSource};

/// What a store does that is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Writes,
    /// It writes, and the answer is lost.
    WritesUnheard,
    /// The question is lost.
    Loses,
    Refuses,
    Hangs,
}

/// Keeps objects in memory, once it has done as it was told.
#[derive(Debug, Default)]
pub(super) struct Odd {
    objects: InMemory,
    then: Mutex<VecDeque<Then>>,
    /// Names that were to be written.
    asked: Mutex<Vec<Path>>,
}

impl Odd {
    pub(super) fn of(then: &[Then]) -> Arc<Self> {
        Arc::new(Self { then: Mutex::new(then.iter().copied().collect()), ..Self::default() })
    }

    fn asked(&self) -> Vec<Path> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.asked.lock().expect("no test panics with it").push(key.clone());
        let then = self.then.lock().expect("no test panics with it").pop_front().unwrap_or(Then::Writes);
        let lost = || Error::Generic { store: "Odd", source: "connection reset".into() };
        match then {
            Then::Writes => self.objects.put_opts(key, payload, options).await,
            Then::WritesUnheard => {
                self.objects.put_opts(key, payload, options).await?;
                Err(lost())
            }
            Then::Loses => Err(lost()),
            Then::Refuses => Err(Error::PermissionDenied { path: key.to_string(), source: "AccessDenied".into() }),
            Then::Hangs => std::future::pending().await,
        }
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

pub(super) fn store(objects: &Arc<Odd>) -> Store {
    Store::new(Arc::clone(objects) as _, "bucket", "all/logs")
}

pub(super) fn name(ticket_id: &str) -> LogName {
    LogName { ticket_id: ticket_id.to_owned(), run_id: "run".to_owned(), attempt: 1 }
}

async fn open(objects: &Arc<Odd>, max_bytes: u64) -> OpenLog {
    ObjectSink::new(store(objects), max_bytes).open(name("t")).await.expect("opened")
}

pub(super) fn lines(numbers: RangeInclusive<u64>) -> Vec<Line> {
    let line = |seq| Line { seq, at_ms: 1, stream: Stream::Stdout, text: format!("line {seq}"), cut: 0 };
    numbers.map(line).collect()
}

pub(super) async fn read(objects: &Arc<Odd>, ticket_id: &str) -> Vec<Line> {
    let mut reader = TicketSegments::new(store(objects), ticket_id).open("run", 1);
    let mut lines = Vec::new();
    while let Some(line) = reader.line().await.expect("readable") {
        lines.push(line);
    }
    lines
}

#[tokio::test]
async fn a_log_is_opened_again_behind_its_last_line_by_a_writer_with_a_segment_of_its_own() {
    let objects = Odd::of(&[]);
    let mut lost = open(&objects, 1 << 20).await;
    assert_eq!((lost.last_seq, lost.address.as_str()), (0, "s3://bucket/all/logs/ticket-t/run.1/"));
    for line in lines(1..=3) {
        assert_eq!(lost.writer.append(vec![line]).await, Ok(0));
    }
    let mut next = open(&objects, 1 << 20).await;
    assert_eq!(next.last_seq, 3);
    next.writer.append(lines(4..=5)).await.expect("written");
    // The lost one was not lost, and goes on beside it.
    lost.writer.append(lines(4..=6)).await.expect("written");
    next.writer.append(lines(6..=7)).await.expect("written");
    assert_eq!(next.writer.close().await, Ok(0));
    assert_eq!(read(&objects, "t").await, lines(1..=7));
    let asked = objects.asked();
    let distinct: std::collections::BTreeSet<_> = asked.iter().collect();
    assert_eq!(distinct.len(), 2, "each wrote one segment anew: {asked:?}");
    assert!(distinct.iter().all(|key| key.as_ref().starts_with("all/logs/ticket-t/run.1/0000000000000000000")));
    assert_eq!(open(&objects, 1 << 20).await.last_seq, 7);
}

#[tokio::test]
async fn a_segment_that_is_large_enough_is_written_no_more() {
    let objects = Odd::of(&[]);
    let mut log = open(&objects, 1 << 30).await;
    let long = |seq| Line { text: "x".repeat(16_000), ..lines(seq..=seq).remove(0) };
    for seq in 1..=40 {
        log.writer.append(vec![long(seq)]).await.expect("written");
    }
    let segments = store(&objects).objects(&Path::from("all/logs/ticket-t/run.1")).await.expect("listed");
    let sizes: Vec<u64> = segments.iter().map(|segment| segment.size).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes[..2].iter().all(|size| (FULL as u64..FULL as u64 + 17_000).contains(size)), "{sizes:?}");
    assert_eq!(read(&objects, "t").await, (1..=40).map(long).collect::<Vec<_>>());
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

#[tokio::test(start_paused = true)]
async fn what_got_no_answer_is_written_again_under_another_name() {
    for then in [Then::Loses, Then::WritesUnheard] {
        let objects = Odd::of(&[Then::Writes, then]);
        let mut log = open(&objects, 1 << 20).await;
        for line in lines(1..=3) {
            assert_eq!(log.writer.append(vec![line]).await, Ok(0), "{then:?}");
        }
        let asked = objects.asked();
        assert_eq!((&asked[0], asked.len()), (&asked[1], 4), "{then:?}");
        assert!(asked[1] != asked[2] && asked[2] == asked[3], "what may still come overwrites nothing: {asked:?}");
        assert_eq!(read(&objects, "t").await, lines(1..=3), "{then:?}");
        assert_eq!(open(&objects, 1 << 20).await.last_seq, 3, "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_hangs_or_loses_everything_is_an_error_in_time_that_says_what_to_do() {
    for (then, asked, expected) in [
        (&[Then::Refuses][..], 1, "AccessDenied; check EXECUTION_LOG_SINK"),
        (&[Then::Loses, Then::Loses], 2, "connection reset; check EXECUTION_LOG_SINK"),
        (&[Then::Hangs], 1, "has not answered for 2.8 s; check AWS_ENDPOINT_URL_S3"),
    ] {
        let objects = Odd::of(then);
        let mut log = open(&objects, 1 << 20).await;
        let began = tokio::time::Instant::now();
        let error = log.writer.append(lines(1..=1)).await.expect_err("an error").to_string();
        assert!(error.starts_with("s3://bucket/all/logs/ticket-t/run.1/: ") && error.contains(expected), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3), "{then:?}: {:?}", began.elapsed());
        assert_eq!(objects.asked().len(), asked, "{then:?}");
    }
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

#[tokio::test]
async fn segments_are_read_on_as_they_grow_and_what_is_none_is_passed_over() {
    let objects = Odd::of(&[]);
    let (store, folder) = (store(&objects), Path::from("all/logs/ticket-t/run.1"));
    let mut reader = TicketSegments::new(store.clone(), "t").open("run", 1);
    assert_eq!(reader.line().await.expect("read"), None, "there is none yet");
    let mut log = open(&objects, 1 << 20).await;
    for line in lines(1..=3) {
        log.writer.append(vec![line.clone()]).await.expect("written");
        assert_eq!(reader.line().await.expect("read"), Some(line));
        assert_eq!(reader.line().await.expect("read"), None);
    }
    for (key, text) in [("notes.txt", "no segment\n"), ("x-1.jsonl", "none either\n")] {
        store.put(&child(&folder, key.to_owned()), text.as_bytes().to_vec()).await.expect("written");
    }
    store.put(&new_key(&folder, 4), b"rubbish\n\nhalf a li".to_vec()).await.expect("written");
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

/// A bucket at this address, asked with a key.
pub(super) fn config(endpoint: String) -> S3Config {
    let secret = |text: &str| SecretSource::of_text("AWS_SECRET_ACCESS_KEY", Secret::new(text));
    let keys = S3Keys { id: secret("AKIAIOSFODNN7EXAMPLE"), secret: secret("hunter2"), session: None };
    S3Config {
        bucket: "bucket".to_owned(),
        prefix: "all/logs".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint),
        login: S3Login::Keys(Box::new(keys)),
        peer: PeerAccess::default(),
    }
}

#[tokio::test]
async fn a_refusal_of_a_real_server_names_the_bucket_and_no_key_and_is_not_asked_for_again() {
    const REFUSAL: &str = "<Error><Code>AccessDenied</Code><Message>not you</Message>\
                           <AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId></Error>";
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let answer = move |request: axum::extract::Request| async move {
        let signed = request.headers().get("authorization").is_some_and(|text| {
            text.to_str().is_ok_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"))
        });
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        heard.lock().expect("no test panics with it").push((method, path, signed));
        (StatusCode::FORBIDDEN, REFUSAL)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let sink = ObjectSink::of(&config(url), 1000).expect("a client");
    let error = sink.try_out().await.expect_err("refused").to_string();
    for expected in ["s3://bucket/all/logs/.check/", "AccessDenied: not you", "check EXECUTION_LOG_SINK"] {
        assert!(error.contains(expected), "{error}");
    }
    assert!(!error.contains("AKIA") && !error.contains("hunter2"), "{error}");
    let asked = asked.lock().expect("no test panics with it").clone();
    assert_eq!(asked, [("PUT".to_owned(), "/bucket/all/logs/.check/check".to_owned(), true)]);
    server.abort();
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_in_time() {
    let sink = ObjectSink::of(&config("http://127.0.0.1:1".to_owned()), 1000).expect("a client");
    let began = std::time::Instant::now();
    let error = sink.open(name("t")).await.err().expect("an error").to_string();
    assert!(error.starts_with("s3://bucket/all/logs/ticket-t/run.1/: ") && error.contains("127.0.0.1:1"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
