//! The whole logs of one ticket, wherever they are, for those who read them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use ticket_activities::logs::Line;

use super::objects::{SegmentReader, TicketSegments};
use super::{Folder, LogReader};
use crate::config::{LogPlace, LogsConfig};

/// The logs of a ticket's attempts.
#[derive(Debug)]
pub(crate) enum TicketLogs {
    Files(Folder),
    Objects(TicketSegments),
}

/// Why logs cannot be read, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

/// Reads one of them.
#[derive(Debug)]
pub(crate) enum KeptLog {
    File(LogReader, PathBuf),
    Objects(SegmentReader, String),
}

impl TicketLogs {
    /// Where these settings say that they are; `None`: nowhere.
    ///
    /// # Errors
    /// When the client of a bucket cannot be built.
    pub(crate) fn of(config: &LogsConfig, ticket_id: &str) -> anyhow::Result<Option<Self>> {
        Ok(match &config.place {
            None => None,
            Some(LogPlace::Folder(root)) => Some(Self::Files(Folder::of(root, ticket_id))),
            Some(LogPlace::Bucket(bucket)) => Some(Self::Objects(TicketSegments::of(bucket, ticket_id)?)),
        })
    }

    /// The attempts of a run that have a log here, in their order.
    ///
    /// # Errors
    /// When that cannot be looked up.
    pub(crate) async fn attempts(&self, run_id: &str) -> Result<Vec<u32>, Unreadable> {
        let found = match self {
            Self::Files(folder) => folder
                .attempts(run_id)
                .map(|files| files.into_iter().map(|(attempt, _)| attempt).collect())
                .map_err(|error| format!("{error}; check EXECUTION_LOG_SINK")),
            Self::Objects(segments) => segments.attempts(run_id).await,
        };
        found.map_err(|error| Unreadable(format!("logs cannot be listed: {error}")))
    }

    /// Reads the log of an attempt that has one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn open(&self, run_id: &str, attempt: u32) -> Result<KeptLog, Unreadable> {
        match self {
            Self::Files(folder) => {
                let path = folder.file(run_id, attempt);
                let reader = LogReader::open(&path).map_err(|error| unreadable_file(&path, &error))?;
                Ok(KeptLog::File(reader, path))
            }
            Self::Objects(segments) => {
                Ok(KeptLog::Objects(segments.open(run_id, attempt), segments.address(run_id, attempt)))
            }
        }
    }

    /// Whether a worker's address of an attempt's log is the place that is read here. A folder may be one that machines share: what
    /// the address says of the machine is not looked at.
    pub(crate) fn is_at(&self, run_id: &str, attempt: u32, address: &str) -> bool {
        match self {
            Self::Files(folder) => {
                let (here, there) = (Url::from_file_path(folder.file(run_id, attempt)), Url::parse(address));
                here.ok().zip(there.ok()).is_some_and(|(here, there)| here.path() == there.path())
            }
            Self::Objects(segments) => segments.address(run_id, attempt) == address,
        }
    }

    /// Between two looks at what has come.
    pub(crate) fn pace(&self) -> Duration {
        match self {
            Self::Files(_) => Duration::from_millis(250),
            // Each look is a request or two, which cost money.
            Self::Objects(_) => Duration::from_secs(1),
        }
    }
}

impl KeptLog {
    /// The next line; `None`: there is none yet.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn line(&mut self) -> Result<Option<Line>, Unreadable> {
        match self {
            Self::File(reader, path) => reader.line().map_err(|error| unreadable_file(path, &error)),
            Self::Objects(reader, address) => reader.line().await.map_err(|error| unreadable(address, error)),
        }
    }
}

fn unreadable_file(path: &Path, error: &std::io::Error) -> Unreadable {
    unreadable(path.display(), format!("{error}; check who may read it, and EXECUTION_LOG_SINK"))
}

fn unreadable(place: impl Display, error: String) -> Unreadable {
    Unreadable(format!("the log {place} cannot be read: {error}"))
}
