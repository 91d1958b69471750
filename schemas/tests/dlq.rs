//! Dead-letter records, written and read back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use serde_json::{Value, json};
use ticket_schemas::*;

const SOURCE: DlqSource<'static> =
    DlqSource { topic: "execution.tickets", partition: 4, offset: 10_233, timestamp: Some(1_773_653_400_000) };

fn envelope<'a>(value: Option<&'a [u8]>, original: Option<&'a Value>) -> DlqEnvelope<'a> {
    DlqEnvelope {
        original,
        ticket_id_hint: None,
        task_type_hint: None,
        key: Some(b"plan-1"),
        value,
        headers: &[
            DlqHeader { key: "traceparent", value: Some(b"00-abc") },
            DlqHeader { key: "binary", value: Some(b"\xff\0") },
            DlqHeader { key: "empty", value: None },
        ],
        headers_incomplete: false,
        source: SOURCE,
        error: "connection to jenkins.example.com timed out",
        error_type: "TimeoutError",
        error_code: "provider_timeout",
        retry_count: 3,
        last_failure_at_ms: 1_773_655_200_000,
        published_at_ms: 1_773_655_200_420,
        software_version: "0.1.0",
    }
}

fn written(envelope: &DlqEnvelope<'_>) -> (Value, DlqRecord) {
    let bytes = envelope.to_json_bytes();
    assert!(bytes.len() <= MAX_DLQ_RECORD_BYTES, "{}", bytes.len());
    (serde_json::from_slice(&bytes).unwrap(), DlqRecord::parse(&bytes).unwrap())
}

#[test]
fn a_decodable_ticket_has_every_key_of_the_platforms_record() {
    let platform = common::json("dlq/normal.json");
    let mut ticket = platform.clone();
    ticket.as_object_mut().unwrap().remove("dlq_metadata");
    let value = ticket.to_string();
    let envelope = envelope(Some(value.as_bytes()), Some(&ticket));
    assert_eq!(envelope.key(), platform["ticket_id"]);
    let (found, record) = written(&envelope);
    for (key, expected) in platform.as_object().unwrap() {
        match key.as_str() {
            "dlq_metadata" => {
                for (key, expected) in expected.as_object().unwrap() {
                    assert_eq!(&found["dlq_metadata"][key], expected, "{key}");
                }
            }
            _ => assert_eq!(&found[key], expected, "{key}"),
        }
    }
    assert_eq!(record.original_value().unwrap().unwrap(), value.as_bytes());
    assert_eq!(record.original_key().unwrap(), b"plan-1");
    assert_eq!(record.original_headers()[1], ("binary".to_owned(), Some(b"\xff\0".to_vec())));
    assert_eq!(record.original_headers()[2], ("empty".to_owned(), None));
    assert_eq!(record.source(), Some(("execution.tickets", 4, 10_233)));
    assert_eq!((record.error_code(), record.retry_count()), (Some("provider_timeout"), Some(3)));
    assert_eq!(Value::Object(record.redrive_object().unwrap()), ticket);
}

#[test]
fn inc_14_an_undecodable_message_is_kept_byte_for_byte() {
    let platform = common::json("dlq/undecodable.json");
    let value = b"\xff{\"ticket_id\": \"broken";
    let (found, record) = written(&envelope(Some(value), None));
    for (key, expected) in platform.as_object().unwrap() {
        if key != "dlq_metadata" {
            assert_eq!(&found[key], expected, "{key}");
        }
    }
    assert!(record.is_undecodable() && record.redrive_object().is_none());
    assert_eq!(record.original_value().unwrap().unwrap(), value);
}

#[test]
fn hints_fill_what_is_known() {
    let hinted = DlqEnvelope {
        ticket_id_hint: Some("t-1"),
        task_type_hint: Some("BUILD"),
        ..envelope(Some(b"\0\0\0\0\x01xx"), None)
    };
    assert_eq!(hinted.key(), "t-1");
    let (found, record) = written(&hinted);
    assert_eq!((&found["ticket_id"], &found["task_type"]), (&json!("t-1"), &json!("BUILD")));
    assert_eq!((record.ticket_id(), record.task_type()), ("t-1", "BUILD"));
    let invalid = DlqEnvelope { ticket_id_hint: Some("not an id"), ..envelope(None, None) };
    assert_eq!(invalid.key(), UNKNOWN);
    let no_id = json!({"ticket_id": ""});
    assert_eq!(envelope(None, Some(&no_id)).key(), UNKNOWN);
}

#[test]
fn a_tombstone_has_no_value() {
    let (found, record) = written(&envelope(None, None));
    assert_eq!(found["_raw_message_preview"], "");
    assert_eq!(found["dlq_metadata"]["original_value_base64"], Value::Null);
    assert_eq!(record.original_value(), Ok(None));
}

#[test]
fn sizes_are_bounded_whatever_comes() {
    let error = "é\u{1}".repeat(100_000);
    let header = vec![b'h'; 40_000];
    let headers = [DlqHeader { key: "a", value: Some(&header) }, DlqHeader { key: "b", value: Some(&header) }];
    let bytes = vec![1; MAX_VALUE_BYTES];
    // The worst object: each character becomes six in JSON.
    let object = json!({"ticket_id": "t-1", "task_id": "\u{1}".repeat(MAX_VALUE_BYTES), "dependencies":
        (0..50_000).map(|n| format!("d{n}")).collect::<Vec<_>>(), "description": "\u{1}".repeat(MAX_VALUE_BYTES)});
    for original in [None, Some(&object)] {
        let big =
            DlqEnvelope { error: &error, key: Some(&bytes), headers: &headers, ..envelope(Some(&bytes), original) };
        let (found, record) = written(&big);
        let metadata = &found["dlq_metadata"];
        assert_eq!(metadata["original_value_truncated"], true);
        assert_eq!(metadata["original_value_bytes"], MAX_VALUE_BYTES);
        assert_eq!(metadata["original_headers_truncated"], true);
        assert_eq!(metadata["original_object_omitted"], original.is_some());
        assert!(metadata["original_error"].as_str().unwrap().len() <= MAX_DLQ_ERROR_BYTES);
        assert_eq!(record.original_value(), Ok(None));
        assert!(record.redrive_object().is_none());
        assert!(found["dependencies"].as_array().unwrap().len() <= 100);
    }
    let preview = written(&envelope(Some("é".repeat(5000).as_bytes()), None)).0;
    assert_eq!(preview["_raw_message_preview"].as_str().unwrap().chars().count(), 1000);
}

#[test]
fn an_ordinary_large_ticket_keeps_object_and_bytes() {
    let object = common::with(common::small_ticket(), "parameters", json!({"a": "x".repeat(500_000)}));
    let value = object.to_string();
    let (found, record) = written(&envelope(Some(value.as_bytes()), Some(&object)));
    assert_eq!(found["dlq_metadata"]["original_object_omitted"], false);
    assert_eq!(record.original_value().unwrap().unwrap(), value.as_bytes());
}

#[test]
fn earlier_metadata_is_kept_one_level_deep() {
    let mut ticket = common::small_ticket();
    for round in 1..=3 {
        let value = ticket.to_string();
        let mut again = envelope(Some(value.as_bytes()), Some(&ticket));
        again.retry_count = round;
        ticket = written(&again).0;
    }
    let metadata = &ticket["dlq_metadata"];
    assert_eq!(metadata["retry_count"], 3);
    assert_eq!(metadata["previous"]["retry_count"], 2);
    assert_eq!(metadata["previous"].get("previous"), None);

    let huge = common::with(
        common::small_ticket(),
        "dlq_metadata",
        json!({"error_type": "TimeoutError", "original_value_base64": "A".repeat(700_000)}),
    );
    let (found, _) = written(&envelope(Some(b"{}"), Some(&huge)));
    assert_eq!(found["dlq_metadata"]["previous"], json!({"error_type": "TimeoutError"}));
}

#[test]
fn the_platforms_own_records_are_read() {
    for name in ["normal", "undecodable", "mongodb-document"] {
        let record = DlqRecord::parse(&common::file(&format!("dlq/{name}.json"))).unwrap();
        assert_eq!(record.retry_count(), Some(3), "{name}");
        assert!(record.error().is_some() && record.error_type().is_some(), "{name}");
        assert_eq!(record.original_value(), Ok(None), "{name}");
        assert_eq!(record.is_undecodable(), name == "undecodable", "{name}");
    }
    let document = DlqRecord::parse(&common::file("dlq/mongodb-document.json")).unwrap();
    let redriven = Value::Object(document.redrive_object().unwrap());
    assert!(decode_json_ticket(redriven.to_string().as_bytes()).is_ok());
    assert!(redriven.get("processed_at").is_none());
    let undecodable = DlqRecord::parse(&common::file("dlq/undecodable.json")).unwrap();
    assert_eq!(undecodable.source(), Some(("execution.tickets", 4, 10_233)));
}

#[test]
fn what_is_no_intact_record_is_refused() {
    assert_eq!(DlqRecord::parse(b"[]").unwrap_err().code(), "dlq_unreadable");
    assert_eq!(DlqRecord::parse(&vec![b' '; 2_097_153]).unwrap_err().code(), "dlq_unreadable");
    assert_eq!(DlqRecord::parse(b"{\"ticket_id\": \"a\"}").unwrap_err().code(), "dlq_no_metadata");
    let mut found = written(&envelope(Some(b"abc"), None)).0;
    found["dlq_metadata"]["original_value_base64"] = json!("YWJk");
    let damaged = DlqRecord::parse(found.to_string().as_bytes()).unwrap();
    assert_eq!(damaged.original_value().unwrap_err().code(), "dlq_damaged");
}

#[test]
fn inc_19_the_record_has_the_real_keys_and_not_the_promised_ones() {
    let ticket = common::small_ticket();
    let value = ticket.to_string();
    for original in [Some(&ticket), None] {
        let (found, _) = written(&envelope(Some(value.as_bytes()), original));
        let metadata = found["dlq_metadata"].as_object().unwrap();
        for key in ["original_error", "error_type", "retry_count", "last_failure_timestamp", "dlq_published_at"] {
            assert!(metadata.contains_key(key), "{key}");
        }
        // What the topic's manifest promises and no code of the platform has ever written.
        for key in ["first_failure_timestamp", "failure_reasons", "original_error", "retry_count"] {
            assert!(found.get(key).is_none(), "{key}");
        }
    }
}

#[test]
fn inc_04_the_record_carries_the_originals_context() {
    let ticket = common::json("dlq/normal.json");
    let headers = [
        DlqHeader { key: "X-Neural-Hive-Plan-Id", value: Some(b"plan") },
        DlqHeader { key: "other", value: Some(b"x") },
    ];
    let with_headers = DlqEnvelope { headers: &headers, ..envelope(None, Some(&ticket)) }.platform_headers();
    let text = |name: &str| with_headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(text("x-neural-hive-plan-id").as_deref(), Some("plan"), "the record's header wins over the ticket");
    assert_eq!(text("x-neural-hive-intent-id").as_deref(), ticket["intent_id"].as_str());
    let parent = "00-503f41b616cbc5a0c4dd37df1f271b41-ddebe27caf1ff2a1-01";
    assert_eq!(text("traceparent").as_deref(), Some(parent), "built from the ticket's ids");
    assert_eq!(text(SOURCE_HEADER).as_deref(), Some("worker-agents"));
    assert_eq!(with_headers.len(), 4);
    assert_eq!(envelope(None, None).platform_headers()["traceparent"], b"00-abc");
}

#[test]
fn a_broker_with_a_small_limit_gets_the_bytes_without_the_object() {
    let object = common::with(common::small_ticket(), "parameters", json!({"a": "\u{1}".repeat(100_000)}));
    let bytes = vec![7; MAX_DLQ_ORIGINAL_BYTES];
    let header = vec![b'h'; 60_000];
    let error = "\u{1}".repeat(10_000);
    let headers = [DlqHeader { key: "a", value: Some(&header) }];
    let key = vec![1; 5000];
    let full =
        DlqEnvelope { headers: &headers, error: &error, key: Some(&key), ..envelope(Some(&bytes), Some(&object)) };
    let compact = full.to_json_bytes_within(0);
    assert!(compact.len() <= MAX_DLQ_COMPACT_BYTES, "{}", compact.len());
    let record = DlqRecord::parse(&compact).unwrap();
    assert_eq!(record.original(), Ok(DlqOriginal::Whole(bytes.clone())));
    assert_eq!(record.ticket_id(), "t-1");
    assert!(!record.has_whole_key_and_headers(), "the key was cut, and the record says so");
    assert!(full.to_json_bytes().len() > compact.len());
}

#[test]
fn what_a_record_holds_of_the_original_is_told_apart() {
    let of = |value: Option<&[u8]>| written(&envelope(value, None)).1;
    let large = vec![b'x'; MAX_DLQ_ORIGINAL_BYTES + 1];
    let cut = of(Some(&large));
    assert_eq!(of(Some(b"abc")).original(), Ok(DlqOriginal::Whole(b"abc".to_vec())));
    assert_eq!(of(None).original(), Ok(DlqOriginal::Tombstone));
    assert_eq!(cut.original(), Ok(DlqOriginal::Cut));
    assert!(cut.is_original(&large) && !cut.is_original(&large[1..]));
    let platforms = DlqRecord::parse(&common::file("dlq/undecodable.json")).unwrap();
    assert_eq!(platforms.original(), Ok(DlqOriginal::NotRecorded));
    assert!(platforms.is_original(b"\xff{\"ticket_id\": \"broken") && !platforms.is_original(b"{}"));
}

#[test]
fn a_source_that_cannot_be_a_position_is_none() {
    for (topic, partition, offset) in [("a\0b", 0, 0), ("..", 0, 0), ("", 0, 0), ("t", -1, 0), ("t", 0, -2)] {
        let object = json!({"dlq_metadata": {"source": {"topic": topic, "partition": partition, "offset": offset}}});
        assert_eq!(DlqRecord::parse(object.to_string().as_bytes()).unwrap().source(), None, "{object}");
    }
}
