//! The sink: opens logs in a store, and tries out whether that can be done.

use std::time::Duration;

use futures::future::BoxFuture;
use object_store::path::Path;
use ticket_activities::logs::Line;
use ticket_activities::{LogName, LogSink, LogSinkError, OpenLog};

use super::segments::segments;
use super::store::{PACE, Store, child, told, twice};
use super::writer::SegmentWriter;
use crate::config::S3Config;
use crate::logs::bound::{Bound, last_line};

/// How long a store may take for what is asked of a sink: less than the caller waits, which could not say what it waited for.
const PATIENCE: Duration = Duration::from_millis(2_800);
/// How long lines are gathered: a little longer than a name must rest, so that the segment before is written anew.
const GATHERED: Duration = PACE.saturating_add(Duration::from_millis(50));

/// Most segments of a log that is gone on with, 2 GiB: a store tells of a thousand at once.
const MOST_SEGMENTS: usize = 8_000;

/// Keeps logs in a store of objects.
#[derive(Debug, Clone)]
pub struct ObjectSink {
    store: Store,
    max_bytes: u64,
}

impl ObjectSink {
    /// Keeps at most `max_bytes` of each attempt's log in this bucket.
    ///
    /// # Errors
    /// When its client cannot be built.
    pub fn of(config: &S3Config, max_bytes: u64) -> anyhow::Result<Self> {
        Ok(Self::new(Store::of(config)?, max_bytes))
    }

    pub(super) fn new(store: Store, max_bytes: u64) -> Self {
        Self { store, max_bytes }
    }

    /// The folder of all logs.
    pub(crate) fn root(&self) -> String {
        self.store.root()
    }

    /// Writes an object there, finds it and reads it: all that logs need. It stays, and each worker writes the same one, so that no
    /// worker needs the right to remove anything.
    ///
    /// # Errors
    /// When that is not possible, or takes too long.
    pub(crate) async fn try_out(&self) -> Result<(), LogSinkError> {
        const CHECK: &str = "a worker tries out whether logs can be kept here\n";
        let folder = self.store.beside_logs(".check".to_owned());
        let key = child(&folder, "check".to_owned());
        let check = async {
            // All workers write the same: it does not matter which of them does, nor when.
            twice(|| self.store.put(&key, CHECK)).await?;
            let found = self.store.objects(&folder).await?.iter().any(|object| object.location == key);
            Ok::<bool, object_store::Error>(found && self.store.get(&key, 0).await? == CHECK.as_bytes())
        };
        match within(&self.store.address(&folder), check).await? {
            true => Ok(()),
            false => Err(LogSinkError {
                address: self.store.address(&folder),
                cause: "what was written there is not what is found there; logs need a store that is consistent"
                    .to_owned(),
            }),
        }
    }
}

impl LogSink for ObjectSink {
    fn open(&self, name: LogName) -> BoxFuture<'_, Result<OpenLog, LogSinkError>> {
        Box::pin(async move {
            let folder = self.store.attempt(&name.ticket_id, &name.run_id, name.attempt);
            let address = self.store.address(&folder);
            let held = within(&address, held(&self.store, &folder)).await?;
            let bound = Bound::new(held.bytes, self.max_bytes, held.last.as_ref());
            let writer = Box::new(SegmentWriter::new(self.store.clone(), folder, bound));
            Ok(OpenLog { address, last_seq: held.last_seq, pace: GATHERED, writer })
        })
    }
}

/// What a folder holds.
struct Held {
    bytes: u64,
    /// Up to this number all lines are there.
    last_seq: u64,
    last: Option<Line>,
}

/// Whoever began the last segment knew of all lines before it. Two workers may have begun one there: what either has is in the log.
async fn held(store: &Store, folder: &Path) -> object_store::Result<Held> {
    let segments = segments(store, folder, 0, MOST_SEGMENTS + 1).await?;
    if segments.len() > MOST_SEGMENTS {
        let source = format!(
            "there are more than {MOST_SEGMENTS} segments of this log, which cannot be looked through in time; \
             EXECUTION_LOG_MAX_MB bounds a log"
        );
        return Err(object_store::Error::Generic { store: "S3", source: source.into() });
    }
    let bytes = segments.iter().map(|segment| segment.size).sum();
    let first = segments.last().map_or(0, |newest| newest.first);
    let mut last: Option<Line> = None;
    for newest in segments.iter().filter(|segment| segment.first == first) {
        let line = last_line(&store.get(&newest.key, 0).await?);
        last = last.into_iter().chain(line).max_by_key(|line| line.seq);
    }
    let last_seq = last.as_ref().map_or(first.saturating_sub(1), |line| line.seq);
    Ok(Held { bytes, last_seq, last })
}

/// What a store answers, in time.
pub(super) async fn within<T>(
    address: &str,
    call: impl Future<Output = object_store::Result<T>>,
) -> Result<T, LogSinkError> {
    let cause = match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => told(&error),
        Err(_) => format!(
            "the store has not answered for {} s; check AWS_ENDPOINT_URL_S3 and the store",
            PATIENCE.as_secs_f64()
        ),
    };
    Err(LogSinkError { address: address.to_owned(), cause })
}
