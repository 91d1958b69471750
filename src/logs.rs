//! The logs of attempts: where they are kept, and how people read them.
//!
//! What a log is, and when it is given up, is `ticket-activities`'; this keeps lines in files ([`FileSink`]) or in a store of objects
//! ([`ObjectSink`]), whichever the settings name ([`Sink`]), reads them there (`kept`), and asks the server for what it holds of a
//! log that is not in reach (`held`).

mod bound;
mod disk;
mod file;
mod folder;
pub(crate) mod held;
pub(crate) mod kept;
mod objects;
mod secrets;
mod seen;
mod sink;
#[cfg(test)]
pub(crate) mod stuck;

pub use file::FileSink;
pub use folder::{Folder, LogReader};
pub use objects::ObjectSink;
pub use secrets::HeldSecrets;
pub use sink::Sink;
