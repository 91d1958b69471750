//! The segments of a log: objects whose names say in which order they are read.

use object_store::ObjectMeta;
use object_store::path::Path;
use uuid::Uuid;

use super::reader::SegmentReader;
use super::store::{Store, child};
use crate::config::S3Config;
use crate::logs::folder::{ENDING, run_name};

/// A part of a log. Its writer writes it anew with more lines at its end, and nobody else does.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) key: Path,
    /// Number of its first line.
    pub(super) first: u64,
    /// Bytes, when it was looked at.
    pub(super) size: u64,
}

/// A name that no segment has, for one that begins with this line.
pub(super) fn new_key(folder: &Path, first: u64) -> Path {
    child(folder, format!("{first:020}-{}{ENDING}", Uuid::new_v4()))
}

/// The number that a name begins with; `None`: it is not of a segment.
fn first_of(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(ENDING)?.split_once('-')?.0.parse().ok()
}

/// The segments in a folder, in the order of their first lines.
pub(super) async fn segments(store: &Store, folder: &Path) -> object_store::Result<Vec<Segment>> {
    let segment = |object: ObjectMeta| {
        let first = first_of(&object.location)?;
        Some(Segment { key: object.location, first, size: object.size })
    };
    let mut segments: Vec<Segment> = store.objects(folder).await?.into_iter().filter_map(segment).collect();
    segments.sort_unstable_by(|one, other| (one.first, &one.key).cmp(&(other.first, &other.key)));
    Ok(segments)
}

/// The logs of one ticket, for those who read them.
#[derive(Debug)]
pub(crate) struct TicketSegments {
    store: Store,
    ticket_id: String,
}

impl TicketSegments {
    /// # Errors
    /// When the store's client cannot be built.
    pub(crate) fn of(config: &S3Config, ticket_id: &str) -> anyhow::Result<Self> {
        Ok(Self::new(Store::of(config)?, ticket_id))
    }

    pub(super) fn new(store: Store, ticket_id: &str) -> Self {
        Self { store, ticket_id: ticket_id.to_owned() }
    }

    /// The attempts of a run that have a log, in their order.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) async fn attempts(&self, run_id: &str) -> object_store::Result<Vec<u32>> {
        let run = format!("{}.", run_name(run_id));
        let folders = self.store.folders(&self.store.ticket(&self.ticket_id)).await?;
        let attempt = |folder: &String| folder.strip_prefix(&run)?.parse().ok();
        let mut attempts: Vec<u32> = folders.iter().filter_map(attempt).collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// The address of an attempt's log, whether there is one or not.
    pub(crate) fn address(&self, run_id: &str, attempt: u32) -> String {
        self.store.address(&self.store.attempt(&self.ticket_id, run_id, attempt))
    }

    /// Reads an attempt's log from its beginning.
    pub(crate) fn open(&self, run_id: &str, attempt: u32) -> SegmentReader {
        SegmentReader::new(self.store.clone(), self.store.attempt(&self.ticket_id, run_id, attempt))
    }
}
