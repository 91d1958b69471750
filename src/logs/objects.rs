//! Logs in a store of objects that speaks S3 (`docs/adr/0033-logs-in-object-stores.md`).
//!
//! A log is a folder of segments: `<prefix>/ticket-<id>/<run>.<attempt>/<number of its first line>-<its writer>-<copy>.jsonl`. No object
//! can be appended to: its writer writes the last segment anew, until that is large enough for a next one or a store would refuse to write the
//! same name so soon. Nothing removes them.

mod http;
mod keys;
mod lasting;
mod reader;
#[cfg(test)]
mod reader_tests;
mod segments;
mod sink;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::SegmentReader;
pub(crate) use segments::TicketSegments;
pub use sink::ObjectSink;
