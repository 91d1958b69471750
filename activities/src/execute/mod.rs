//! EXECUTE: runs a command on a runtime.

pub mod local;
mod noop;
mod output;
#[cfg(feature = "failpoints")]
mod rehearsal;

pub use noop::Noop;
#[cfg(feature = "failpoints")]
pub use rehearsal::RehearsedUndo;
