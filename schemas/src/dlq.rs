//! Writes a dead-letter record (`contracts/kafka.md §9.1`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::digest::sha256_hex;
use crate::excerpt::truncate_bytes;
use crate::ids::TicketId;

/// Key of a record whose ticket id is not known (`contracts/kafka.md §2`).
pub const UNKNOWN: &str = "unknown";
/// Largest record, in bytes. The topic takes 2,097,152 (`contracts/kafka.md §1`); the rest is for key, headers, frame.
pub const MAX_DLQ_RECORD_BYTES: usize = 2_000_000;
/// Largest record without the original object, in bytes: it fits a topic that nobody configured (1 MiB).
pub const MAX_DLQ_COMPACT_BYTES: usize = 1_000_000;
/// Most bytes of the original value that a record carries.
pub const MAX_DLQ_ORIGINAL_BYTES: usize = 512 * 1024;
/// Longest error text, in bytes.
pub const MAX_DLQ_ERROR_BYTES: usize = 4096;

const MAX_PREVIEW_CHARS: usize = 1000;
const MAX_KEY_BYTES: usize = 4096;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_PREVIOUS_BYTES: usize = 64 * 1024;
const MAX_SHORT_TEXT_BYTES: usize = 255;
const MAX_KEPT_DEPENDENCIES: usize = 100;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DlqSource<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Record time, epoch milliseconds, if the broker has one.
    pub timestamp: Option<i64>,
}

/// One header of the original record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DlqHeader<'a> {
    /// Name.
    pub key: &'a str,
    /// Value; a header may have none.
    pub value: Option<&'a [u8]>,
}

/// What a dead-letter record says. Times are epoch milliseconds.
///
/// Consumers of the platform find the keys of `contracts/kafka.md §9.1`. Ours come on top: the original bytes, key and
/// headers, so that nothing is lost however broken it was (INC-14), and a stable code to group by.
#[derive(Debug, Clone, Copy)]
pub struct DlqEnvelope<'a> {
    /// The message as an object, if it could be read as one: the ticket's JSON or [`crate::DecodeError::original`].
    pub original: Option<&'a Value>,
    /// Ticket id, if known otherwise than from `original`.
    pub ticket_id_hint: Option<&'a str>,
    /// Task type, if known otherwise than from `original`.
    pub task_type_hint: Option<&'a str>,
    /// Key of the original record.
    pub key: Option<&'a [u8]>,
    /// Value of the original record; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers of the original record.
    pub headers: &'a [DlqHeader<'a>],
    /// Whether the original record had headers beside these, which could not be read.
    pub headers_incomplete: bool,
    /// Where the original record is.
    pub source: DlqSource<'a>,
    /// What went wrong, as text; cut to [`MAX_DLQ_ERROR_BYTES`].
    pub error: &'a str,
    /// Class of the error that operators group by, for example `TimeoutError`.
    pub error_type: &'a str,
    /// Stable code of the error.
    pub error_code: &'a str,
    /// How often the ticket's record has failed: once, and once more for each re-drive.
    pub retry_count: u32,
    /// When the last attempt failed.
    pub last_failure_at_ms: i64,
    /// When this record is made.
    pub published_at_ms: i64,
    /// Version of the software that makes it.
    pub software_version: &'a str,
}

impl<'a> DlqEnvelope<'a> {
    /// Key of the record: the ticket id if there is a valid one, else [`UNKNOWN`].
    #[must_use]
    pub fn key(&self) -> &'a str {
        let from_object = || self.original?.get("ticket_id")?.as_str();
        self.ticket_id_hint
            .filter(|text| TicketId::is_valid(text))
            .or_else(|| from_object().filter(|text| TicketId::is_valid(text)))
            .unwrap_or(UNKNOWN)
    }

    /// The record's value: JSON text of at most [`MAX_DLQ_RECORD_BYTES`].
    ///
    /// When the original object does not fit beside the original bytes, only the keys that every consumer needs are
    /// kept of it, and `dlq_metadata.original_object_omitted` says so.
    #[must_use]
    pub fn to_json_bytes(&self) -> Vec<u8> {
        self.to_json_bytes_within(MAX_DLQ_RECORD_BYTES)
    }

    /// As [`DlqEnvelope::to_json_bytes`], the original object kept only if the whole has at most `limit` bytes: for a
    /// broker that takes less than the contract says. The original bytes are kept in any case, so that nothing is lost; the
    /// record may therefore have up to [`MAX_DLQ_COMPACT_BYTES`] whatever the limit is.
    #[must_use]
    pub fn to_json_bytes_within(&self, limit: usize) -> Vec<u8> {
        let Some(Value::Object(original)) = self.original else {
            return self.assemble(self.undecodable(), None, false);
        };
        let previous = original.get("dlq_metadata").and_then(Value::as_object);
        let whole = self.assemble(original.clone(), previous, false);
        if whole.len() <= limit {
            return whole;
        }
        self.assemble(self.essentials(original), previous, true)
    }

    fn assemble(
        &self,
        mut object: Map<String, Value>,
        previous: Option<&Map<String, Value>>,
        omitted: bool,
    ) -> Vec<u8> {
        let mut metadata = self.metadata();
        metadata.insert("original_object_omitted".to_owned(), omitted.into());
        if let Some(previous) = previous {
            metadata.insert("previous".to_owned(), Value::Object(shortened(previous)));
        }
        object.insert("dlq_metadata".to_owned(), Value::Object(metadata));
        Value::Object(object).to_string().into_bytes()
    }

    fn metadata(&self) -> Map<String, Value> {
        let value = self.value.unwrap_or_default();
        let kept = &value[..value.len().min(MAX_DLQ_ORIGINAL_BYTES)];
        let kept_key = self.key.map(|key| &key[..key.len().min(MAX_KEY_BYTES)]);
        let (headers, headers_truncated) = self.headers_json();
        object(json!({
            "original_error": truncate_bytes(self.error, MAX_DLQ_ERROR_BYTES),
            "error_type": truncate_bytes(self.error_type, MAX_SHORT_TEXT_BYTES),
            "retry_count": self.retry_count,
            "last_failure_timestamp": self.last_failure_at_ms,
            "dlq_published_at": self.published_at_ms,
            "error_code": truncate_bytes(self.error_code, MAX_SHORT_TEXT_BYTES),
            "original_value_base64": self.value.map(|_| BASE64.encode(kept)),
            "original_value_truncated": kept.len() < value.len(),
            "original_value_bytes": value.len(),
            "original_value_sha256": self.value.map(sha256_hex),
            "original_key_base64": kept_key.map(|key| BASE64.encode(key)),
            "original_key_truncated": kept_key.map(<[u8]>::len) < self.key.map(<[u8]>::len),
            "source": self.source_json(),
            "original_headers": headers,
            "original_headers_truncated": headers_truncated,
            "software_version": truncate_bytes(self.software_version, MAX_SHORT_TEXT_BYTES),
        }))
    }

    fn source_json(&self) -> Value {
        json!({
            "topic": self.source.topic,
            "partition": self.source.partition,
            "offset": self.source.offset,
            "timestamp": self.source.timestamp,
        })
    }

    /// The headers that fit the bound, in order, and whether some did not.
    fn headers_json(&self) -> (Vec<Value>, bool) {
        let mut room = MAX_HEADER_BYTES;
        let mut kept = Vec::new();
        for header in self.headers.iter().take(MAX_HEADERS) {
            let size = header.key.len() + header.value.unwrap_or_default().len();
            let Some(left) = room.checked_sub(size) else {
                break;
            };
            room = left;
            kept.push(json!({ "key": header.key, "value_base64": header.value.map(|value| BASE64.encode(value)) }));
        }
        let truncated = self.headers_incomplete || kept.len() < self.headers.len();
        (kept, truncated)
    }

    fn undecodable(&self) -> Map<String, Value> {
        let key = self.key();
        object(json!({
            "ticket_id": key,
            "task_id": UNKNOWN,
            "task_type": self.task_type_hint.map_or(UNKNOWN, |text| truncate_bytes(text, MAX_SHORT_TEXT_BYTES)),
            "status": "DESERIALIZATION_FAILED",
            "dependencies": [],
            "_deserialization_error": true,
            "_raw_message_preview": preview(self.value.unwrap_or_default()),
            "_kafka_metadata": self.source_json(),
        }))
    }

    /// The keys that consumers require of every ticket, bounded.
    fn essentials(&self, original: &Map<String, Value>) -> Map<String, Value> {
        let text = |key: &str| {
            original.get(key).and_then(Value::as_str).map_or(UNKNOWN, |text| truncate_bytes(text, MAX_SHORT_TEXT_BYTES))
        };
        let dependencies: Vec<&str> = original
            .get("dependencies")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .filter(|text| TicketId::is_valid(text))
            .take(MAX_KEPT_DEPENDENCIES)
            .collect();
        object(json!({
            "ticket_id": self.key(),
            "task_id": text("task_id"),
            "task_type": text("task_type"),
            "status": text("status"),
            "dependencies": dependencies,
        }))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    }
}

/// The first characters of a value, whatever its bytes are.
pub(crate) fn preview(value: &[u8]) -> String {
    // A character has at most four bytes, so no more need be looked at.
    let head = &value[..value.len().min(MAX_PREVIEW_CHARS * 4)];
    let text: Cow<'_, str> = String::from_utf8_lossy(head);
    text.chars().take(MAX_PREVIEW_CHARS).collect()
}

/// The metadata of a record that was dead-lettered before: without what it says about still earlier ones, and only
/// the short facts when it is long.
fn shortened(previous: &Map<String, Value>) -> Map<String, Value> {
    const FACTS: [&str; 8] = [
        "original_error",
        "error_type",
        "error_code",
        "retry_count",
        "last_failure_timestamp",
        "dlq_published_at",
        "original_value_sha256",
        "source",
    ];
    let mut kept = previous.clone();
    kept.remove("previous");
    if Value::Object(kept.clone()).to_string().len() <= MAX_PREVIOUS_BYTES {
        return kept;
    }
    kept.retain(|key, value| {
        FACTS.contains(&key.as_str()) && value.to_string().len() <= MAX_PREVIOUS_BYTES / FACTS.len()
    });
    kept
}
