//! A cgroup for each attempt, where the worker may make one: the kernel's own bound of processes and memory, for the
//! whole tree, whatever it does.
//!
//! Version 2 where the worker's cgroup is delegated to it, else the `pids` and `memory` hierarchies of version 1. A pod
//! normally has neither: its cgroups are mounted read-only.

mod hierarchy;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::policy::Limits;
use hierarchy::Hierarchy;

/// A group of ours: this, the worker's process id, and a number.
const PREFIX: &str = "worker-agents-";

/// Looks into a group that is killed, until nobody is in it.
const MOST_LOOKS: usize = 1000;

/// Groups of this process so far.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Where groups of attempts are made.
#[derive(Debug, Default)]
pub struct Cgroups(Vec<Hierarchy>);

impl Cgroups {
    /// Looks where this process may make groups, tries it, and sweeps away what workers that are gone have left. Under
    /// version 2 this process then is in a group below its own: one with processes cannot be divided.
    #[must_use]
    pub fn find(limits: &Limits) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut usable: Vec<Hierarchy> = Vec::new();
        for hierarchy in hierarchy::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")) {
            // Version 2 comes first, and is enough.
            if usable.first().is_some_and(|first| first.version() != hierarchy.version()) {
                continue;
            }
            sweep(&hierarchy.base);
            match hierarchy.prepare().and_then(|()| Group::make(&hierarchy, limits)) {
                Ok(_) => usable.push(hierarchy),
                Err(error) => {
                    tracing::info!(cgroup = %hierarchy.base.display(), %error, "no group for commands can be made here");
                }
            }
        }
        Self(usable)
    }

    /// `v1` or `v2`; `None`: no group can be made.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        self.0.first().map(Hierarchy::version)
    }

    /// Whether a group bounds processes.
    #[must_use]
    pub fn bound_processes(&self) -> bool {
        self.0.iter().any(|hierarchy| hierarchy.processes)
    }

    /// Whether a group bounds memory.
    #[must_use]
    pub fn bound_memory(&self) -> bool {
        self.0.iter().any(|hierarchy| hierarchy.memory)
    }

    /// What groups bound, as it stands in results: one of version 1 may bound less than all.
    #[must_use]
    pub fn bounds(&self) -> Vec<&'static str> {
        let bounds = [("processes", self.bound_processes()), ("memory", self.bound_memory())];
        bounds.into_iter().filter_map(|(what, bounded)| bounded.then_some(what)).collect()
    }

    /// A group for one attempt; empty where none can be made.
    ///
    /// # Errors
    /// When one could be made at the start, and cannot now.
    pub(super) fn attempt(&self, limits: &Limits) -> io::Result<Cgroup> {
        Ok(Cgroup(self.0.iter().map(|hierarchy| Group::make(hierarchy, limits)).collect::<Result<_, _>>()?))
    }
}

/// Ends and removes the groups of workers that do not run any more.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Removed with this, once it is empty.
            Group(entry.path()).kill();
        }
    }
}

/// The groups of one attempt, removed with this.
#[derive(Debug, Default)]
pub(crate) struct Cgroup(Vec<Group>);

impl Cgroup {
    /// The folders that its first process joins.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.0.iter().map(|group| group.0.clone()).collect()
    }

    /// Sends KILL to everything in it, whoever its parent is by now.
    pub(crate) fn kill(&self) {
        self.0.iter().for_each(Group::kill);
    }

    /// How often the kernel killed for want of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        self.count(&["memory.events", "memory.oom_control"], "oom_kill")
    }

    /// How often a new process or thread was refused.
    pub(crate) fn refused_processes(&self) -> u64 {
        self.count(&["pids.events"], "max")
    }

    /// The number beside `word` in those of the files that are there.
    fn count(&self, files: &[&str], word: &str) -> u64 {
        let texts =
            self.0.iter().flat_map(|group| files.iter().map(|file| std::fs::read_to_string(group.0.join(file))));
        let number = |text: String| text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok());
        texts.filter_map(|text| number(text.ok()?)).sum()
    }
}

#[derive(Debug)]
struct Group(PathBuf);

impl Group {
    fn make(hierarchy: &Hierarchy, limits: &Limits) -> io::Result<Self> {
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let folder = hierarchy.base.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match std::fs::create_dir(&folder) {
                // Of a worker that had this process id before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    let group = Self(folder);
                    hierarchy.limit(&group.0, limits)?;
                    return Ok(group);
                }
            }
        }
    }

    fn kill(&self) {
        // The kernel does it at one stroke: Linux 5.14, version 2.
        let at_once = self.0.join("cgroup.kill");
        if at_once.exists() && std::fs::write(at_once, "1").is_ok() {
            return;
        }
        // Whoever is in it starts nobody any more. A group of version 1 that does not bound processes has no such file.
        let bound = self.0.join("pids.max");
        if bound.exists()
            && let Err(error) = std::fs::write(bound, "0")
        {
            tracing::warn!(cgroup = %self.0.display(), %error, "a command's cgroup lets processes be made while it is killed");
        }
        for _ in 0..MOST_LOOKS {
            // A group that is gone has nobody in it.
            let listed = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
            let mut pids = listed.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).peekable();
            if pids.peek().is_none() {
                return;
            }
            for pid in pids {
                // One that has ended meanwhile is no error.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was killed in it a moment ago may still be there; the next start of a worker sweeps it then.
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!(cgroup = %self.0.display(), %error, "a command's cgroup was not removed");
        }
    }
}
