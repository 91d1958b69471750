//! EXECUTE: runs a command on a runtime.

mod command;
#[cfg(feature = "docker")]
pub mod docker;
pub mod local;
mod noop;
mod output;
pub mod quantity;
#[cfg(feature = "failpoints")]
mod rehearsal;
mod simulation;

pub use noop::Noop;
#[cfg(feature = "failpoints")]
pub use rehearsal::RehearsedUndo;
pub use simulation::Simulation;
