//! The logs of attempts: where they are kept, and how people read them.
//!
//! What a log is, and when it is given up, is `ticket-activities`'; this keeps lines in files ([`FileSink`]), reads those files
//! ([`Folder`]), and asks the server for what it holds of a log where no file is in reach (`held`).

mod disk;
mod file;
mod folder;
pub(crate) mod held;
mod secrets;
#[cfg(test)]
pub(crate) mod stuck;

pub use file::FileSink;
pub use folder::{Folder, LogReader};
pub use secrets::HeldSecrets;
