//! The dev server's process, behind its supervisor (`ticket_activities::supervisor` describes the protocol).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use ticket_activities::execute::local::SupervisorCommand;
use ticket_activities::supervisor::{Notice, STOP};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::watch;

use super::output::{Output, Reader};

/// What the supervisor may take beyond the grace, to kill and to answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// What to run.
pub(super) struct Launch<'a> {
    pub(super) supervisor: &'a SupervisorCommand,
    pub(super) grace: Duration,
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) log_file: Option<&'a Path>,
}

/// A supervised process. Its tree ends when this is dropped: the supervisor sees the end of `control`.
#[derive(Debug)]
pub(super) struct Child {
    control: OwnedWriteHalf,
    ended: watch::Receiver<Option<String>>,
    output: Output,
    grace: Duration,
    pid: Pid,
}

impl Child {
    /// Starts it, in this process's folder, with an empty environment.
    pub(super) async fn start(launch: Launch<'_>) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (notices, control) = UnixStream::from_std(ours)?.into_split();
        let (output, streams, reader) = Output::open(launch.log_file)?;
        let supervisor = Command::new(&launch.supervisor.program)
            .args(&launch.supervisor.arguments)
            .arg("--grace-ms")
            .arg(launch.grace.as_millis().to_string())
            .arg("--")
            .arg(launch.program)
            .args(launch.arguments)
            // The CLI would take addresses, namespaces and keys of the user's clusters from it.
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(streams.0)
            .stderr(streams.1)
            // A group of its own: Ctrl-C on the terminal reaches this process alone, which then decides the order.
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("supervisor {}: {error}", launch.supervisor.program.display())))?;
        let mut notices = BufReader::new(notices).lines();
        let pid = match next(&mut notices).await {
            Some(Notice::Started { pid }) => Pid::from_raw(pid),
            Some(Notice::NotStarted { error }) => return Err(io::Error::other(error)),
            Some(Notice::Ended { .. }) | None => {
                let program = launch.supervisor.program.display();
                return Err(io::Error::other(format!("supervisor {program} gave no answer")));
            }
        };
        let (tell, ended) = watch::channel(None);
        tokio::spawn(watch_over(supervisor, notices, pid, reader, tell));
        Ok(Self { control, ended, output, grace: launch.grace, pid })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(super) fn output(&self) -> Output {
        self.output.clone()
    }

    /// Resolves, once nothing of the tree is left, with how it ended. All output is there by then.
    pub(super) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(how) => how.clone().unwrap_or_default(),
                // Only when the runtime itself is being taken down.
                Err(_) => "nobody watches it any more".into(),
            }
        }
    }

    /// Asks for the end of the tree and waits for it.
    pub(super) async fn stop(mut self) {
        // A supervisor that is gone cannot be asked; `watch_over` has then ended the group itself.
        let _ = self.control.write_all(STOP).await;
        if tokio::time::timeout(self.grace + ANSWER_MARGIN, self.ended()).await.is_err() {
            tracing::warn!(pid = self.pid.as_raw(), "the supervisor does not answer; killing the process group");
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

/// Waits for the end, collects the supervisor and the last output, and tells.
async fn watch_over(
    mut supervisor: tokio::process::Child,
    mut notices: Lines<BufReader<OwnedReadHalf>>,
    pid: Pid,
    reader: Reader,
    tell: watch::Sender<Option<String>>,
) {
    let how = match next(&mut notices).await {
        Some(Notice::Ended { exit_code: Some(code), .. }) => format!("exit code {code}"),
        Some(Notice::Ended { signal: Some(signal), .. }) => format!("signal {signal}"),
        Some(Notice::Ended { .. }) => "neither exit code nor signal".into(),
        _ => {
            // Nobody is left to end what the supervisor would have ended.
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = supervisor.start_kill();
            "its supervisor was lost".into()
        }
    };
    if let Err(error) = supervisor.wait().await {
        tracing::warn!(%error, "the supervisor could not be collected");
    }
    reader.finish().await;
    tell.send_replace(Some(how));
}

async fn next(notices: &mut Lines<BufReader<OwnedReadHalf>>) -> Option<Notice> {
    let line = notices.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}
