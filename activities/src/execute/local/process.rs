//! One supervised process: start, watch, end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use super::output::{Captured, Tail, drain};
use super::runtime::SupervisorCommand;
use crate::supervisor::{Notice, STOP};

/// What the supervisor may take beyond the grace, to kill and to answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// What the streams may take to end after the whole tree has.
const STREAM_MARGIN: Duration = Duration::from_secs(2);

/// What to run.
pub(super) struct Launch<'a> {
    pub(super) supervisor: &'a SupervisorCommand,
    pub(super) grace: Duration,
    pub(super) binary: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) folder: &'a Path,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) output_limit: usize,
}

/// A process that runs, or has just ended.
pub(super) struct Process {
    supervisor: Child,
    notices: tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    control: tokio::net::unix::OwnedWriteHalf,
    streams: Vec<AbortOnDropHandle<()>>,
    stdout: Arc<Mutex<Tail>>,
    stderr: Arc<Mutex<Tail>>,
    grace: Duration,
    pid: i32,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) leftovers: usize,
    /// Whether the supervisor confirmed that nothing of the tree is left.
    pub(super) confirmed: bool,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
}

impl Process {
    pub(super) async fn start(launch: Launch<'_>) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let mut supervisor = Command::new(&launch.supervisor.program)
            .args(&launch.supervisor.arguments)
            .arg("--grace-ms")
            .arg(launch.grace.as_millis().to_string())
            .arg("--")
            .arg(launch.binary)
            .args(launch.arguments)
            .current_dir(launch.folder)
            .env_clear()
            .envs(launch.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C on the worker's terminal reaches the worker alone.
            .process_group(0)
            .spawn()?;
        let stdout = Arc::new(Mutex::new(Tail::new(launch.output_limit)));
        let stderr = Arc::new(Mutex::new(Tail::new(launch.output_limit)));
        let mut streams = Vec::new();
        if let Some(stream) = supervisor.stdout.take() {
            let tail = Arc::clone(&stdout);
            streams.push(AbortOnDropHandle::new(tokio::spawn(async move { drain(stream, &tail).await })));
        }
        if let Some(stream) = supervisor.stderr.take() {
            let tail = Arc::clone(&stderr);
            streams.push(AbortOnDropHandle::new(tokio::spawn(async move { drain(stream, &tail).await })));
        }
        let (read, write) = control.into_split();
        let mut process = Self {
            supervisor,
            notices: BufReader::new(read).lines(),
            control: write,
            streams,
            stdout,
            stderr,
            grace: launch.grace,
            pid: 0,
        };
        match process.notice().await {
            Some(Notice::Started { pid }) => {
                process.pid = pid;
                Ok(process)
            }
            Some(Notice::NotStarted { error }) => Err(io::Error::other(error)),
            Some(Notice::Ended { .. }) | None => {
                Err(io::Error::other(format!("the supervisor {} gave no answer", launch.supervisor.program.display())))
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Bytes of standard output and standard error so far.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let total = |tail: &Mutex<Tail>| tail.lock().unwrap_or_else(PoisonError::into_inner).total();
        (total(&self.stdout), total(&self.stderr))
    }

    async fn notice(&mut self) -> Option<Notice> {
        let line = self.notices.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Waits for the end of the whole tree. Cancel-safe: may be dropped and called again.
    pub(super) async fn ended(&mut self) -> Option<Notice> {
        self.notice().await
    }

    /// Asks for the end of the tree and waits for it: TERM, grace, KILL.
    pub(super) async fn stop(&mut self) -> Option<Notice> {
        // A supervisor that is gone cannot be asked; `finish` then ends the group itself.
        let _ = self.control.write_all(STOP).await;
        tokio::time::timeout(self.grace + ANSWER_MARGIN, self.notice()).await.ok().flatten()
    }

    /// Collects the supervisor and the streams.
    pub(super) async fn finish(mut self, notice: Option<Notice>) -> Ended {
        let confirmed = matches!(notice, Some(Notice::Ended { .. }));
        if !confirmed {
            // The supervisor was lost (a command of the same user can kill it): end what it would have ended.
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
            let _ = self.supervisor.start_kill();
        }
        if let Err(error) = self.supervisor.wait().await {
            tracing::warn!(%error, "the supervisor could not be collected");
        }
        for stream in self.streams {
            // Nobody is left to write, unless the tree was lost.
            let _ = tokio::time::timeout(STREAM_MARGIN, stream).await;
        }
        let (exit_code, signal, leftovers) = match notice {
            Some(Notice::Ended { exit_code, signal, leftovers, .. }) => (exit_code, signal, leftovers),
            _ => (None, None, 0),
        };
        let take =
            |tail: &Mutex<Tail>| std::mem::take(&mut *tail.lock().unwrap_or_else(PoisonError::into_inner)).finish();
        Ended { exit_code, signal, leftovers, confirmed, stdout: take(&self.stdout), stderr: take(&self.stderr) }
    }
}

/// What a binary is called in logs and evidence.
pub(super) fn name_of(binary: &Path) -> String {
    binary
        .file_name()
        .map_or_else(|| PathBuf::from(binary).display().to_string(), |name| name.to_string_lossy().into_owned())
}
