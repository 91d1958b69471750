//! The worker's end of the supervisor protocol.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{KILL, Notice, STOP, SWEEP_INTERVAL, tree};
use crate::border::{border, border_call};
use crate::sandbox::{Confinement, Policy};

/// In which a supervisor that lives has killed its tree.
const SOON: Duration = Duration::from_millis(200);
/// What the supervisor may take beyond the grace, to kill and to answer.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How a supervisor is started: `program arguments… --grace-ms N -- COMMAND…`.
#[derive(Debug, Clone)]
pub struct SupervisorCommand {
    /// The program, normally this very binary.
    pub program: PathBuf,
    /// What makes it a supervisor, normally `["supervise-process"]`.
    pub arguments: Vec<OsString>,
}

impl SupervisorCommand {
    /// The same, of a supervisor that runs its program in a sandbox.
    ///
    /// # Errors
    /// When a path of the policy is not UTF-8.
    pub fn with_sandbox(&self, policy: &Policy) -> io::Result<Self> {
        let policy = serde_json::to_string(policy)?;
        let arguments = self.arguments.iter().cloned().chain(["--sandbox".into(), policy.into()]);
        Ok(Self { program: self.program.clone(), arguments: arguments.collect() })
    }
}

/// A process tree under supervision. It ends when this is dropped: the supervisor sees the socket close.
#[derive(Debug)]
pub struct Supervised {
    supervisor: Child,
    notices: Lines<BufReader<OwnedReadHalf>>,
    control: OwnedWriteHalf,
    grace: Duration,
    /// The supervisor, whose session the tree is.
    session: Pid,
    pid: Pid,
    confinement: Confinement,
}

/// Why a program does not run under supervision.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was never started.
    #[error(transparent)]
    NotStarted(#[from] io::Error),
    /// It would have been confined less than its policy demands.
    #[error("confined less than demanded: {}", .0.shortfall())]
    Refused(Confinement),
    /// The supervisor was lost before it said anything. Whatever it had started has been killed.
    #[error("supervisor {0} was lost before it gave an answer")]
    Lost(String),
}

impl Supervised {
    /// Starts `program` under a supervisor. `configure` sets folder, environment and output streams; standard input is
    /// the supervisor's, and the program's is empty.
    ///
    /// # Errors
    /// When the supervisor or the program cannot be started, or the supervisor is lost at once.
    pub async fn start<A: AsRef<OsStr>>(
        command: &SupervisorCommand,
        grace: Duration,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self, StartError> {
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
        process.stdin(Stdio::from(OwnedFd::from(theirs)));
        let supervisor = border_call("supervisor.spawn", || process.spawn()).map_err(|error| {
            io::Error::new(error.kind(), format!("supervisor {}: {error}", command.program.display()))
        })?;
        // The command holds the other end of the socket; only the supervisor may keep it open.
        drop(process);
        let session = supervisor.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
        let session = session.ok_or_else(|| io::Error::other("a supervisor without a process id"))?;
        let notices = BufReader::new(notices).lines();
        let (pid, confinement) = (Pid::from_raw(0), Confinement::unconfined());
        let mut supervised = Self { supervisor, notices, control, grace, session, pid, confinement };
        match supervised.ended().await {
            Some(Notice::Started { pid, confinement }) => {
                supervised.pid = Pid::from_raw(pid);
                supervised.confinement = confinement.unwrap_or_else(Confinement::unconfined);
                Ok(supervised)
            }
            Some(Notice::Refused { confinement }) => {
                supervised.wait().await;
                Err(StartError::Refused(confinement))
            }
            Some(Notice::NotStarted { error }) => {
                supervised.wait().await;
                Err(io::Error::other(error).into())
            }
            Some(Notice::Ended { .. }) | None => {
                supervised.collect(None).await;
                Err(StartError::Lost(command.program.display().to_string()))
            }
        }
    }

    /// The program's process id, which is also its process group's.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What confines the program: nothing, unless its supervisor was told a policy.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// The supervisor's process id, whose descendants the tree is.
    pub(crate) fn supervisor(&self) -> Pid {
        self.session
    }

    /// The output streams, where `configure` asked for pipes; once.
    pub fn streams(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.supervisor.stdout.take(), self.supervisor.stderr.take())
    }

    /// Waits for the end of the whole tree. `None`: the supervisor was lost. Cancel-safe.
    pub async fn ended(&mut self) -> Option<Notice> {
        let line = border("supervisor.notice", self.notices.next_line()).await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Asks for the end of the tree and waits for it: TERM, grace, KILL.
    pub async fn stop(&mut self) -> Option<Notice> {
        self.ask(STOP).await;
        tokio::time::timeout(self.grace + ANSWER_MARGIN, self.ended()).await.ok().flatten()
    }

    /// The same without TERM and grace. A supervisor that has not done so soon may be one that its own tree holds, where
    /// nothing keeps a command from signalling it: then the tree is killed from here.
    pub(crate) async fn kill(&mut self) -> Option<Notice> {
        self.ask(KILL).await;
        let patience = tokio::time::Instant::now() + ANSWER_MARGIN;
        let mut wait = SOON;
        while tokio::time::Instant::now() < patience {
            if let Ok(notice) = tokio::time::timeout(wait, self.ended()).await {
                return notice;
            }
            let session = self.session;
            beside(move || tree::kill_descendants(session)).await;
            wait = SWEEP_INTERVAL;
        }
        None
    }

    async fn ask(&mut self, order: &[u8]) {
        // A supervisor that is gone cannot be asked; `collect` then ends the group itself.
        let _ = border("supervisor.stop", self.control.write_all(order)).await;
    }

    /// Collects the supervisor. Without a notice of the end it was lost (a program of the same user can kill it): then
    /// this ends what it would have ended.
    pub async fn collect(mut self, notice: Option<&Notice>) {
        let ended = matches!(notice, Some(Notice::Ended { .. })) || self.end_session().await;
        if ended {
            self.wait().await;
        }
    }

    /// Kills the descendants of the supervisor, then the supervisor, and what is left of its session; says whether it is
    /// all gone. A supervisor that lives is killed last: orphans are its children, and without it nobody would find those
    /// that left the session. Nor is it collected before that: its process id, and so the session's, would be free for
    /// somebody else.
    async fn end_session(&mut self) -> bool {
        let session = self.session;
        let patience = tokio::time::Instant::now() + ANSWER_MARGIN;
        loop {
            let left = beside(move || {
                tree::kill_descendants(session);
                tree::descendants_of(session, Duration::ZERO).len()
            });
            let left = left.await;
            if left == 0 {
                // One that is gone already is no error.
                let _ = self.supervisor.start_kill();
                let of_session = beside(move || {
                    tree::kill_session(session);
                    tree::session(session).len()
                });
                if of_session.await == 0 {
                    return true;
                }
            }
            if tokio::time::Instant::now() > patience {
                // A supervisor that lives goes on killing them: it sees the socket close.
                tracing::error!(left, "processes under a supervisor cannot be killed yet");
                return false;
            }
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }

    async fn wait(&mut self) {
        if let Err(error) = border("supervisor.collect", self.supervisor.wait()).await {
            tracing::warn!(%error, "a supervisor could not be collected");
        }
    }
}

/// Off the threads of the runtime: a large tree takes its time. A look that broke has seen nothing.
pub(crate) async fn beside<T: Default + Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
