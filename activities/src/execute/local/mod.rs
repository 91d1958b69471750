//! The local runtime: a command as a process of this machine. argv only, allow-listed, confined in its folder, with an
//! environment of its own, its whole tree ended when its time is over.
//!
//! Upstream's local runtime limited nothing and turned a time-out into success (INC-54, INC-75).

mod command;
mod environment;
mod output;
mod process;
mod remove;
mod runtime;
mod working_dir;
mod workplace;

pub use command::not_installed;
pub(crate) use command::shown;
pub use runtime::{LocalConfig, LocalParams, LocalRuntime, MOST_GRACE};
pub use workplace::{Allowance, Workplace};
