//! EXECUTE: runs a command on a runtime.

pub mod local;
mod noop;
#[cfg(feature = "failpoints")]
mod rehearsal;
mod simulation;

pub use noop::Noop;
#[cfg(feature = "failpoints")]
pub use rehearsal::RehearsedUndo;
pub use simulation::Simulation;
