//! The sink's side of a log: opened when there is something to keep, given up when it fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Line;
use crate::ports::{LogName, LogSink, LogSinkError, LogWriter, OpenLog};

/// How long a sink may take for one call. Work that writes waits for it meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long work may wait for a sink in all, beside a tenth of the log's age: a slow sink must not use up the work's own time.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(10);
const ENDED: &str = "whoever kept it has ended";

/// Keeps the lines of one attempt. The sink is called by a task of its own: a call that nobody waits for any more is carried out
/// before the next one, and what came of it is told then.
pub(super) struct Keeper {
    state: State,
    /// The last line that the sink was given.
    held: u64,
    begun: Instant,
    /// How long the sink was waited for.
    waited: Duration,
}

enum State {
    /// There is no sink, or it was given up.
    Off,
    Unopened(Arc<dyn LogSink>, LogName),
    Open(mpsc::Sender<Call>),
}

/// How many lines were left out so far, or why no more are kept.
type Answer = Result<u64, String>;
/// Lines to be kept, `None` at the end, and who waits.
type Call = (Option<Vec<Line>>, oneshot::Sender<Answer>);

impl Keeper {
    pub(super) fn new(sink: Option<Arc<dyn LogSink>>, name: LogName) -> Self {
        let state = sink.map_or(State::Off, |sink| State::Unopened(sink, name));
        Self { state, held: 0, begun: Instant::now(), waited: Duration::ZERO }
    }

    /// Opens the sink and says where lines go; `None`: there is no sink.
    pub(super) async fn open(&mut self) -> Result<Option<String>, String> {
        let State::Unopened(sink, name) = &self.state else { return Ok(None) };
        let asked = Instant::now();
        let opened = within(sink.open(name.clone())).await;
        self.waited += asked.elapsed();
        self.state = State::Off;
        let OpenLog { address, last_seq, writer } = opened?;
        let (calls, waiting) = mpsc::channel(1);
        tokio::spawn(call(writer, waiting));
        self.state = State::Open(calls);
        self.held = last_seq;
        Ok(Some(address))
    }

    /// Whether lines go anywhere.
    pub(super) fn keeps(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The last line that the sink has, as far as anybody knows.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// How long work has waited for the sink.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// Keeps those that the sink does not hold yet.
    pub(super) async fn append(&mut self, mut lines: Vec<Line>) -> Result<Option<u64>, String> {
        lines.retain(|line| line.seq > self.held);
        if lines.is_empty() {
            return Ok(None);
        }
        let answer = self.ask(Some(lines)).await;
        if answer.is_ok() && self.waited > PATIENCE_IN_ALL + self.begun.elapsed() / 10 {
            self.state = State::Off;
            return Err(format!("it is slow: the work has waited {:.1} s for it", self.waited.as_secs_f64()));
        }
        answer
    }

    /// Nothing more comes.
    pub(super) async fn close(&mut self) -> Result<Option<u64>, String> {
        let answer = self.ask(None).await;
        self.state = State::Off;
        answer
    }

    /// `None`: nothing keeps lines.
    async fn ask(&mut self, lines: Option<Vec<Line>>) -> Result<Option<u64>, String> {
        let State::Open(calls) = &self.state else { return Ok(None) };
        let (asked, (tell, told)) = (Instant::now(), oneshot::channel());
        let last = lines.as_ref().and_then(|lines| lines.last()).map(|line| line.seq);
        let answer = match calls.reserve().await {
            Ok(room) => {
                room.send((lines, tell));
                // From here on it is carried out, also when nobody waits for the answer any more.
                self.held = last.unwrap_or(self.held);
                told.await.unwrap_or_else(|_| Err(ENDED.to_owned()))
            }
            Err(_) => Err(ENDED.to_owned()),
        };
        self.waited += asked.elapsed();
        if answer.is_err() {
            self.state = State::Off;
        }
        answer.map(Some)
    }
}

/// Calls the writer, one call after the other, and never again after it has failed.
async fn call(mut writer: Box<dyn LogWriter>, mut waiting: mpsc::Receiver<Call>) {
    let mut answer: Answer = Ok(0);
    while let Some((lines, tell)) = waiting.recv().await {
        if answer.is_ok() {
            answer = match lines {
                Some(lines) => within(writer.append(lines)).await,
                None => within(writer.close()).await,
            };
        }
        // Whoever asked may be gone; the next one is told of an error.
        let _ = tell.send(answer.clone());
    }
}

/// The answer of a sink, or why there is none.
async fn within<T>(call: impl Future<Output = Result<T, LogSinkError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
