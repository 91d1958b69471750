//! EXECUTE: runs a command on a runtime.

pub mod code_forge;
pub(crate) mod command;
#[cfg(feature = "docker")]
pub mod docker;
pub mod lambda;
pub mod local;
mod noop;
mod output;
mod pull;
pub mod quantity;
mod simulation;

pub use noop::Noop;
pub use pull::PullPolicy;
pub use simulation::Simulation;
