//! Start-up checks: what the worker needs of Kafka, Temporal, the Schema Registry and this machine. `run` makes them at
//! the start and every few minutes, `worker-agents doctor` when an operator asks; both print the same findings.
//!
//! Facts are gathered in `cluster`, `engine` and `schemas`; what they mean is decided by values without I/O
//! (`topics`, `retention`, `version`, `clock`). What cannot be found out is a state of its own: neither a pass nor a failure.

mod checks;
mod clock;
mod cluster;
mod engine;
mod finding;
mod retention;
mod schemas;
mod topics;
mod version;
mod watch;

pub use checks::Checks;
pub use finding::{Check, Finding, State};
pub use watch::{STARTUP_CHECK, Watch};
