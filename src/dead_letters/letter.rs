//! One record of the dead-letter topic, ours, the platform's or anybody's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Message;
use rdkafka::message::Headers as _;
use serde_json::{Value, json};
use ticket_schemas::{DlqRecord, DlqRecordError, TicketId, UNKNOWN};
use ticket_workflows::RecordPosition;

use super::instant::format_instant;
use super::lineage::{LETTER_HEADER, redrive_count, texts};
use super::selection::Place;

/// Headers of a record, in order; a value may be absent.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Headers of a message, owned, and whether these are all.
///
/// The Kafka library panics at a header whose name is not UTF-8. Such a one is left out: it must not hold up its record,
/// and with it the partition, for ever.
pub fn headers_of(message: &impl Message) -> (Headers, bool) {
    let Some(headers) = message.headers() else { return (Headers::new(), true) };
    let read = |index| {
        let header = headers.get(index);
        (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
    };
    // Reading changes nothing, so a panic leaves nothing half done.
    let readable = (0..headers.count()).filter_map(|index| catch_unwind(AssertUnwindSafe(|| read(index))).ok());
    let readable: Headers = readable.collect();
    let all = readable.len() == headers.count();
    (readable, all)
}

/// A record of the dead-letter topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where it stands.
    pub position: RecordPosition,
    /// When it was written, epoch milliseconds.
    pub written_at_ms: Option<i64>,
    /// Headers of the dead letter itself.
    pub headers: Headers,
    /// Its bytes.
    pub value: Vec<u8>,
    /// What they say; a record that is no dead letter is one of the topic nevertheless.
    pub content: Result<DlqRecord, DlqRecordError>,
}

impl Letter {
    /// Reads a message of the topic.
    pub fn of(message: &impl Message) -> Self {
        let position = RecordPosition {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        };
        let value = message.payload().unwrap_or_default().to_vec();
        let content = DlqRecord::parse(&value);
        let written_at_ms =
            message.timestamp().to_millis().or_else(|| content.as_ref().ok().and_then(DlqRecord::published_at_ms));
        Self { position, written_at_ms, headers: headers_of(message).0, value, content }
    }

    /// The ticket's id, or `unknown`.
    #[must_use]
    pub fn ticket_id(&self) -> &str {
        self.content.as_ref().map(DlqRecord::ticket_id).ok().filter(|id| TicketId::is_valid(id)).unwrap_or(UNKNOWN)
    }

    /// The task type as it was recorded, whatever that is, or `unknown`.
    #[must_use]
    pub fn task_type(&self) -> &str {
        self.content.as_ref().map_or(UNKNOWN, DlqRecord::task_type)
    }

    /// The stable code; of the platform's records the class of the error; of what is no dead letter why it is none.
    #[must_use]
    pub fn code(&self) -> &str {
        match &self.content {
            Ok(record) => record.error_code().or_else(|| record.error_type()).unwrap_or(UNKNOWN),
            Err(error) => error.code(),
        }
    }

    /// What went wrong, for people. Not trusted.
    #[must_use]
    pub fn error(&self) -> String {
        match &self.content {
            Ok(record) => record.error().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// How often its record had been re-driven.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        self.content.as_ref().map_or(0, |record| redrive_count(&record.original_headers()))
    }

    /// The dead letter of this topic whose re-drive ended here.
    #[must_use]
    pub fn came_from(&self) -> Option<Place> {
        let headers = self.content.as_ref().ok()?.original_headers();
        let position = texts(&headers, LETTER_HEADER).next()?;
        let rest = position.strip_prefix(self.position.topic.as_str())?.strip_prefix('/')?;
        rest.replace('@', "/").parse().ok()
    }

    /// When it was written, for people and programs.
    #[must_use]
    pub fn written_at(&self) -> Option<String> {
        self.written_at_ms.and_then(format_instant)
    }

    /// What a program needs to choose among dead letters.
    #[must_use]
    pub fn summary(&self) -> Value {
        let record = self.content.as_ref().ok();
        let metadata = |key: &str| record.and_then(|record| record.metadata(key)).cloned();
        let source = record.and_then(DlqRecord::source);
        json!({
            "topic": self.position.topic,
            "partition": self.position.partition,
            "offset": self.position.offset,
            "written_at": self.written_at(),
            "ticket_id": self.ticket_id(),
            "task_type": self.task_type(),
            "error_code": self.code(),
            "error_type": record.and_then(DlqRecord::error_type),
            "error": self.error(),
            "retry_count": record.and_then(DlqRecord::retry_count),
            "redrives": self.redrives(),
            "source": source.map(|(topic, partition, offset)| {
                json!({ "topic": topic, "partition": partition, "offset": offset })
            }),
            "undecodable": record.is_some_and(DlqRecord::is_undecodable),
            "original_value_bytes": metadata("original_value_bytes"),
            "original_value_truncated": metadata("original_value_truncated"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    pub(crate) const NORMAL: &[u8] = include_bytes!("../../schemas/tests/samples/dlq/normal.json");
    pub(crate) const UNDECODABLE: &[u8] = include_bytes!("../../schemas/tests/samples/dlq/undecodable.json");
    pub(crate) const DOCUMENT: &[u8] = include_bytes!("../../schemas/tests/samples/dlq/mongodb-document.json");

    /// A message of the dead-letter topic at partition 0.
    pub(crate) fn message(offset: i64, value: Option<&[u8]>) -> OwnedMessage {
        let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some("00-1") });
        let time = Timestamp::CreateTime(1_773_655_201_000);
        let topic = "execution.tickets.dlq".to_owned();
        OwnedMessage::new(value.map(<[u8]>::to_vec), None, topic, time, 0, offset, Some(headers))
    }

    pub(crate) fn letter(offset: i64, value: &[u8]) -> Letter {
        Letter::of(&message(offset, Some(value)))
    }

    #[test]
    fn whatever_is_in_the_topic_can_be_listed() {
        let normal = letter(17, NORMAL);
        assert_eq!((normal.ticket_id(), normal.task_type()), ("b48b8f01-cdc1-506e-81c1-0be644e6096e", "TEST"));
        assert_eq!(normal.code(), "TimeoutError", "the platform's records have no code of ours");
        assert_eq!(normal.summary()["written_at"], "2026-03-16T10:00:01.000Z");
        let undecodable = letter(18, UNDECODABLE);
        assert_eq!((undecodable.ticket_id(), undecodable.code()), ("unknown", "JSONDecodeError"));
        assert_eq!(undecodable.summary()["source"]["offset"], 10_233);
        assert_eq!(letter(1, b"garbage").code(), "dlq_unreadable");
        assert_eq!(letter(1, b"{}").code(), "dlq_no_metadata");
        assert_eq!(Letter::of(&message(1, None)).code(), "dlq_unreadable");
        let hostile = br#"{"ticket_id": "a\u001b[2J", "task_type": 3, "dlq_metadata": {"original_error": 7}}"#;
        assert_eq!((letter(1, hostile).ticket_id(), letter(1, hostile).task_type()), ("unknown", "unknown"));
    }
}
