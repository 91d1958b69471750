//! Start-up checks: what the worker needs of Kafka, Temporal, the two registries and this machine. `run` makes them at
//! the start and every few minutes, `worker-agents doctor` when an operator asks; both print the same findings.
//!
//! Facts are gathered in `cluster`, `engine`, `schemas`, `service_registry` and `code_forge`; what they mean is decided by values
//! without I/O (`topics`, `retention`, `version`, `clock`). What cannot be found out is a state of its own: neither a pass nor a
//! failure.

mod checks;
mod clock;
mod cluster;
mod code_forge;
mod engine;
mod finding;
mod identity;
mod local;
mod logs;
mod retention;
mod schemas;
mod service_registry;
mod topics;
mod version;
mod watch;

pub use checks::Checks;
pub use finding::{Check, Finding, State};
pub use watch::{STARTUP_CHECK, Watch};
