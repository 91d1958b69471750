//! Reads a dead-letter record back, ours or the platform's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::digest::sha256_hex;
use crate::dlq::{UNKNOWN, preview};
use crate::excerpt::single_line;

/// Largest record read, in bytes: `max.message.bytes` of the topic (`contracts/kafka.md §1`).
const MAX_RECORD_BYTES: usize = 2_097_152;

/// Longest text kept of the parser's message, which may quote content.
const MAX_REASON_CHARS: usize = 120;

/// A dead-letter record.
#[derive(Debug, Clone, PartialEq)]
pub struct DlqRecord {
    object: Map<String, Value>,
}

/// What a dead-letter record holds of the original value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DlqOriginal {
    /// All of it, byte for byte.
    Whole(Vec<u8>),
    /// There was none.
    Tombstone,
    /// Its beginning only.
    Cut,
    /// Nothing: the record is the platform's.
    NotRecorded,
}

/// A message that is not a dead-letter record, or one whose original value is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DlqRecordError {
    /// Not one JSON object of an acceptable size.
    #[error("dead-letter record is unreadable: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
    /// There is no `dlq_metadata` object.
    #[error("dead-letter record has no dlq_metadata: it is an ordinary ticket")]
    NotDeadLetter,
    /// The original value does not decode or does not have the recorded checksum.
    #[error("dead-letter record's original value is damaged: take it from source topic and offset")]
    Damaged,
}

impl DlqRecordError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "dlq_unreadable",
            Self::NotDeadLetter => "dlq_no_metadata",
            Self::Damaged => "dlq_damaged",
        }
    }
}

impl DlqRecord {
    /// Reads a record's value.
    ///
    /// # Errors
    ///
    /// [`DlqRecordError`] when it is not JSON or has no `dlq_metadata`.
    pub fn parse(value: &[u8]) -> Result<Self, DlqRecordError> {
        if value.len() > MAX_RECORD_BYTES {
            return Err(DlqRecordError::Unreadable { reason: format!("{} bytes", value.len()) });
        }
        let object: Map<String, Value> = serde_json::from_slice(value).map_err(|error| DlqRecordError::Unreadable {
            reason: single_line(&error.to_string(), MAX_REASON_CHARS),
        })?;
        if object.get("dlq_metadata").is_some_and(Value::is_object) {
            Ok(Self { object })
        } else {
            Err(DlqRecordError::NotDeadLetter)
        }
    }

    /// The whole record.
    #[must_use]
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Ticket id as recorded, or `unknown`.
    #[must_use]
    pub fn ticket_id(&self) -> &str {
        self.text("ticket_id")
    }

    /// Task type as recorded, or `unknown`.
    #[must_use]
    pub fn task_type(&self) -> &str {
        self.text("task_type")
    }

    /// A value of `dlq_metadata`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.object.get("dlq_metadata")?.get(key)
    }

    /// Text of the error.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.metadata("original_error")?.as_str()
    }

    /// Class of the error.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.metadata("error_type")?.as_str()
    }

    /// Stable code of the error; only our records have one.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        self.metadata("error_code")?.as_str()
    }

    /// Attempts made.
    #[must_use]
    pub fn retry_count(&self) -> Option<i64> {
        self.metadata("retry_count")?.as_i64()
    }

    /// Whether the message could not be read as a ticket's object.
    #[must_use]
    pub fn is_undecodable(&self) -> bool {
        self.object.get("_deserialization_error") == Some(&Value::Bool(true))
    }

    /// When the record was made, epoch milliseconds.
    #[must_use]
    pub fn published_at_ms(&self) -> Option<i64> {
        self.metadata("dlq_published_at")?.as_i64()
    }

    /// Topic, partition and offset of the original record. What cannot be a position is none.
    #[must_use]
    pub fn source(&self) -> Option<(&str, i32, i64)> {
        let source = self.source_object()?;
        let topic = source.get("topic")?.as_str().filter(|topic| is_topic_name(topic))?;
        let partition = i32::try_from(source.get("partition")?.as_i64()?).ok().filter(|partition| *partition >= 0)?;
        Some((topic, partition, source.get("offset")?.as_i64().filter(|offset| *offset >= 0)?))
    }

    /// Time of the original record, epoch milliseconds.
    #[must_use]
    pub fn source_timestamp(&self) -> Option<i64> {
        self.source_object()?.get("timestamp")?.as_i64()
    }

    fn source_object(&self) -> Option<&Value> {
        self.metadata("source").or_else(|| self.object.get("_kafka_metadata"))
    }

    /// What the record holds of the original value.
    ///
    /// # Errors
    ///
    /// [`DlqRecordError::Damaged`] when it does not match its checksum.
    pub fn original(&self) -> Result<DlqOriginal, DlqRecordError> {
        match self.metadata("original_value_base64") {
            None => Ok(DlqOriginal::NotRecorded),
            Some(Value::Null) => Ok(DlqOriginal::Tombstone),
            Some(_) => Ok(self.original_value()?.map_or(DlqOriginal::Cut, DlqOriginal::Whole)),
        }
    }

    /// Whether `value` is the original value: by its checksum, else (the platform's records have none) by its beginning.
    #[must_use]
    pub fn is_original(&self, value: &[u8]) -> bool {
        match self.metadata("original_value_sha256").and_then(Value::as_str) {
            Some(checksum) => checksum == sha256_hex(value),
            None => self.object.get("_raw_message_preview").and_then(Value::as_str) == Some(preview(value).as_str()),
        }
    }

    /// Whether the original key and all headers were recorded as they were.
    #[must_use]
    pub fn has_whole_key_and_headers(&self) -> bool {
        ["original_key_truncated", "original_headers_truncated"]
            .iter()
            .all(|flag| self.metadata(flag) != Some(&Value::Bool(true)))
    }

    /// The original value, byte for byte; none when the record does not have all of it (upstream's, a tombstone's, or
    /// one that was cut).
    ///
    /// # Errors
    ///
    /// [`DlqRecordError::Damaged`] when it does not match its checksum.
    pub fn original_value(&self) -> Result<Option<Vec<u8>>, DlqRecordError> {
        let Some(text) = self.metadata("original_value_base64").and_then(Value::as_str) else {
            return Ok(None);
        };
        if self.metadata("original_value_truncated") != Some(&Value::Bool(false)) {
            return Ok(None);
        }
        let bytes = BASE64.decode(text).map_err(|_| DlqRecordError::Damaged)?;
        if self.metadata("original_value_sha256").and_then(Value::as_str) == Some(sha256_hex(&bytes).as_str()) {
            Ok(Some(bytes))
        } else {
            Err(DlqRecordError::Damaged)
        }
    }

    /// The original key, if it was recorded.
    #[must_use]
    pub fn original_key(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.metadata("original_key_base64")?.as_str()?).ok()
    }

    /// The original headers that were recorded.
    #[must_use]
    pub fn original_headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let headers =
            self.metadata("original_headers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let value = |header: &Value| BASE64.decode(header.get("value_base64")?.as_str()?).ok();
        headers.iter().filter_map(|header| Some((header.get("key")?.as_str()?.to_owned(), value(header)))).collect()
    }

    /// The ticket as the documented re-drive procedure publishes it (`contracts/kafka.md §9.2`): without the dead-letter
    /// keys, status `PENDING`. None when the record does not hold the whole object.
    #[must_use]
    pub fn redrive_object(&self) -> Option<Map<String, Value>> {
        if self.is_undecodable() || self.metadata("original_object_omitted") == Some(&Value::Bool(true)) {
            return None;
        }
        let mut object = self.object.clone();
        for key in ["_id", "dlq_metadata", "processed_at", "processed_at_ms"] {
            object.remove(key);
        }
        object.insert("status".to_owned(), Value::from("PENDING"));
        Some(object)
    }

    fn text(&self, key: &str) -> &str {
        self.object.get(key).and_then(Value::as_str).unwrap_or(UNKNOWN)
    }
}

/// Whether `text` can be the name of a topic.
fn is_topic_name(text: &str) -> bool {
    (1..=249).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
