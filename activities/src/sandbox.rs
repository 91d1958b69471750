//! The sandbox of local commands: what a command may read, write, call, reach and use, kept by the kernel.
//!
//! A stage between supervisor and command ([`main`]) confines itself and becomes the program: Landlock for files, TCP,
//! signals and abstract sockets, seccomp for system calls and all sockets, no capabilities, `no_new_privs`, limits of
//! processes, and a cgroup where the worker may make one. It says what it really got ([`Confinement`]), and that is what
//! results say. Kernels grant different things: where one grants less, commands run and results say so, unless the
//! ticket's classification demands more ([`Level::demanded_by`]).
//!
//! Used by the local runtime, and by `doctor sandbox`. It never decides what a ticket may run: that is the allow-list's.

mod cgroup;
mod confine;
mod confinement;
mod files;
mod policy;
mod system_calls;
mod watch;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use cgroup::Cgroup;
pub use cgroup::Cgroups;
pub(crate) use confine::Answer;
pub use confine::main;
pub use confinement::{Confinement, Level, Part};
pub use policy::{Limits, Network, Policy, SandboxConfig};
pub(crate) use watch::{Over, Watch};

/// Makes the sandboxes of a worker's commands.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    cgroups: Cgroups,
}

impl Sandbox {
    /// Looks for cgroups, and sweeps what workers that are gone have left of theirs.
    #[must_use]
    pub fn new(config: SandboxConfig) -> Self {
        let cgroups = if config.cgroups { Cgroups::find(&config.limits) } else { Cgroups::default() };
        Self { config, cgroups }
    }

    /// Where groups of commands are made.
    #[must_use]
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// What every command may use.
    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// The policy of one command in `folder`, which has no link in its path. `programs` may be read and executed beside
    /// what the settings name.
    #[must_use]
    pub fn policy(&self, folder: &Path, programs: &[PathBuf], demanded: Level) -> Policy {
        Policy {
            folder: folder.to_owned(),
            readable: self.config.readable.iter().chain(programs).cloned().collect(),
            network: self.config.network,
            limits: self.config.limits,
            cgroups: Vec::new(),
            demanded,
        }
    }

    /// A cgroup for the command of this policy, which then joins it.
    pub(crate) fn cgroup(&self, policy: &mut Policy) -> io::Result<Cgroup> {
        let cgroup = self.cgroups.attempt(&self.config.limits)?;
        policy.cgroups = cgroup.folders();
        Ok(cgroup)
    }

    /// What the worker looks at while the command of this policy runs.
    pub(crate) fn watch(&self, policy: Policy) -> Watch {
        Watch {
            limits: policy.limits,
            folder: policy.folder,
            processes: !self.cgroups.bound_processes(),
            memory: !self.cgroups.bound_memory(),
        }
    }
}
