//! EXECUTE: runs a command on a runtime.

pub mod code_forge;
pub(crate) mod command;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod container;
#[cfg(feature = "docker")]
pub mod docker;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod gathering;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod image;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
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
