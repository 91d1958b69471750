//! The log of one attempt.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::batch::{Batch, Raw};
use super::keeper::Keeper;
use super::logged::Logged;
use super::splitter::Splitter;
use super::text::{clean, lossy};
use super::told::Told;
use super::{Line, Redactor, Stream};
use crate::clock::now_ms;
use crate::ports::{LogName, LogSink, WorkerSecrets};

/// How long the end of a log may take, when its work has ended.
pub(crate) const LOG_END: Duration = Duration::from_secs(3);
/// Longest character.
const CHAR_BYTES: usize = 4;

/// What logs are made with. Without a sink only the last lines are known; without secrets nothing is taken out.
#[derive(Clone, Default)]
pub struct Logs {
    /// Where whole logs go.
    pub sink: Option<Arc<dyn LogSink>>,
    /// What must not be in them.
    pub secrets: Option<Arc<dyn WorkerSecrets>>,
}

/// What an attempt writes. Clones write to the same log.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    secrets: Option<Arc<dyn WorkerSecrets>>,
    /// Made when something is written, or a result is looked through: most attempts of some types have nothing for it.
    redactor: OnceCell<Redactor>,
    /// Held while lines are given to their keeper, so that they are kept in their order.
    writing: tokio::sync::Mutex<Writing>,
    told: Told,
}

struct Writing {
    /// Of standard output and of standard error; `None`: nothing was written yet.
    splitters: Option<[Splitter; 2]>,
    keeper: Keeper,
    /// Number of the last line.
    seq: u64,
    /// Whether the output can be read again from any place on, so that a line has one number for ever.
    resumes: bool,
}

impl Logs {
    /// The log of an attempt. `recorded`: what the lost worker's last heartbeat told of it.
    #[must_use]
    pub fn begin(&self, name: LogName, recorded: Option<Logged>) -> Log {
        let seq = recorded.as_ref().map_or(0, |recorded| recorded.seq);
        let told = Told::new(name.attempt, recorded);
        let keeper = Keeper::new(self.sink.clone(), name, told.clone());
        Log(Arc::new(Shared {
            secrets: self.secrets.clone(),
            redactor: OnceCell::new(),
            writing: tokio::sync::Mutex::new(Writing { splitters: None, keeper, seq, resumes: false }),
            told,
        }))
    }
}

impl Default for Log {
    fn default() -> Self {
        Logs::default().begin(LogName::default(), None)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.0.told).finish()
    }
}

impl Log {
    /// Takes a piece of a stream, and returns when its lines are kept, or have room until a sink that gathers lines has them. Never
    /// fails: what cannot be kept is told in the result. [`Stream::Worker`] is for this type's own words.
    pub async fn write(&self, stream: Stream, piece: &[u8]) {
        let Some(index) = index_of(stream).filter(|_| !piece.is_empty()) else { return };
        let mut writing = self.0.writing.lock().await;
        self.begin(&mut writing).await;
        let mut rest = piece;
        while !rest.is_empty() {
            let batch = writing.read(index, &mut rest);
            self.keep(&mut writing, stream, batch.into_lines()).await;
        }
    }

    /// The place that the output was read up to, after something was written since [`Log::resume`]: with a heartbeat the next worker
    /// gets to know it, once all before it is kept. No line of either stream may be unfinished there.
    pub fn reached(&self, at: Value) {
        self.0.told.reached(at);
    }

    /// Where output is to be read from that can be read again: after a lost worker the last place that it told, after a lost connection
    /// the last one that was reached, and null before the first. What was written of lines that have not ended is forgotten; it comes again.
    pub async fn resume(&self) -> Value {
        let mut writing = self.0.writing.lock().await;
        writing.splitters.iter_mut().flatten().for_each(Splitter::forget);
        let at = self.0.told.resume(writing.splitters.is_none());
        // Lines after it get the numbers that they had.
        writing.seq = self.0.told.read();
        writing.resumes = true;
        at
    }

    /// What takes the worker's secrets out of results.
    pub async fn result_redactor(&self) -> Redactor {
        self.redactor().await.of_results()
    }

    /// What takes them out of lines.
    async fn redactor(&self) -> &Redactor {
        let made = self.0.redactor.get_or_init(|| async {
            match &self.0.secrets {
                Some(secrets) => Redactor::new(secrets.texts().await),
                None => Redactor::default(),
            }
        });
        made.await
    }

    /// What heartbeats tell; `None`: nothing was written.
    #[must_use]
    pub fn told(&self) -> Option<Logged> {
        self.0.told.logged()
    }

    /// Number of the last line that was read; 0 before the first.
    pub(crate) fn last_seq(&self) -> u64 {
        self.0.told.read()
    }

    /// Lines that were to be kept are missing because whoever reads the output could not do so.
    pub(crate) fn lacks(&self, what: String) {
        if self.0.told.address().is_some() {
            self.0.told.trouble(what);
        }
    }

    /// Returns when all that was written is kept, after [`LOG_END`] at the latest: a heartbeat then tells all of it.
    pub(crate) async fn flush(&self) {
        let kept = async { self.0.writing.lock().await.keeper.rest(false).await };
        if tokio::time::timeout(LOG_END, kept).await.is_err() {
            self.0.told.trouble(format!("what was written last was not kept within {} s", LOG_END.as_secs()));
        }
    }

    /// Nothing more is written; what is known of it all, after [`LOG_END`] at the latest.
    pub(crate) async fn end(&self) -> Option<Logged> {
        let told = &self.0.told;
        if tokio::time::timeout(LOG_END, self.finish()).await.is_err() {
            told.trouble(format!("its end was not kept within {} s", LOG_END.as_secs()));
        }
        // Those that are not kept were written all the same.
        self.told().map(|logged| Logged { seq: logged.seq.max(told.read()), ..logged })
    }

    async fn finish(&self) {
        let mut writing = self.0.writing.lock().await;
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let last = writing.splitters.as_mut().and_then(|splitters| splitters[index].finish());
            if let Some((bytes, cut)) = last {
                writing.seq += 1;
                let line = (writing.seq, bytes, cut);
                self.keep(&mut writing, stream, [line].into_iter()).await;
            }
        }
        writing.keeper.rest(true).await;
    }

    /// Before the first line: opens the sink, and says what is missing there.
    async fn begin(&self, writing: &mut Writing) {
        if writing.splitters.is_some() {
            return;
        }
        let told = &self.0.told;
        // Before the sink is opened, which is done once: this may be dropped meanwhile.
        let keep = Line::MAX_BYTES + self.redactor().await.margin() + CHAR_BYTES;
        let before = told.address();
        match writing.keeper.open().await {
            Ok(Some(address)) => told.set_address(address),
            Ok(None) if before.is_some() => told.trouble("the worker that went on keeps no logs".to_owned()),
            Ok(None) => {}
            Err(trouble) => told.trouble(trouble),
        }
        writing.splitters = Some([Splitter::new(keep), Splitter::new(keep)]);
        let held = writing.keeper.given();
        let missing = writing.seq.saturating_sub(held + told.left_out_before());
        if missing > 0 && writing.keeper.keeps() {
            let elsewhere = before.map_or_else(String::new, |address| format!(", see {address}"));
            let trouble = format!("a worker was lost, and {missing} of the lines up to here were not kept{elsewhere}");
            // Before the sink is waited for, where this may be dropped.
            told.trouble(trouble.clone());
            // With the number of the last of them: those that follow keep theirs.
            self.note(writing, &trouble).await;
        }
        let last = writing.seq.max(held);
        // Output that cannot be read again is of another run; its numbers go on after all that is known of the lost one.
        if !writing.resumes && last > 0 {
            writing.seq = last + 1;
            self.note(writing, "a worker was lost; what follows is the output of another run").await;
        }
    }

    async fn note(&self, writing: &mut Writing, text: &str) {
        let line = (writing.seq, text.as_bytes().to_vec(), 0);
        self.keep(writing, Stream::Worker, [line].into_iter()).await;
    }

    async fn keep(&self, writing: &mut Writing, stream: Stream, read: impl Iterator<Item = Raw>) {
        let (at_ms, redactor) = (now_ms(), self.redactor().await);
        let lines: Vec<Line> = read.map(|raw| line(redactor, raw, stream, at_ms)).collect();
        if let Some(last) = lines.last() {
            self.0.told.set_read(last.seq);
        }
        writing.keeper.append(lines).await;
    }
}

impl Writing {
    /// Lines of `rest`, of which what was read is gone.
    fn read(&mut self, index: usize, rest: &mut &[u8]) -> Batch {
        let mut batch = Batch::new(self.keeper.keeps());
        let Some(splitters) = &mut self.splitters else {
            *rest = &[];
            return batch;
        };
        while !batch.is_full()
            && let Some((bytes, cut)) = splitters[index].next(rest)
        {
            self.seq += 1;
            batch.add((self.seq, bytes, cut));
        }
        batch
    }
}

fn line(redactor: &Redactor, (seq, bytes, cut): Raw, stream: Stream, at_ms: i64) -> Line {
    let raw = lossy(&bytes);
    // Before it is cleaned: what begins a sequence may take the first character of a secret away.
    let (redacted, whole) = redactor.redact_raw(&raw, false, cut > 0);
    let mut text = clean(redacted.as_bytes()).into_owned();
    let end = text.floor_char_boundary(Line::MAX_BYTES);
    let cut = cut + (raw.len() - whole + text.len() - end) as u64;
    text.truncate(end);
    Line { seq, at_ms, stream, text, cut }
}

fn index_of(stream: Stream) -> Option<usize> {
    match stream {
        Stream::Stdout => Some(0),
        Stream::Stderr => Some(1),
        Stream::Worker => None,
    }
}

#[cfg(test)]
mod tests;
