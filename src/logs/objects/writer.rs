//! Adds lines to a log: writes its last segment anew, until that is large enough, or was written a moment ago.

use futures::future::BoxFuture;
use object_store::PutPayload;
use object_store::path::Path;
use ticket_activities::logs::Line;
use ticket_activities::{LogSinkError, LogWriter};
use tokio::time::Instant;

use super::http::Busy;
use super::segments::new_key;
use super::sink::within;
use super::store::{PACE, Store, is_refusal, pause};
use crate::logs::bound::Bound;

/// Bytes of a segment after which another one is begun: what is written anew with each piece, at most, and held meanwhile.
pub(super) const FULL: usize = 256 * 1024;

pub(super) struct SegmentWriter {
    store: Store,
    folder: Path,
    bound: Bound,
    /// The one that is written anew.
    segment: Option<Open>,
}

/// A segment that nobody else writes.
struct Open {
    key: Path,
    first: u64,
    payload: PutPayload,
    /// When it was last written: the beginning of that.
    written: Instant,
}

impl SegmentWriter {
    /// Writes behind what a folder holds, in segments of its own.
    pub(super) fn new(store: Store, folder: Path, bound: Bound) -> Self {
        Self { store, folder, bound, segment: None }
    }

    /// Adds bytes that begin with the line of this number. Returns once they are in the store.
    async fn add(&mut self, first: u64, bytes: Vec<u8>) -> object_store::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Whoever does not wait so long has much to be kept, or is at the end.
        let present = self.segment.take().filter(|segment| segment.written.elapsed() >= PACE);
        let mut segment = present.unwrap_or_else(|| Open::new(&self.folder, first));
        segment.add(bytes);
        segment.write(&self.store, &self.folder).await?;
        self.segment = (segment.payload.content_length() < FULL).then_some(segment);
        Ok(())
    }

    fn address(&self) -> String {
        self.store.address(&self.folder)
    }
}

impl Open {
    fn new(folder: &Path, first: u64) -> Self {
        Self { key: new_key(folder, first), first, payload: PutPayload::new(), written: Instant::now() }
    }

    /// What was there is shared, not copied.
    fn add(&mut self, bytes: Vec<u8>) {
        self.payload = self.payload.iter().cloned().chain(PutPayload::from(bytes)).collect();
    }

    /// Writes it as it is now; once more where that has failed, and was not refused.
    async fn write(&mut self, store: &Store, folder: &Path) -> object_store::Result<()> {
        self.written = Instant::now();
        let mut written = store.put(&self.key, self.payload.clone()).await;
        if let Err(error) = &written
            && !is_refusal(error)
        {
            tracing::debug!(%error, "a segment of a log is written again");
            tokio::time::sleep(pause(error)).await;
            if !Busy::is_cause_of(error) {
                // It may still be done, after what is written next: never under the same name.
                self.key = new_key(folder, self.first);
            }
            self.written = Instant::now();
            written = store.put(&self.key, self.payload.clone()).await;
        }
        written
    }
}

impl LogWriter for SegmentWriter {
    fn append(&mut self, lines: Vec<Line>) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        Box::pin(async move {
            let address = self.address();
            let first = lines.first().map_or(0, |line| line.seq);
            let bytes = self.bound.take(&lines).map_err(|error| unwritable(&address, &error))?;
            within(&address, self.add(first, bytes)).await?;
            Ok(self.bound.left_out())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        Box::pin(async move {
            let address = self.address();
            let bytes = self.bound.end().map_err(|error| unwritable(&address, &error))?;
            // A number that no other segment of this writer begins with.
            within(&address, self.add(self.bound.last_seq() + 1, bytes)).await?;
            Ok(self.bound.left_out())
        })
    }
}

fn unwritable(address: &str, error: &std::io::Error) -> LogSinkError {
    LogSinkError { address: address.to_owned(), cause: error.to_string() }
}
