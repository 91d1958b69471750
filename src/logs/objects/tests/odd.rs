//! What tests of a store share: one in memory that does as it is told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use reqwest::StatusCode;
use ticket_activities::logs::{Line, Stream};
use ticket_activities::{LogName, LogSink as _, OpenLog};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{PeerAccess, S3Config, S3Keys, S3Login, Secret, SecretSource};
use crate::logs::objects::http::Busy;
use crate::logs::objects::segments::TicketSegments;
use crate::logs::objects::sink::ObjectSink;
use crate::logs::objects::store::Store;

/// What a store does that is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logs::objects) enum Then {
    Writes,
    /// It writes, and the answer is lost.
    WritesUnheard,
    /// The question is lost.
    Loses,
    /// It has no time for that, and does nothing.
    IsBusy,
    Refuses,
    Hangs,
}

/// Keeps objects in memory, once it has done as it was told.
#[derive(Debug, Default)]
pub(in crate::logs::objects) struct Odd {
    objects: InMemory,
    then: Mutex<VecDeque<Then>>,
    /// Names that were to be written, and when.
    asked: Mutex<Vec<(Path, Instant)>>,
}

impl Odd {
    pub(in crate::logs::objects) fn of(then: &[Then]) -> Arc<Self> {
        Arc::new(Self { then: Mutex::new(then.iter().copied().collect()), ..Self::default() })
    }

    pub(in crate::logs::objects) fn asked(&self) -> Vec<Path> {
        self.asked.lock().expect("no test panics with it").iter().map(|(key, _)| key.clone()).collect()
    }

    /// The shortest time between two writes of one name.
    pub(in crate::logs::objects) fn shortest_pace(&self) -> Option<Duration> {
        let asked = self.asked.lock().expect("no test panics with it");
        let mut last = HashMap::new();
        asked.iter().filter_map(|(key, at)| Some(*at - last.insert(key, *at)?)).min()
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
        self.asked.lock().expect("no test panics with it").push((key.clone(), Instant::now()));
        let then = self.then.lock().expect("no test panics with it").pop_front().unwrap_or(Then::Writes);
        let lost = || Error::Generic { store: "Odd", source: "connection reset".into() };
        match then {
            Then::Writes => self.objects.put_opts(key, payload, options).await,
            Then::WritesUnheard => {
                self.objects.put_opts(key, payload, options).await?;
                Err(lost())
            }
            Then::Loses => Err(lost()),
            Then::IsBusy => {
                let busy = Busy { status: StatusCode::TOO_MANY_REQUESTS, said: "TooManyRequests".to_owned() };
                Err(Error::Generic { store: "Odd", source: Box::new(busy) })
            }
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

pub(in crate::logs::objects) fn store(objects: &Arc<Odd>) -> Store {
    Store::new(Arc::clone(objects) as _, "bucket", "all/logs")
}

pub(in crate::logs::objects) fn name(ticket_id: &str) -> LogName {
    LogName { ticket_id: ticket_id.to_owned(), run_id: "run".to_owned(), attempt: 1 }
}

pub(in crate::logs::objects) async fn open(objects: &Arc<Odd>, max_bytes: u64) -> OpenLog {
    ObjectSink::new(store(objects), max_bytes).open(name("t")).await.expect("opened")
}

pub(in crate::logs::objects) fn lines(numbers: RangeInclusive<u64>) -> Vec<Line> {
    let line = |seq| Line { seq, at_ms: 1, stream: Stream::Stdout, text: format!("line {seq}"), cut: 0 };
    numbers.map(line).collect()
}

pub(in crate::logs::objects) async fn read(objects: &Arc<Odd>, ticket_id: &str) -> Vec<Line> {
    let mut reader = TicketSegments::new(store(objects), ticket_id).open("run", 1);
    let mut lines = Vec::new();
    while let Some(line) = reader.line().await.expect("readable") {
        lines.push(line);
    }
    lines
}

/// A service on a port, for as long as it is held, and its URL.
pub(in crate::logs::objects) async fn serve(service: Router) -> (String, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move { axum::serve(listener, service).await.expect("served") });
    (url, AbortOnDropHandle::new(serving))
}

/// A bucket at this address, asked with a key.
pub(in crate::logs::objects) fn config(endpoint: String) -> S3Config {
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
