//! What tests of logs share: a sink in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use zeroize::Zeroizing;

use super::Line;
use crate::ports::{LogName, LogSink, LogSinkError, LogWriter, OpenLog, WorkerSecrets};

/// Keeps lines in memory, or does what it is told.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) lines: Arc<Mutex<Vec<Line>>>,
    /// Most lines that came at once.
    pub(crate) most: Arc<Mutex<usize>>,
    /// It answers to so many calls of `append`, and then does as `then` says.
    pub(crate) answers: Option<usize>,
    pub(crate) then: Then,
    /// How long each call takes that it answers to as ever.
    pub(crate) takes: Duration,
    /// How long lines are to be gathered.
    pub(crate) pace: Duration,
    /// Calls of `append`.
    pub(crate) calls: Arc<AtomicUsize>,
}

/// What a sink does that does not keep lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Fails,
    Hangs,
    /// It takes two seconds for each call.
    IsSlow,
    /// It takes two seconds, and fails.
    FailsLate,
    /// It answers to `append` as ever, and hangs in the end.
    HangsAtTheEnd,
    Panics,
}

impl MemorySink {
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("no test panics with it").clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> usize {
        *self.most.lock().expect("no test panics with it")
    }
}

struct Writer {
    lines: Arc<Mutex<Vec<Line>>>,
    most: Arc<Mutex<usize>>,
    calls: Arc<AtomicUsize>,
    answers: Option<usize>,
    then: Then,
    takes: Duration,
}

impl Writer {
    async fn misbehave(&self) -> Result<(), LogSinkError> {
        match self.then {
            Then::Hangs => std::future::pending().await,
            Then::IsSlow | Then::FailsLate => tokio::time::sleep(Duration::from_secs(2)).await,
            Then::Panics => panic!("a defect of the sink"),
            Then::Fails | Then::HangsAtTheEnd => {}
        }
        match self.then {
            Then::IsSlow | Then::HangsAtTheEnd => Ok(()),
            _ => Err(LogSinkError { address: "memory://".to_owned(), cause: "no space left".to_owned() }),
        }
    }
}

impl LogSink for MemorySink {
    fn open(&self, _: LogName) -> BoxFuture<'_, Result<OpenLog, LogSinkError>> {
        let last_seq = self.lines().last().map_or(0, |line| line.seq);
        let (lines, most, calls) = (Arc::clone(&self.lines), Arc::clone(&self.most), Arc::clone(&self.calls));
        let writer = Writer { lines, most, calls, answers: self.answers, then: self.then, takes: self.takes };
        let (address, pace) = ("memory://".to_owned(), self.pace);
        Box::pin(async move { Ok(OpenLog { address, last_seq, pace, writer: Box::new(writer) }) })
    }
}

impl LogWriter for Writer {
    fn append(&mut self, lines: Vec<Line>) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.takes).await;
            match self.answers {
                Some(0) => self.misbehave().await?,
                more => self.answers = more.map(|answers| answers - 1),
            }
            let mut most = self.most.lock().expect("no test panics with it");
            *most = lines.len().max(*most);
            self.lines.lock().expect("no test panics with it").extend(lines);
            Ok(0)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        Box::pin(async move {
            if self.then == Then::HangsAtTheEnd {
                std::future::pending::<()>().await;
            }
            Ok(0)
        })
    }
}

struct Known(Vec<&'static str>);

impl WorkerSecrets for Known {
    fn texts(&self) -> BoxFuture<'_, Vec<Zeroizing<String>>> {
        Box::pin(async { self.0.iter().map(|text| Zeroizing::new((*text).to_owned())).collect() })
    }
}

/// A worker that holds these.
pub(crate) fn redactor_of(secrets: &[&'static str]) -> Arc<dyn WorkerSecrets> {
    Arc::new(Known(secrets.to_vec()))
}
