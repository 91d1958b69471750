//! Adds lines to a log: writes its last segment anew, until that is large enough, or was written a moment ago.

use futures::future::BoxFuture;
use object_store::PutPayload;
use object_store::path::Path;
use ticket_activities::logs::Line;
use ticket_activities::{LogSinkError, LogWriter};
use tokio::time::Instant;
use uuid::Uuid;

use super::http::Busy;
use super::segments::segment_key;
use super::sink::within;
use super::store::{PACE, Store, is_refusal, pause};
use crate::logs::bound::Bound;

/// Bytes of a segment after which another one is begun: what is written anew with each piece, at most, and held meanwhile.
pub(super) const FULL: usize = 256 * 1024;

pub(super) struct SegmentWriter {
    store: Store,
    folder: Path,
    /// In the names of its segments: another writer's may begin with the same line.
    id: Uuid,
    bound: Bound,
    /// The one that is written anew.
    segment: Option<Open>,
}

/// A segment that nobody else writes.
struct Open {
    /// Number of its first line: none of this writer's begins with it but this one.
    first: u64,
    /// Number of the copy that is written.
    copy: u32,
    payload: PutPayload,
    /// When it was last written: the beginning of that.
    written: Instant,
}

impl SegmentWriter {
    /// Writes behind what a folder holds, in segments of its own.
    pub(super) fn new(store: Store, folder: Path, bound: Bound) -> Self {
        Self { store, folder, id: Uuid::new_v4(), bound, segment: None }
    }

    /// Adds bytes that begin with the line of this number. Returns once they are in the store.
    async fn add(&mut self, first: u64, bytes: Vec<u8>) -> object_store::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Whoever does not wait so long has much to be kept, or is at the end.
        let present = self.segment.take().filter(|segment| segment.written.elapsed() >= PACE);
        let mut segment = present.unwrap_or_else(|| Open::new(first));
        segment.add(bytes);
        self.write(&mut segment).await?;
        self.segment = (segment.payload.content_length() < FULL).then_some(segment);
        Ok(())
    }

    /// Writes a segment as it is now; once more where that has failed, and was not refused.
    async fn write(&self, segment: &mut Open) -> object_store::Result<()> {
        let mut written = self.put(segment).await;
        if let Err(error) = &written
            && !is_refusal(error)
        {
            tracing::debug!(%error, "a segment of a log is written again");
            tokio::time::sleep(pause(error)).await;
            if !Busy::is_cause_of(error) {
                // It may still be done, after what is written next: never under the same name.
                segment.copy += 1;
            }
            written = self.put(segment).await;
        }
        written
    }

    async fn put(&self, segment: &mut Open) -> object_store::Result<()> {
        segment.written = Instant::now();
        let key = segment_key(&self.folder, segment.first, self.id, segment.copy);
        self.store.put(&key, segment.payload.clone()).await
    }

    fn address(&self) -> String {
        self.store.address(&self.folder)
    }
}

impl Open {
    fn new(first: u64) -> Self {
        Self { first, copy: 0, payload: PutPayload::new(), written: Instant::now() }
    }

    /// What was there is shared, not copied.
    fn add(&mut self, bytes: Vec<u8>) {
        self.payload = self.payload.iter().cloned().chain(PutPayload::from(bytes)).collect();
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
