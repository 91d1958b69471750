//! One record of the tickets topic, owned.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};
use ticket_schemas::{DlqHeader, DlqSource};
use ticket_workflows::RecordPosition;

/// A record, copied out of librdkafka's buffers.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) position: RecordPosition,
    /// Epoch milliseconds, as the producer or the broker stamped it.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            position: RecordPosition {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                offset: message.offset(),
            },
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    pub(crate) fn dlq_headers(&self) -> Vec<DlqHeader<'_>> {
        self.headers.iter().map(|(key, value)| DlqHeader { key, value: value.as_deref() }).collect()
    }

    pub(crate) fn dlq_source(&self) -> DlqSource<'_> {
        DlqSource {
            topic: &self.position.topic,
            partition: self.position.partition,
            offset: self.position.offset,
            timestamp: self.timestamp_ms,
        }
    }
}
