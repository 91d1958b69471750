//! Dead letters once they are in their topic: alerts about them, and what the command line does with them.
//!
//! Owns the consumer of the dead-letter topic, the shape of alerts, and the meaning of a re-drive: what is published
//! again, with which lineage, and when no more. Never writes the dead-letter topic (`bridge` does) and never starts a
//! ticket: a re-driven record is a record like any other. Called by `worker` (alerts) and `cli` (list, show, redrive).

mod alert;
mod alerting;
mod instant;
mod letter;
mod lineage;
mod redrive;
mod scan;
mod selection;
mod text;

pub use alert::DlqAlert;
pub use alerting::{AlertTopic, Alerting};
pub use instant::{format_instant, parse_instant};
pub use letter::{Headers, Letter, headers_of};
pub use lineage::{
    BY_HEADER, COUNT_HEADER, DEFAULT_MAX_REDRIVES, LETTER_HEADER, Lineage, ORIGIN_HEADER, redrive_count,
};
pub use redrive::{Body, Original, RedriveError, edited, from_source, original};
pub use scan::{Extent, TopicScan, fetch};
pub use selection::{Place, Selection};
pub use text::shown;
