//! The supervisor: a small process of its own between the worker and a command, so that the command's whole process
//! tree ends when it should, even when the worker is killed.
//!
//! The worker starts `worker-agents supervise-process --grace-ms N [--sandbox POLICY] -- PROGRAM ARGS…` with one end of a
//! socket as standard input. The supervisor opens a session of its own, becomes the reaper of all its descendants (a daemon that
//! leaves its process group or session cannot leave the tree), runs the command in a new process group, and ends the
//! tree (TERM, grace, KILL) when it is told to (on the socket, or by TERM, INT or HUP), when the command has ended and
//! left something behind, or when the socket closes because the worker died. It answers on the socket with two lines of
//! JSON: [`Notice::Started`] and [`Notice::Ended`].
//!
//! With a policy it runs not the program but the stage that confines itself and then becomes it ([`crate::sandbox`]), and
//! where the kernel lets it, kills the tree at one stroke (`domain.rs`).
//!
//! A command that is not confined can kill its supervisor, as any program of the same user can. Then the worker ends the
//! session.
//!
//! It runs before any async runtime exists and uses plain threads.

mod client;
mod domain;
pub(crate) mod tree;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::sandbox::{Answer, Confinement};

#[cfg(test)]
pub(crate) use client::ANSWER_MARGIN;
pub(crate) use client::beside;
pub use client::{StartError, Supervised, SupervisorCommand};
use domain::Domain;

/// How the worker asks for the end of the tree.
pub const STOP: &[u8] = b"stop\n";
/// The same without any grace.
pub const KILL: &[u8] = b"kill\n";

/// Between two looks at a tree that is being ended.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);
/// What a command left behind gets less patience than the command itself.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// So does a tree whose worker died: it must be gone before the server counts the worker as lost (a heartbeat time-out of
/// ten seconds) and gives the attempt to another.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// What the supervisor says, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// The command runs.
    Started {
        /// Its process id, which is also its process group's.
        pid: i32,
        /// What confines it, when it was started with a policy.
        confinement: Option<Confinement>,
    },
    /// The command was not started: it would have been confined less than its policy demands.
    Refused {
        /// What would have confined it.
        confinement: Confinement,
    },
    /// The command could not be started.
    NotStarted {
        /// Why.
        error: String,
    },
    /// The command has ended and nothing of its tree is left.
    Ended {
        /// Its exit code, when it exited.
        exit_code: Option<i32>,
        /// The signal that ended it, when one did.
        signal: Option<i32>,
        /// Whether the end was asked for.
        stopped: bool,
        /// Processes it had left behind.
        leftovers: usize,
    },
}

enum Event {
    /// The tree is to end, within this grace: the worker asks for it, or is gone, or somebody else asks by a signal.
    End(Duration),
    Reaped(Pid, ExitStatus),
    NoneLeft,
}

/// Runs the supervisor over its own standard input. Never returns before the tree is gone. `policy` is that of a sandbox,
/// as JSON.
#[must_use]
pub fn main(grace: Duration, policy: Option<String>, program: OsString, arguments: Vec<OsString>) -> ExitCode {
    close_inherited();
    let stdin = std::io::stdin();
    let Ok(control) = stdin.as_fd().try_clone_to_owned().map(UnixStream::from) else {
        eprintln!("supervise-process is started by the worker, with a socket as standard input");
        return ExitCode::from(2);
    };
    match supervise(&control, grace, policy, program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(notice) => {
            say(&control, &notice);
            ExitCode::from(1)
        }
    }
}

impl From<std::io::Error> for Notice {
    fn from(error: std::io::Error) -> Self {
        Self::NotStarted { error: error.to_string() }
    }
}

/// Closes what came from the worker without being meant for the command: libraries open pipes and sockets that survive an
/// exec. Standard streams stay.
fn close_inherited() {
    let Ok(listed) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The listing's own is closed already.
        let _ = nix::unistd::close(number);
    }
}

fn supervise(
    control: &UnixStream,
    grace: Duration,
    policy: Option<String>,
    program: OsString,
    arguments: Vec<OsString>,
) -> Result<(), Notice> {
    // Ctrl-C on the terminal reaches the worker alone, which then decides the order; and the tree can be found by it.
    nix::unistd::setsid().map_err(std::io::Error::from)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(std::io::Error::from)?;
    // Before there is a command: whoever tells the supervisor to end from then on is heard.
    let mut ends = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // Before anything is started, so that all of it is within. A command that nothing confines keeps what a domain takes.
    let domain = match &policy {
        Some(_) => {
            Domain::enter().map_err(|error| std::io::Error::other(format!("the supervisor's domain: {error}")))?
        }
        None => None,
    };
    let (child, confinement) = match policy {
        None => (Command::new(program).args(arguments).stdin(Stdio::null()).process_group(0).spawn()?, None),
        Some(policy) => {
            let (child, confinement) = start_confined(policy, program, arguments)?;
            (child, Some(confinement))
        }
    };
    let command = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
    say(control, &Notice::Started { pid: command.as_raw(), confinement });

    let (events, inbox) = mpsc::channel();
    let told = events.clone();
    std::thread::spawn(move || {
        // Until the other end is gone, with the process.
        let _ = ends.forever().try_for_each(|_| told.send(Event::End(grace)));
    });
    let listener = control.try_clone()?;
    let asked = events.clone();
    std::thread::spawn(move || listen(listener, grace, &asked));
    std::thread::spawn(move || reap(&events));

    let notice = watch(&inbox, command, grace, domain.as_ref());
    say(control, &notice);
    Ok(())
}

/// Starts the stage that confines itself, and waits until it has become the program: the last it says.
fn start_confined(policy: String, program: OsString, arguments: Vec<OsString>) -> Result<(Child, Confinement), Notice> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["confine", "--policy"]).arg(policy).arg("--").arg(program).args(arguments);
    let mut child = command.stdin(OwnedFd::from(theirs)).process_group(0).spawn()?;
    // The command holds the other end of the socket, and its end is what is waited for.
    drop(command);
    let mut last = None;
    for line in BufReader::new(ours).lines() {
        last = Some(serde_json::from_str(&line?).map_err(std::io::Error::from)?);
    }
    let notice = match last {
        Some(Answer::Confined(confinement)) => return Ok((child, confinement)),
        Some(Answer::Refused(confinement)) => Notice::Refused { confinement },
        Some(Answer::Failed { error }) => Notice::NotStarted { error },
        None => Notice::NotStarted { error: "the stage that confines the command said nothing".to_owned() },
    };
    // It has ended, or is about to; nobody else collects it.
    child.wait()?;
    Err(notice)
}

/// Hears what the worker asks for, until it is gone. The tree, and with it who is told, may be gone before.
fn listen(control: UnixStream, grace: Duration, asked: &mpsc::Sender<Event>) {
    // The end of the file and a broken socket say the same: nobody is there any more.
    for order in BufReader::new(control).lines().map_while(Result::ok) {
        let now = order.as_bytes() == KILL.trim_ascii_end();
        let _ = asked.send(Event::End(if now { Duration::ZERO } else { grace }));
    }
    let _ = asked.send(Event::End(grace.min(ORPHAN_GRACE)));
}

/// Collects every descendant that ends, until none is left.
fn reap(events: &mpsc::Sender<Event>) {
    loop {
        let event = match nix::sys::wait::waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => Event::Reaped(pid, ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Event::Reaped(pid, ExitStatus::from_raw(signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => Event::NoneLeft,
        };
        let last = matches!(event, Event::NoneLeft);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// The life of the tree: running, ending politely until `kill_at`, then ending hard.
fn watch(inbox: &mpsc::Receiver<Event>, command: Pid, grace: Duration, domain: Option<&Domain>) -> Notice {
    let mut status: Option<ExitStatus> = None;
    let mut stopped = false;
    let mut leftovers = 0;
    let mut kill_at: Option<Instant> = None;
    let mut next_kill = Instant::now();
    loop {
        let event = match kill_at {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => inbox.recv_timeout(SWEEP_INTERVAL),
        };
        match event {
            Ok(Event::End(grace)) => {
                stopped |= status.is_none();
                if kill_at.is_none() && !grace.is_zero() {
                    tree::signal_all(&tree::descendants(), Signal::SIGTERM);
                }
                let until = Instant::now() + grace;
                kill_at = Some(kill_at.map_or(until, |at| at.min(until)));
            }
            Ok(Event::Reaped(pid, ended)) if pid == command => {
                status = Some(ended);
                let left = tree::descendants();
                leftovers = left.len();
                if leftovers > 0 {
                    tree::signal_all(&left, Signal::SIGTERM);
                    let until = Instant::now() + LEFTOVER_GRACE.min(grace);
                    kill_at = Some(kill_at.map_or(until, |at| at.min(until)));
                }
            }
            Ok(Event::Reaped(..)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::NoneLeft) | Err(RecvTimeoutError::Disconnected) => break,
        }
        // Not at each of thousands of ends: a look at a large tree takes long.
        if kill_at.is_some_and(|at| Instant::now() >= at.max(next_kill)) {
            if !domain.is_some_and(Domain::kill_all) {
                tree::kill_descendants(nix::unistd::getpid());
            }
            next_kill = Instant::now() + SWEEP_INTERVAL;
        }
    }
    Notice::Ended {
        exit_code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        stopped,
        leftovers,
    }
}

/// Tells the worker; a worker that is gone cannot be told.
fn say(mut control: &UnixStream, notice: &Notice) {
    if let Ok(mut line) = serde_json::to_vec(notice) {
        line.push(b'\n');
        let _ = control.write_all(&line);
    }
}
