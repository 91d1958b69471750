//! The segments of a log: objects whose names say in which order they are read.

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};
use uuid::Uuid;

use super::reader::SegmentReader;
use super::store::{Store, child, told, twice};
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

impl Segment {
    /// `None`: the object is no segment of the log in this folder.
    fn of(folder: &Path, object: ObjectMeta) -> Option<Self> {
        let name = object.location.filename().filter(|_| object.location.parent().as_ref() == Some(folder))?;
        let (first, rest) = name.strip_suffix(ENDING)?.split_once('-')?;
        let (_, copy) = rest.rsplit_once('-')?;
        copy.parse::<u32>().ok()?;
        // Of another width it would not be listed in its place.
        let first = Some(first).filter(|first| first.len() == FIRST_DIGITS)?.parse().ok()?;
        Some(Self { key: object.location, first, size: object.size })
    }

    /// What its copies share: folder, first line and writer.
    fn series(&self) -> Option<&str> {
        self.key.as_ref().rsplit_once('-').map(|(series, _)| series)
    }
}

/// Digits of the number that a segment's name begins with: stores list names in their order.
const FIRST_DIGITS: usize = 20;

/// The name of a writer's segment that begins with this line: of one of its copies.
pub(super) fn segment_key(folder: &Path, first: u64, writer: Uuid, copy: u32) -> Path {
    child(folder, format!("{}-{writer}-{copy}{ENDING}", digits(first)))
}

fn digits(first: u64) -> String {
    format!("{first:0FIRST_DIGITS$}")
}

/// The segments in a folder that begin with line `from` or a later one, `most` at most, in the order of their first lines. Of copies
/// it is the longest: another one is what got no answer and was written again.
pub(super) async fn segments(
    store: &Store,
    folder: &Path,
    from: u64,
    most: usize,
) -> object_store::Result<Vec<Segment>> {
    let before = child(folder, digits(from));
    twice(|| async {
        let mut objects = store.objects_after(folder, &before);
        let mut segments: Vec<Segment> = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let Some(segment) = Segment::of(folder, object) else { continue };
            if let Some(copy) = segments.last_mut().filter(|last| last.series() == segment.series()) {
                if copy.size < segment.size {
                    *copy = segment;
                }
            } else if segments.len() == most {
                break;
            } else {
                segments.push(segment);
            }
        }
        Ok::<_, Error>(segments)
    })
    .await
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
    /// When the store cannot be asked: why, and what to do.
    pub(crate) async fn attempts(&self, run_id: &str) -> Result<Vec<u32>, String> {
        let run = format!("{}.", run_name(run_id));
        let folders = self.store.folders(&self.store.ticket(&self.ticket_id)).await;
        let folders = folders.map_err(|error| told(&error))?;
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
