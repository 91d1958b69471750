//! EXECUTE: runs a command on a runtime.

pub mod code_forge;
mod command;
#[cfg(feature = "docker")]
pub mod docker;
pub mod local;
mod noop;
mod output;
mod pull;
pub mod quantity;
#[cfg(feature = "failpoints")]
mod rehearsal;
mod simulation;

pub use noop::Noop;
pub use pull::PullPolicy;
#[cfg(feature = "failpoints")]
pub use rehearsal::RehearsedUndo;
pub use simulation::Simulation;
