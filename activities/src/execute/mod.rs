//! EXECUTE: runs a command on a runtime.

pub mod local;
mod noop;

pub use noop::Noop;
