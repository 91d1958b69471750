//! The stage between supervisor and command: `worker-agents confine --policy JSON -- PROGRAM ARGS…`.
//!
//! It confines itself, which only ever takes away, says on its standard input (a socket of the supervisor's) what it got,
//! and becomes the program, under the same process id. It has one thread and no runtime. Whatever it cannot do that it
//! must, ends it before the program runs.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::confinement::{Confinement, unprivileged};
use super::policy::{Limits, Network, Policy};
use super::{files, system_calls};

/// How much nicer than the worker a command is: a tenth of its share of the processors.
const NICE: i32 = 10;

/// What the stage says, one JSON object a line. When the program then cannot be started, a second line says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is confined, and becomes the program now.
    Confined(Confinement),
    /// It got less than was demanded. The program does not run.
    Refused(Confinement),
    /// It could not be confined, or the program not be started.
    Failed {
        /// Why.
        error: String,
    },
}

/// Confines this process and becomes the program. Returns only when it does not.
#[must_use]
pub fn main(policy: &str, program: OsString, arguments: Vec<OsString>) -> ExitCode {
    // A copy that the exec closes: the program gets an empty standard input, and the supervisor sees that it runs.
    let Ok(channel) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        eprintln!("confine is started by a supervisor, with a socket as standard input");
        return ExitCode::from(2);
    };
    let answer = match confine(policy) {
        Err(answer) => answer,
        Ok(confinement) => {
            let error = match say(&channel, &Answer::Confined(confinement)) {
                Ok(()) => Command::new(program).args(arguments).stdin(Stdio::null()).exec(),
                Err(error) => error,
            };
            Answer::Failed { error: error.to_string() }
        }
    };
    // A supervisor that is gone cannot be told.
    let _ = say(&channel, &answer);
    ExitCode::from(1)
}

fn say(mut channel: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// Everything in its order: what needs rights comes before they are given up, and what forbids the rest comes last.
fn confine(policy: &str) -> Result<Confinement, Answer> {
    let policy: Policy = serde_json::from_str(policy).map_err(failed("the policy"))?;
    let here = std::env::current_dir().map_err(failed("the working folder"))?;
    if here != policy.folder {
        let error = format!("the working folder is {} and not {}", here.display(), policy.folder.display());
        return Err(Answer::Failed { error });
    }
    for cgroup in &policy.cgroups {
        std::fs::write(cgroup.join("cgroup.procs"), "0").map_err(failed("its cgroup"))?;
    }
    limit(&policy.limits).map_err(failed("limits"))?;
    give_way().map_err(failed("priority"))?;
    // Also root's, who could raise limits and pass over the rights of files.
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).map_err(failed("capabilities"))?;
    // No program gives rights back.
    nix::sys::prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    let landlock_abi = files::confine(&policy).map_err(failed("files"))?;
    // A kernel without filters gives less, and the answer says so.
    let seccomp = system_calls::confine(policy.network).is_ok();
    let network = if seccomp { policy.network } else { Network::Host };
    let confinement = Confinement { landlock_abi, seccomp, network, unprivileged: unprivileged() };
    if confinement.level() < policy.demanded { Err(Answer::Refused(confinement)) } else { Ok(confinement) }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Answer {
    move |error| Answer::Failed { error: format!("the command cannot be confined: {what}: {error}") }
}

/// Where memory or processors are short, the worker and its supervisors go on.
fn give_way() -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    rustix::process::nice(NICE)?;
    Ok(())
}

/// Nothing that the kernel bounds already is raised.
fn limit(limits: &Limits) -> nix::Result<()> {
    for (resource, wanted) in [
        // A core dump is a copy of memory in the folder, or in a service of the machine. The kernel pipes one to such a
        // service at a limit of 0 too; at 1 it does not, and 1 byte is too little for a file.
        (Resource::RLIMIT_CORE, 1),
        (Resource::RLIMIT_FSIZE, limits.file),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        // Writable memory. RLIMIT_AS counts what is only reserved too, and node and Go reserve without end.
        (Resource::RLIMIT_DATA, limits.memory),
    ] {
        let (_, hard): (rlim_t, rlim_t) = getrlimit(resource)?;
        let bound = wanted.min(hard);
        setrlimit(resource, bound, bound)?;
    }
    Ok(())
}
