//! What a command may do, as the worker decides it and the confining stage reads it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::confinement::Level;

/// Whether a command reaches a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// It can open no socket at all, not even one of this machine: agents and engines listen on those.
    None,
    /// It has the worker's network.
    Host,
}

impl Network {
    /// As it stands in settings and results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// What a command, with all it starts, may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory of all its processes together, and of writable memory that one of them may map.
    pub memory: u64,
    /// Processes and threads at a time.
    pub processes: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of its folder, looked at now and then.
    pub folder: u64,
    /// Files that one process may have open.
    pub open_files: u64,
}

/// What is the same for all commands of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Whether commands reach a network.
    pub network: Network,
    /// Files and folders that they may read and execute beside those of the system.
    pub readable: Vec<PathBuf>,
    /// What each may use.
    pub limits: Limits,
    /// Whether each gets a cgroup, where the worker may make one.
    pub cgroups: bool,
}

/// What one command may do: the confining stage gets it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The only folder it may write in: its working directory, with no link in its path.
    pub folder: PathBuf,
    /// Files and folders that it may read and execute beside those of the system.
    pub readable: Vec<PathBuf>,
    /// Whether it reaches a network.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
    /// The cgroups that it joins.
    pub cgroups: Vec<PathBuf>,
    /// Where less than this can be had, it does not run.
    pub demanded: Level,
}
