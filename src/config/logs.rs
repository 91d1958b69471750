//! Where the logs of attempts are kept.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::s3::{S3Config, S3Settings};
use super::sandbox::overlap_as_written;

/// Settings of logs.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// `EXECUTION_LOG_SINK`; `None`: logs are kept nowhere, only their ends are, in results.
    pub place: Option<LogPlace>,
    /// `EXECUTION_LOG_MAX_MB`: bytes of one attempt's log.
    pub max_bytes: u64,
    /// Where commands write: no log may be there, nor where links lead there.
    pub working_dir: PathBuf,
}

/// Where whole logs go.
#[derive(Debug, Clone)]
pub enum LogPlace {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of a store that speaks S3.
    Bucket(Box<S3Config>),
}

const SINK: &str = "EXECUTION_LOG_SINK";

impl LogsConfig {
    pub(super) fn read(reader: &mut Reader<'_>, working_dir: &Path) -> Self {
        let sink = reader.optional(
            SINK,
            "where whole logs of attempts go: file:///absolute/folder or s3://bucket/prefix; empty: nowhere; added by this product",
        );
        let max_mb = reader.number_within(
            "EXECUTION_LOG_MAX_MB",
            256,
            1..=1_048_576,
            "MiB of one attempt's log; lines beyond it are left out; added by this product",
        );
        let is_bucket = sink.as_ref().is_some_and(|sink| sink.starts_with("s3:"));
        let s3 = S3Settings::read(reader, is_bucket);
        let place = sink.and_then(|sink| {
            if is_bucket {
                return s3.bucket(reader, SINK, &sink).map(Box::new).map(LogPlace::Bucket);
            }
            let folder = folder(&sink);
            match &folder {
                None => reader.error(format!("{SINK}={sink:?}: expected file:///absolute/folder or s3://bucket/prefix")),
                // Links are followed by whoever uses the folder, which may be on a file system that does not answer.
                Some(folder) if overlap_as_written(folder, working_dir) => reader.error(format!(
                    "{SINK}: commands write in LOCAL_RUNTIME_WORKING_DIR, and could change the logs in {}; name a folder outside of \
                     it",
                    folder.display()
                )),
                Some(_) => {}
            }
            folder.map(LogPlace::Folder)
        });
        Self { place, max_bytes: max_mb << 20, working_dir: working_dir.to_owned() }
    }
}

/// The folder of a URL of the form `file:///…`.
fn folder(sink: &str) -> Option<PathBuf> {
    let url = reqwest::Url::parse(sink).ok()?;
    let plain = url.scheme() == "file" && url.query().is_none() && url.fragment().is_none();
    let folder = url.to_file_path().ok().filter(|_| plain)?;
    folder.parent().is_some().then_some(folder)
}
