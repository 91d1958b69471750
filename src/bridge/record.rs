//! One record of the tickets topic, owned.

use std::time::SystemTime;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use ticket_schemas::{DlqHeader, DlqSource};
use ticket_workflows::{RecordPosition, TraceContext};

use super::trace::{self, Ignored};
use crate::dead_letters::{Headers, headers_of, redrive_count};

/// Header of a record that an operator published again: its ticket may run once more although a run of it failed or was
/// ended. The value is the id of the re-drive.
pub const REDRIVE_HEADER: &str = "x-neural-hive-redrive-id";

/// Where a record comes from, as far as it matters for its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Where it stands.
    pub position: RecordPosition,
    /// Epoch milliseconds, as the producer or the broker stamped it.
    pub written_at_ms: Option<i64>,
    /// Whether it carries [`REDRIVE_HEADER`].
    pub redrive: bool,
    /// The trace that its headers name.
    pub trace: TraceContext,
}

/// A record, copied out of librdkafka's buffers.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) provenance: Provenance,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    headers: Headers,
    /// Trace headers that could not be used.
    pub(crate) ignored: Vec<Ignored>,
    /// Whether `headers` are all of them.
    pub(crate) all_headers: bool,
    /// When it was taken.
    pub(crate) taken: SystemTime,
}

impl Record {
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Self {
        let (headers, all_headers) = headers_of(message);
        let redrive = headers.iter().any(|(key, _): &(String, _)| key.eq_ignore_ascii_case(REDRIVE_HEADER));
        let (trace, ignored) = trace::read(headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        let position = RecordPosition {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        };
        Self {
            provenance: Provenance { position, written_at_ms: message.timestamp().to_millis(), redrive, trace },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            ignored,
            all_headers,
            taken: SystemTime::now(),
        }
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> &RecordPosition {
        &self.provenance.position
    }

    /// How often it has failed once it is dead-lettered: this time, and once before each re-drive.
    pub(crate) fn failures(&self) -> u32 {
        redrive_count(&self.headers).saturating_add(1)
    }

    pub(crate) fn dlq_headers(&self) -> Vec<DlqHeader<'_>> {
        self.headers.iter().map(|(key, value)| DlqHeader { key, value: value.as_deref() }).collect()
    }

    pub(crate) fn dlq_source(&self) -> DlqSource<'_> {
        DlqSource {
            topic: &self.position().topic,
            partition: self.position().partition,
            offset: self.position().offset,
            timestamp: self.provenance.written_at_ms,
        }
    }
}
