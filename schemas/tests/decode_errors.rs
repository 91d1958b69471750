//! Each way a message can be refused, with its stable code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use common::{small_ticket, with};
use serde_json::{Value, json};
use ticket_schemas::*;

fn decode(object: &Value) -> Result<Ticket, DecodeError> {
    decode_json_ticket(object.to_string().as_bytes())
}

/// One message for each code; a code without a row, or without a line in the operators' page, fails.
#[test]
fn every_code_has_a_message_and_a_line_in_the_operators_page() {
    let json = |bytes: &[u8]| decode_json_ticket(bytes).unwrap_err();
    let changed = |field: &str, value: Value| decode(&with(small_ticket(), field, value)).unwrap_err();
    let avro = |body: &[u8]| decode_avro_ticket(body, &WriterSchema::ticket()).unwrap_err();
    let vector = common::vector("ticket-build-code-forge");
    let result = json!({"ticket_id": "t-1", "status": "PREEMPTED", "result": {"success": true}, "agent_id": "a",
                        "timestamp": 1});
    let rows = [
        ("tombstone", Frame::detect(None).unwrap_err()),
        ("oversized", json(&vec![b' '; MAX_VALUE_BYTES + 1])),
        ("invalid_utf8", json(b"{\"ticket_id\": \"\xff\"}")),
        ("invalid_json", json(b"{\"ticket_id\": ")),
        ("not_an_object", json(b"[1]")),
        ("missing_field", changed("dependencies", Value::Null)),
        ("malformed_field", changed("dependencies", json!("a,b"))),
        ("invalid_ticket_id", changed("ticket_id", json!("a b"))),
        ("unknown_task_type", changed("task_type", json!("create"))),
        ("unknown_execution_status", decode_json_result(result.to_string().as_bytes()).unwrap_err()),
        ("avro_decode_failed", avro(&vector[5..vector.len() - 1])),
        ("avro_trailing_bytes", avro(&[&vector[5..], &[0]].concat())),
        ("unusable_schema", DecodeError::from(WriterSchema::parse("\"long\"").unwrap_err())),
    ];
    assert_eq!(rows.each_ref().map(|(code, _)| *code), DecodeErrorKind::CODES);
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations/error-codes.md")).unwrap();
    for (code, error) in rows {
        assert_eq!(error.code(), code);
        assert!(!error.to_string().is_empty());
        let line = page.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
        assert!(
            line.is_some_and(|line| line.split('|').all(|cell| cell.is_empty() || !cell.trim().is_empty())),
            "{code}"
        );
    }
}

#[test]
fn texts_that_are_no_json_object() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let cases: [(&[u8], &str); 12] = [
        (b"\xff{}", "invalid_utf8"),
        (b"{\"ticket_id\": \"\xc3\"}", "invalid_utf8"),
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b"{'ticket_id': 'x'}", "invalid_json"),
        (b"{\"a\": NaN}", "invalid_json"),
        (b"{\"a\": \"\\ud800\"}", "invalid_json"),
        (deep.as_bytes(), "invalid_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b"\"text\"", "not_an_object"),
    ];
    for (bytes, code) in cases {
        let error = decode_json_ticket(bytes).unwrap_err();
        assert_eq!(error.code(), code, "{}", String::from_utf8_lossy(bytes));
        assert_eq!((error.original(), error.ticket_id_hint()), (None, None));
        assert_eq!(decode_json_result(bytes).unwrap_err().code(), code);
    }
    let big = vec![b' '; MAX_VALUE_BYTES + 1];
    assert_eq!(decode_json_ticket(&big).unwrap_err().code(), "oversized");
    assert_eq!(decode_avro_ticket(&big, &WriterSchema::ticket()).unwrap_err().code(), "oversized");
}

#[test]
fn required_fields_that_are_missing_or_null() {
    for field in ["ticket_id", "task_id", "task_type", "status", "dependencies"] {
        let mut absent = small_ticket();
        absent.as_object_mut().unwrap().remove(field);
        for object in [absent, with(small_ticket(), field, Value::Null)] {
            let error = decode(&object).unwrap_err();
            assert_eq!(error.code(), "missing_field", "{field}");
            assert!(error.to_string().contains(field), "{error}");
            assert_eq!(error.original(), Some(&object));
        }
    }
}

#[test]
fn values_that_are_malformed() {
    let long = |chars: usize| Value::from("x".repeat(chars));
    let many: Value = (0..=MAX_DEPENDENCIES).map(|n| Value::from(format!("t{n}"))).collect();
    let cases = [
        ("ticket_id", json!(7), "malformed_field"),
        ("ticket_id", json!(""), "invalid_ticket_id"),
        ("ticket_id", json!("a b"), "invalid_ticket_id"),
        ("ticket_id", long(201), "invalid_ticket_id"),
        ("task_id", json!(""), "malformed_field"),
        ("task_id", json!("a\nb"), "malformed_field"),
        ("task_id", json!("a\0"), "malformed_field"),
        ("task_id", long(256), "malformed_field"),
        ("plan_id", long(201), "malformed_field"),
        ("intent_id", json!("\u{7f}"), "malformed_field"),
        ("decision_id", json!(1), "malformed_field"),
        ("trace_id", json!("a\r\nb"), "malformed_field"),
        ("task_type", json!(1), "malformed_field"),
        ("task_type", json!("create"), "unknown_task_type"),
        ("task_type", json!(""), "unknown_task_type"),
        ("status", json!("PREEMPTED"), "malformed_field"),
        ("dependencies", json!("a,b"), "malformed_field"),
        ("dependencies", json!([1]), "malformed_field"),
        ("dependencies", json!(["a b"]), "invalid_ticket_id"),
        ("dependencies", many, "malformed_field"),
        ("priority", json!(0), "malformed_field"),
        ("priority", json!(11), "malformed_field"),
        ("priority", json!(2.5), "malformed_field"),
        ("priority", json!("URGENT"), "malformed_field"),
        ("risk_band", json!("none"), "malformed_field"),
        ("security_level", json!("SECRET"), "malformed_field"),
        ("sla", json!([]), "malformed_field"),
        ("sla", json!({"timeout_ms": 0}), "malformed_field"),
        ("sla", json!({"timeout_ms": -1}), "malformed_field"),
        ("sla", json!({"timeout_ms": "60000"}), "malformed_field"),
        ("sla", json!({"deadline": 0}), "malformed_field"),
        ("sla", json!({"deadline": i64::MAX}), "malformed_field"),
        ("sla", json!({"max_retries": -1}), "malformed_field"),
        ("sla", json!({"max_retries": 1001}), "malformed_field"),
        ("qos", json!({"delivery_mode": "TWICE"}), "malformed_field"),
        ("parameters", json!([]), "malformed_field"),
        ("parameters", json!("{}"), "malformed_field"),
        ("required_capabilities", json!([1]), "malformed_field"),
        ("metadata", json!("x"), "malformed_field"),
        ("created_at", json!(0), "malformed_field"),
        ("created_at", json!("2026-03-16"), "malformed_field"),
        ("started_at", json!(-5), "malformed_field"),
        ("estimated_duration_ms", json!(-1), "malformed_field"),
        ("retry_count", json!(-1), "malformed_field"),
        ("retry_count", json!(1u64 << 40), "malformed_field"),
        ("schema_version", json!(0), "malformed_field"),
        ("description", json!({}), "malformed_field"),
    ];
    for (field, value, code) in cases {
        let error = decode(&with(small_ticket(), field, value.clone())).unwrap_err();
        assert_eq!(error.code(), code, "{field}: {value}");
        let text = error.to_string();
        assert!(text.contains(field), "{text}");
        assert!(text.chars().count() < 400 && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn what_is_tolerated() {
    let read = |field: &str, value: Value| decode(&with(small_ticket(), field, value)).unwrap();
    assert_eq!(read("task_type", json!("code_generation")).task_type, TaskType::Execute);
    assert_eq!(read("status", json!("pending")).status, TicketStatus::Pending);
    assert_eq!(read("priority", json!("critical")).priority, Priority::Critical);
    assert_eq!(read("priority", json!(9.0)).priority, Priority::Critical);
    assert_eq!(read("decision_id", json!("")).decision_id, None);
    assert_eq!(read("sla", json!({"timeout_ms": 60000.0})).sla.unwrap().timeout_ms, Some(60_000));
    assert_eq!(read("qos", json!({})).qos, Some(Qos::default()));
    assert_eq!(read("unknown_key", json!({"deep": [1]})), decode(&small_ticket()).unwrap());
    let metadata = read("metadata", json!({"a": 1, "b": null, "c": [true], "d": "x"})).metadata;
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(metadata, [("a", "1"), ("c", "[true]"), ("d", "x")]);
    let small = decode(&small_ticket()).unwrap();
    assert_eq!((small.priority, small.risk_band), (Priority::Normal, RiskBand::Medium));
    assert_eq!((small.retry_count, small.schema_version, small.created_at), (0, 1, None));
    assert!(small.plan_id.is_empty() && small.parameters.is_empty() && small.sla.is_none());
}

#[test]
fn avro_bodies_that_do_not_fit() {
    let value = common::vector("ticket-build-code-forge");
    let body = &value[5..];
    let ticket = WriterSchema::ticket();
    for end in 0..body.len() {
        let error = decode_avro_ticket(&body[..end], &ticket).unwrap_err();
        assert_eq!(error.code(), "avro_decode_failed", "cut at {end}");
    }
    let mut longer = body.to_vec();
    longer.extend([0, 0]);
    assert_eq!(decode_avro_ticket(&longer, &ticket).unwrap_err().code(), "avro_trailing_bytes");
    assert!(decode_avro_ticket(body, &WriterSchema::result()).is_err());
    let unusable = DecodeError::from(WriterSchema::parse("\"long\"").unwrap_err());
    assert_eq!(unusable.code(), "unusable_schema");
}

#[test]
fn avro_checks_meaning_too_and_keeps_the_hints() {
    let mut ticket = decode(&small_ticket()).unwrap();
    ticket.sla = Some(Sla { deadline: Some(1), timeout_ms: Some(0), max_retries: Some(0) });
    ticket.created_at = Some(1);
    let value = encode_avro_ticket(&ticket, 1).unwrap();
    let error = decode_avro_ticket(&value[5..], &WriterSchema::ticket()).unwrap_err();
    assert_eq!((error.code(), error.ticket_id_hint()), ("malformed_field", Some("t-1")));
    assert!(error.to_string().contains("sla.timeout_ms"), "{error}");
}

#[test]
fn a_writer_with_a_newer_schema_is_understood() {
    // A new field, a new enum symbol, a field less, int where we have long.
    let newer = TICKET_SCHEMA_JSON.replace("\"TRANSFORM\"", "\"TRANSFORM\", \"CREATE\"");
    let mut newer: Value = serde_json::from_str(&newer).unwrap();
    let fields = newer["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "retry_count");
    fields.insert(0, json!({"name": "tenant", "type": ["null", "string"]}));
    let schema = WriterSchema::parse(&newer.to_string()).unwrap();
    assert_ne!(schema.canonical_form(), WriterSchema::ticket().canonical_form());

    let value = common::vector("ticket-execute-empty-parameters");
    let expected = decode_avro_ticket(&value[5..], &WriterSchema::ticket()).unwrap();
    // Union index 1 and "x" for `tenant`; `retry_count` 0 is one byte before the last four.
    let mut body = vec![2, 2, b'x'];
    body.extend_from_slice(&value[5..]);
    let tail = encode_avro_ticket(&expected, 1).unwrap();
    let after_retries = {
        let mut other = expected.clone();
        other.retry_count = 1;
        let other = encode_avro_ticket(&other, 1).unwrap();
        other.iter().zip(&tail).position(|(a, b)| a != b).unwrap()
    };
    body.remove(3 + after_retries - 5);
    assert_eq!(decode_avro_ticket(&body, &schema).unwrap(), expected);

    let unknown = {
        // The symbol follows `task_id`, so it is where two types of one ticket differ.
        let mut other = expected.clone();
        other.task_type = TaskType::Query;
        let other = encode_avro_ticket(&other, 1).unwrap();
        other.iter().zip(&tail).position(|(a, b)| a != b).unwrap()
    };
    body[3 + unknown - 5] = 8 << 1;
    let error = decode_avro_ticket(&body, &schema).unwrap_err();
    assert_eq!(error.code(), "unknown_task_type");
    assert_eq!(error.task_type_hint(), Some("CREATE"));
}

#[test]
fn results_that_are_refused() {
    let small = json!({"ticket_id": "t-1", "status": "COMPLETED", "result": {"success": true}, "agent_id": "a",
                       "timestamp": 1});
    let decode = |object: &Value| decode_json_result(object.to_string().as_bytes());
    assert!(decode(&small).is_ok());
    for (field, value, code) in [
        ("ticket_id", json!("/"), "invalid_ticket_id"),
        ("status", json!("CANCELLED"), "unknown_execution_status"),
        ("status", json!(null), "missing_field"),
        ("result", json!(null), "missing_field"),
        ("result", json!({}), "missing_field"),
        ("result", json!({"success": "yes"}), "malformed_field"),
        ("result", json!({"success": true, "output": ["a"]}), "malformed_field"),
        ("agent_id", json!(null), "missing_field"),
        ("timestamp", json!(-1), "malformed_field"),
        ("actual_duration_ms", json!(-1), "malformed_field"),
    ] {
        assert_eq!(decode(&with(small.clone(), field, value.clone())).unwrap_err().code(), code, "{field} {value}");
    }
}
