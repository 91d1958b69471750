//! Dead letters: what is written is read back byte for byte, and what somebody else wrote never breaks the reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use ticket_fuzz::bounded;
use ticket_schemas::{DlqEnvelope, DlqHeader, DlqRecord, DlqSource, MAX_DLQ_RECORD_BYTES};

fn read(value: &[u8]) {
    let Ok(record) = bounded(|| DlqRecord::parse(value)) else { return };
    let _ = (record.ticket_id(), record.task_type(), record.error(), record.error_code(), record.retry_count());
    let _ = (record.source(), record.original_value(), record.original_key(), record.original_headers());
    if let Some(object) = record.redrive_object() {
        assert!(!object.contains_key("dlq_metadata") && object["status"] == "PENDING");
    }
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let original: Option<Value> = serde_json::from_slice(data).ok();
    let (head, tail) = data.split_at(data.len().min(16));
    let text = String::from_utf8_lossy(head);
    let headers = [DlqHeader { key: &text, value: Some(tail) }, DlqHeader { key: "empty", value: None }];
    let envelope = DlqEnvelope {
        original: original.as_ref(),
        ticket_id_hint: Some(&text),
        task_type_hint: Some(&text),
        key: Some(head),
        value: Some(data),
        headers: &headers,
        headers_incomplete: false,
        source: DlqSource { topic: &text, partition: 1, offset: 2, timestamp: None },
        error: &text,
        error_type: "fuzz",
        error_code: "fuzz",
        retry_count: 0,
        last_failure_at_ms: 1,
        published_at_ms: 2,
        software_version: "0",
    };
    let bytes = bounded(|| envelope.to_json_bytes());
    assert!(bytes.len() <= MAX_DLQ_RECORD_BYTES);
    let record = DlqRecord::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(record.original_value(), Ok(Some(data.to_vec())));
    assert_eq!(record.original_key().as_deref(), Some(head));
    read(&bytes);
});
