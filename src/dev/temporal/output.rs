//! Where the dev server's output goes, and its last lines for error messages.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio_util::task::AbortOnDropHandle;

/// Bytes kept, or read back, of the output's end.
const TAIL_BYTES: usize = 8 * 1024;
/// Lines of it that an error message shows.
const TAIL_LINES: usize = 10;
/// What the stream may take to end after the tree has.
const STREAM_MARGIN: Duration = Duration::from_secs(2);

/// The output of one run.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// Appended to a file by the server itself, so nothing is lost when this process is killed.
    File {
        path: PathBuf,
        /// Where this run's output starts.
        start: u64,
    },
    /// Its end only.
    Memory(Arc<Mutex<VecDeque<u8>>>),
}

/// Reads the output into memory, when there is anything to read.
pub(super) struct Reader(Option<AbortOnDropHandle<()>>);

impl Output {
    /// Opens it; answers with what the process gets as standard output and standard error too.
    pub(super) fn open(log_file: Option<&Path>) -> io::Result<(Self, (Stdio, Stdio), Reader)> {
        if let Some(path) = log_file {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("log file {}: {error}", path.display()));
            let file = File::options().create(true).append(true).open(path).map_err(named)?;
            let start = file.metadata().map_err(named)?.len();
            let streams = (file.try_clone()?.into(), file.into());
            return Ok((Self::File { path: path.to_owned(), start }, streams, Reader(None)));
        }
        // One pipe for both streams keeps their lines in order.
        let (read, write) = io::pipe()?;
        let read = Receiver::from_owned_fd(OwnedFd::from(read))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let reader = AbortOnDropHandle::new(tokio::spawn(keep_tail(read, Arc::clone(&tail))));
        Ok((Self::Memory(tail), (write.try_clone()?.into(), write.into()), Reader(Some(reader))))
    }

    /// The last lines of this run, trimmed. Empty when there are none.
    pub(super) fn last_lines(&self) -> String {
        let bytes = match self {
            Self::File { path, start } => read_tail(path, *start).unwrap_or_default(),
            Self::Memory(tail) => tail.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect(),
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Reader {
    /// Waits until everything has been read.
    pub(super) async fn finish(self) {
        if let Some(reader) = self.0 {
            // Nobody is left to write, unless the tree was lost.
            let _ = tokio::time::timeout(STREAM_MARGIN, reader).await;
        }
    }
}

async fn keep_tail(mut stream: Receiver, tail: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = vec![0; TAIL_BYTES];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..read]);
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
    }
}

fn read_tail(path: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES as u64))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
