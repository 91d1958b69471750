//! The worker's end of the supervisor protocol.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{Notice, STOP};

/// What the supervisor may take beyond the grace, to kill and to answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How a supervisor is started: `program arguments… --grace-ms N -- COMMAND…`.
#[derive(Debug, Clone)]
pub struct SupervisorCommand {
    /// The program, normally this very binary.
    pub program: PathBuf,
    /// What makes it a supervisor, normally `["supervise-process"]`.
    pub arguments: Vec<OsString>,
}

/// A process tree under supervision. It ends when this is dropped: the supervisor sees the socket close.
#[derive(Debug)]
pub struct Supervised {
    supervisor: Child,
    notices: Lines<BufReader<OwnedReadHalf>>,
    control: OwnedWriteHalf,
    grace: Duration,
    pid: Pid,
}

impl Supervised {
    /// Starts `program` under a supervisor. `configure` sets folder, environment and output streams; standard input is
    /// the supervisor's, and the program's is empty.
    ///
    /// # Errors
    /// When the supervisor or the program cannot be started.
    pub async fn start<A: AsRef<OsStr>>(
        command: &SupervisorCommand,
        grace: Duration,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        configure: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (notices, control) = UnixStream::from_std(ours)?.into_split();
        let mut process = Command::new(&command.program);
        process
            .args(&command.arguments)
            .arg("--grace-ms")
            .arg(grace.as_millis().to_string())
            .arg("--")
            .arg(program)
            .args(arguments);
        configure(&mut process);
        let supervisor = process
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A group of its own: Ctrl-C on the terminal reaches this process alone, which then decides the order.
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("supervisor {}: {error}", command.program.display())))?;
        // The command holds the other end of the socket; only the supervisor may keep it open.
        drop(process);
        let notices = BufReader::new(notices).lines();
        let mut supervised = Self { supervisor, notices, control, grace, pid: Pid::from_raw(0) };
        match supervised.ended().await {
            Some(Notice::Started { pid }) => {
                supervised.pid = Pid::from_raw(pid);
                Ok(supervised)
            }
            Some(Notice::NotStarted { error }) => Err(io::Error::other(error)),
            Some(Notice::Ended { .. }) | None => {
                Err(io::Error::other(format!("supervisor {} gave no answer", command.program.display())))
            }
        }
    }

    /// The program's process id, which is also its process group's.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The output streams, where `configure` asked for pipes; once.
    pub fn streams(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.supervisor.stdout.take(), self.supervisor.stderr.take())
    }

    /// Waits for the end of the whole tree. `None`: the supervisor was lost. Cancel-safe.
    pub async fn ended(&mut self) -> Option<Notice> {
        let line = self.notices.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Asks for the end of the tree and waits for it: TERM, grace, KILL.
    pub async fn stop(&mut self) -> Option<Notice> {
        // A supervisor that is gone cannot be asked; `collect` then ends the group itself.
        let _ = self.control.write_all(STOP).await;
        tokio::time::timeout(self.grace + ANSWER_MARGIN, self.ended()).await.ok().flatten()
    }

    /// Collects the supervisor. Without a notice of the end it was lost (a program of the same user can kill it): then
    /// this ends what it would have ended.
    pub async fn collect(mut self, notice: Option<&Notice>) {
        if !matches!(notice, Some(Notice::Ended { .. })) {
            // Whatever of it is gone already is no error.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.supervisor.start_kill();
        }
        if let Err(error) = self.supervisor.wait().await {
            tracing::warn!(%error, "a supervisor could not be collected");
        }
    }
}
