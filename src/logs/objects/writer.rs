//! Adds lines to a log: writes its last segment anew, until that is large enough.

use futures::future::BoxFuture;
use object_store::path::Path;
use ticket_activities::logs::Line;
use ticket_activities::{LogSinkError, LogWriter};

use super::segments::new_key;
use super::sink::within;
use super::store::{PAUSE, Store, is_refusal};
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
    bytes: Vec<u8>,
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
        let folder = &self.folder;
        let segment =
            self.segment.get_or_insert_with(|| Open { key: new_key(folder, first), first, bytes: Vec::new() });
        segment.bytes.extend(bytes);
        match self.store.put(&segment.key, segment.bytes.clone()).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "a segment of a log is written again");
                tokio::time::sleep(PAUSE).await;
                // What got no answer may still come, after what is written next: never under the same name.
                segment.key = new_key(folder, segment.first);
                self.store.put(&segment.key, segment.bytes.clone()).await?;
            }
        }
        if segment.bytes.len() >= FULL {
            self.segment = None;
        }
        Ok(())
    }

    fn address(&self) -> String {
        self.store.address(&self.folder)
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
            within(&address, self.add(self.bound.last_seq(), bytes)).await?;
            Ok(self.bound.left_out())
        })
    }
}

fn unwritable(address: &str, error: &std::io::Error) -> LogSinkError {
    LogSinkError { address: address.to_owned(), cause: error.to_string() }
}
