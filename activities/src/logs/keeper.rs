//! The sink's side of a log: opened when there is something to keep, given up when it fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Line;
use super::logged::last_of;
use super::told::Told;
use crate::ports::{LogName, LogSink, LogSinkError, LogWriter, OpenLog};

/// How long a sink may take for one call. Work that writes waits for it meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long work may wait for a sink in all, beside a tenth of the log's age: a slow sink must not use up the work's own time.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(10);
/// Bytes after which nothing more is gathered for a call.
const CALL_BYTES: u32 = 512 * 1024;
/// Bytes of lines that may wait to be kept: those of a call, and what is read meanwhile.
const ROOM: u32 = 2 * CALL_BYTES;
/// What a line takes beside its text, in bytes: number, time and stream, in memory as in JSON.
const LINE_BYTES: usize = 64;
/// Pieces that may wait: each has a line at least, so that what has room has a place.
const MOST_PIECES: usize = ROOM as usize / LINE_BYTES;
const ENDED: &str = "whoever kept it has ended";

/// Keeps the lines of one attempt. The sink is called by a task of its own: what was given to it is carried out in its order, also
/// when nobody waits any more, and what came of it is told then.
pub(super) struct Keeper {
    state: State,
    told: Told,
    /// The last line that the sink was given.
    given: u64,
    begun: Instant,
    /// How long the sink was waited for.
    waited: Duration,
}

enum State {
    /// There is no sink, or its log was closed.
    Off,
    Unopened(Arc<dyn LogSink>, LogName),
    Open(Queue),
}

/// The way to the task that calls the sink.
struct Queue {
    calls: mpsc::Sender<Call>,
    /// For lines that are not kept yet. Closed: the sink was given up.
    room: Arc<Semaphore>,
    /// Whether lines are gathered, so that whoever writes goes on as long as there is room.
    gathers: bool,
}

enum Call {
    /// Lines to be kept, their room, and who waits.
    Lines(Vec<Line>, Option<OwnedSemaphorePermit>, oneshot::Sender<()>),
    /// What was given is to be kept now, and who waits; whether nothing more comes.
    Rest(bool, oneshot::Sender<()>),
}

impl Keeper {
    pub(super) fn new(sink: Option<Arc<dyn LogSink>>, name: LogName, told: Told) -> Self {
        let state = sink.map_or(State::Off, |sink| State::Unopened(sink, name));
        Self { state, told, given: 0, begun: Instant::now(), waited: Duration::ZERO }
    }

    /// Opens the sink and says where lines go; `None`: there is no sink.
    pub(super) async fn open(&mut self) -> Result<Option<String>, String> {
        let State::Unopened(sink, name) = &self.state else { return Ok(None) };
        let asked = Instant::now();
        let opened = within(sink.open(name.clone())).await;
        self.waited += asked.elapsed();
        self.state = State::Off;
        let OpenLog { address, last_seq, pace, writer } = opened?;
        let (calls, waiting) = mpsc::channel(MOST_PIECES);
        let room = Arc::new(Semaphore::new(ROOM as usize));
        tokio::spawn(keep(writer, waiting, pace, Arc::clone(&room), self.told.clone()));
        self.state = State::Open(Queue { calls, room, gathers: !pace.is_zero() });
        self.given = last_seq;
        self.told.settled_before(last_seq);
        Ok(Some(address))
    }

    /// Whether lines go anywhere.
    pub(super) fn keeps(&self) -> bool {
        matches!(&self.state, State::Open(queue) if !queue.room.is_closed())
    }

    /// The last line that the sink was given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Keeps those that the sink was not given yet, and tells what came of it. Returns when they are kept, or have room until then.
    pub(super) async fn append(&mut self, mut lines: Vec<Line>) {
        let last_lines = last_of(&lines);
        let State::Open(queue) = &self.state else {
            return self.told.settled(last_lines);
        };
        let Some(last) = lines.last().map(|line| line.seq).filter(|last| *last > self.given) else {
            return self.told.again(last_lines);
        };
        lines.retain(|line| line.seq > self.given);
        let (asked, (tell, told)) = (Instant::now(), oneshot::channel());
        // So much is free as soon as what was gathered is not enough for a call.
        let size = bytes(&lines).min(ROOM - CALL_BYTES);
        let room = Arc::clone(&queue.room).acquire_many_owned(size).await.ok();
        if room.is_none() {
            // The sink was given up: they are only told, after those before them.
            lines = last_lines.clone();
        }
        let place = queue.calls.reserve().await;
        // From here on it is carried out, also when nobody waits any more.
        self.given = last;
        let is_taken = place.map(|place| place.send(Call::Lines(lines, room, tell))).is_ok();
        let has_ended = !is_taken || (!queue.gathers && told.await.is_err());
        self.waited += asked.elapsed();
        self.told.waited(self.waited);
        if has_ended {
            queue.give_up(&self.told, ENDED.to_owned());
            self.state = State::Off;
            self.told.settled(last_lines);
        } else if self.waited > PATIENCE_IN_ALL + self.begun.elapsed() / 10 {
            let waited = self.waited.as_secs_f64();
            queue.give_up(&self.told, format!("it is slow: the work has waited {waited:.1} s for it"));
        }
    }

    /// Returns when all that was given is kept. `ends`: nothing more comes.
    pub(super) async fn rest(&mut self, ends: bool) {
        let State::Open(queue) = &self.state else { return };
        let (tell, told) = oneshot::channel();
        if queue.calls.send(Call::Rest(ends, tell)).await.is_err() || told.await.is_err() {
            queue.give_up(&self.told, ENDED.to_owned());
        }
        if ends {
            self.state = State::Off;
        }
    }
}

impl Queue {
    /// Nothing more is kept.
    fn give_up(&self, told: &Told, trouble: String) {
        if !self.room.is_closed() {
            self.room.close();
            told.trouble(trouble);
        }
    }
}

fn bytes(lines: &[Line]) -> u32 {
    let bytes = lines.iter().map(|line| line.text.len() + LINE_BYTES).sum::<usize>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Calls the writer, one call after the other, and never again after it has failed. Between the beginnings of two calls lies `pace`,
/// unless there is enough for one, or the end has come.
async fn keep(
    mut writer: Box<dyn LogWriter>,
    mut waiting: mpsc::Receiver<Call>,
    pace: Duration,
    room: Arc<Semaphore>,
    told: Told,
) {
    let mut due = Instant::now();
    while let Some(call) = waiting.recv().await {
        let (mut lines, mut size, mut given, mut rest) = (Vec::new(), 0_u32, Vec::new(), None);
        let mut next = Some(call);
        while let Some(call) = next.take() {
            match call {
                Call::Lines(more, room, tell) => {
                    size = size.saturating_add(bytes(&more));
                    lines.extend(more);
                    given.push((room, tell));
                }
                Call::Rest(ends, tell) => rest = Some((ends, tell)),
            }
            if rest.is_none() && size < CALL_BYTES && !room.is_closed() {
                // What is there is taken whatever time it is: the runtime would end a long turn.
                next = match waiting.try_recv() {
                    Ok(call) => Some(call),
                    Err(_) => tokio::time::timeout_at(due, waiting.recv()).await.ok().flatten(),
                };
            }
        }
        if !lines.is_empty() {
            due = Instant::now() + pace;
            let last = last_of(&lines);
            if !room.is_closed() {
                let answer = within(writer.append(lines)).await;
                if answer.is_err() {
                    room.close();
                }
                told.kept(answer);
            }
            told.settled(last);
        }
        for (_, tell) in given {
            // Whoever asked may be gone.
            let _ = tell.send(());
        }
        if let Some((ends, tell)) = rest {
            if ends && !room.is_closed() {
                told.kept(within(writer.close()).await);
            }
            let _ = tell.send(());
            if ends {
                return;
            }
        }
    }
}

/// The answer of a sink, or why there is none.
async fn within<T>(call: impl Future<Output = Result<T, LogSinkError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
