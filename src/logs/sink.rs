//! The sink of the settings.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use ticket_activities::{LogName, LogSink, LogSinkError, OpenLog};

use super::{FileSink, ObjectSink};
use crate::config::{LogPlace, LogsConfig};

/// Where whole logs go.
#[derive(Debug, Clone)]
pub enum Sink {
    /// Below a folder of this machine.
    Files(FileSink),
    /// Into a bucket.
    Objects(ObjectSink),
}

impl Sink {
    /// The one of these settings, if there is any.
    ///
    /// # Errors
    /// When the thread that writes files cannot be started, or the client of the bucket cannot be built.
    pub fn of(config: &LogsConfig) -> anyhow::Result<Option<Arc<Self>>> {
        let sink = match &config.place {
            None => return Ok(None),
            Some(LogPlace::Folder(folder)) => {
                Self::Files(FileSink::beside(folder.clone(), config.max_bytes, config.working_dir.clone())?)
            }
            Some(LogPlace::Bucket(bucket)) => Self::Objects(ObjectSink::of(bucket, config.max_bytes)?),
        };
        Ok(Some(Arc::new(sink)))
    }

    /// Does there what a log needs.
    ///
    /// # Errors
    /// What is wrong, when it cannot be done or takes too long.
    pub(crate) async fn try_out(&self) -> Result<(), String> {
        match self {
            Self::Files(files) => files.try_out().await.map_err(|error| error.to_string()),
            Self::Objects(objects) => objects.try_out().await.map_err(|error| error.cause),
        }
    }

    /// What an operator may do when it cannot.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Files(_) => "set EXECUTION_LOG_SINK to a folder that answers and that this worker may write",
            Self::Objects(_) => {
                "set EXECUTION_LOG_SINK to a bucket that is there, and let this worker list it, and read and write objects in it: \
                 s3:ListBucket, s3:GetObject, s3:PutObject"
            }
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => write!(f, "{}", files.root().display()),
            Self::Objects(objects) => f.write_str(&objects.root()),
        }
    }
}

impl LogSink for Sink {
    fn open(&self, name: LogName) -> BoxFuture<'_, Result<OpenLog, LogSinkError>> {
        match self {
            Self::Files(files) => files.open(name),
            Self::Objects(objects) => objects.open(name),
        }
    }
}
