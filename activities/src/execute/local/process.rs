//! One supervised command: start, watch, end, and its output.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::output::{Capture, Captured, Reading, drain};
use crate::logs::{Log, Stream};
use crate::sandbox::{Cgroup, Confinement, Over, Policy, Sandbox, Watch};
use crate::supervisor::{Notice, StartError, Supervised, SupervisorCommand};

/// What the streams and the log of them may take to end after the whole tree has, all together.
pub(super) const STREAM_MARGIN: Duration = Duration::from_secs(4);

/// What to run.
pub(super) struct Launch<'a> {
    pub(super) supervisor: &'a SupervisorCommand,
    pub(super) grace: Duration,
    pub(super) binary: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) folder: &'a Path,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) output_limit: usize,
    /// Takes the output beside the result.
    pub(super) log: Log,
    /// `None`: it runs as the worker's user does.
    pub(super) sandbox: Option<(&'a Sandbox, Policy)>,
}

/// A process that runs, or has just ended.
pub(super) struct Process {
    supervised: Supervised,
    cgroup: Cgroup,
    watch: Option<Watch>,
    log: Log,
    streams: Vec<(Reading, AbortOnDropHandle<()>)>,
    stdout: Arc<Mutex<Capture>>,
    stderr: Arc<Mutex<Capture>>,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) leftovers: usize,
    /// Whether the supervisor was told to end it.
    pub(super) stopped: bool,
    /// Whether the supervisor confirmed that nothing of the tree is left.
    pub(super) confirmed: bool,
    pub(super) confinement: Confinement,
    /// How often the kernel killed for want of memory.
    pub(super) killed_for_memory: u64,
    /// How often it refused another process or thread.
    pub(super) refused_processes: u64,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    /// Whether there was more output that could not be read in time.
    pub(super) output_missing: bool,
}

impl Process {
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, StartError> {
        // Before anything runs that would be held up.
        let redactor = launch.log.result_redactor().await;
        let configure = |command: &mut tokio::process::Command| {
            command
                .current_dir(launch.folder)
                .env_clear()
                .envs(launch.environment)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        };
        let (mut cgroup, mut watch, mut supervisor) = (Cgroup::default(), None, Cow::Borrowed(launch.supervisor));
        if let Some((sandbox, mut policy)) = launch.sandbox {
            cgroup = sandbox.cgroup(&mut policy)?;
            supervisor = Cow::Owned(launch.supervisor.with_sandbox(&policy)?);
            watch = Some(sandbox.watch(policy));
        }
        let mut supervised =
            Supervised::start(&supervisor, launch.grace, launch.binary, launch.arguments, configure).await?;
        let log = launch.log;
        let capture = || Arc::new(Mutex::new(Capture::new(launch.output_limit, redactor.clone())));
        let (stdout, stderr) = (capture(), capture());
        let (out, err) = supervised.streams();
        let streams = [
            out.map(|stream| read(stream, Stream::Stdout, &stdout, &log)),
            err.map(|stream| read(stream, Stream::Stderr, &stderr, &log)),
        ];
        let streams = streams.into_iter().flatten().collect();
        Ok(Self { supervised, cgroup, watch, log, streams, stdout, stderr })
    }

    pub(super) fn pid(&self) -> i32 {
        self.supervised.pid()
    }

    /// Bytes of standard output and standard error so far.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let total = |capture: &Mutex<Capture>| capture.lock().unwrap_or_else(PoisonError::into_inner).total();
        (total(&self.stdout), total(&self.stderr))
    }

    /// Waits for the end of the whole tree. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Option<Notice> {
        self.supervised.ended().await
    }

    /// What confines it.
    pub(super) fn confinement(&self) -> Confinement {
        self.supervised.confinement()
    }

    /// Resolves when it goes over a bound that the worker looks after.
    pub(super) fn over(&self) -> impl Future<Output = Over> + use<> {
        let (watch, supervisor) = (self.watch.clone(), self.supervised.supervisor());
        async move {
            match watch {
                Some(watch) => watch.over(supervisor).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Kills the tree and waits for its end.
    pub(super) async fn kill(&mut self) -> Option<Notice> {
        self.cgroup.kill();
        self.supervised.kill().await
    }

    /// Asks for the end of the tree and waits for it.
    pub(super) async fn stop(&mut self) -> Option<Notice> {
        self.supervised.stop().await
    }

    /// Collects the supervisor and the output.
    pub(super) async fn finish(self, notice: Option<Notice>) -> Ended {
        let confinement = self.supervised.confinement();
        // Before the group is killed, which may refuse processes too.
        let (killed_for_memory, refused_processes) = (self.cgroup.killed_for_memory(), self.cgroup.refused_processes());
        // Of a tree that nobody can vouch for: whoever left the session is still in the group.
        self.cgroup.kill();
        self.supervised.collect(notice.as_ref()).await;
        let until = tokio::time::Instant::now() + STREAM_MARGIN;
        self.streams.iter().for_each(|(reading, _)| reading.ended.cancel());
        let mut output_missing = false;
        for (reading, stream) in self.streams {
            // Nobody is left to write, unless the tree was lost.
            output_missing |= tokio::time::timeout_at(until, reading.read.cancelled()).await.is_err();
            if tokio::time::timeout_at(until, stream).await.is_err() {
                self.log.lacks(format!("its end was not kept within {} s", STREAM_MARGIN.as_secs()));
            }
        }
        let (exit_code, signal, leftovers, stopped, confirmed) = match notice {
            Some(Notice::Ended { exit_code, signal, leftovers, stopped }) => {
                (exit_code, signal, leftovers, stopped, true)
            }
            _ => (None, None, 0, false, false),
        };
        let take = |capture: &Mutex<Capture>| {
            std::mem::take(&mut *capture.lock().unwrap_or_else(PoisonError::into_inner)).finish()
        };
        let (stdout, stderr) = (take(&self.stdout), take(&self.stderr));
        Ended {
            exit_code,
            signal,
            leftovers,
            stopped,
            confirmed,
            confinement,
            killed_for_memory,
            refused_processes,
            stdout,
            stderr,
            output_missing,
        }
    }
}

fn read(
    stream: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    name: Stream,
    capture: &Arc<Mutex<Capture>>,
    log: &Log,
) -> (Reading, AbortOnDropHandle<()>) {
    let (capture, log, reading) = (Arc::clone(capture), log.clone(), Reading::default());
    let told = reading.clone();
    let task = tokio::spawn(async move { drain(stream, name, &capture, &log, &told).await });
    (reading, AbortOnDropHandle::new(task))
}
