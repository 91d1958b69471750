//! What work writes, line by line: numbered, timed, without control codes and without the worker's secrets.
//!
//! Whoever reads a stream gives its bytes to the attempt's [`Log`], in pieces of any size. All lines go to the
//! [`LogSink`](crate::LogSink), where there is one, before more is read: work that writes faster than lines are kept is slowed down,
//! and memory stays as it is. The last lines that are kept are in the next heartbeat. A sink that fails is given up for the attempt,
//! which goes on (`docs/adr/0028-logs.md`).

mod batch;
mod keeper;
mod line;
mod log;
mod logged;
mod redactor;
mod splitter;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod told;

pub use line::{Line, Stream};
#[cfg(test)]
pub(crate) use log::LOG_END;
pub use log::{Log, Logs};
pub use logged::Logged;
pub use redactor::Redactor;
pub use text::clean;
