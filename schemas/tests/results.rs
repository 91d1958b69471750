//! What results look like on the wire.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use ticket_schemas::*;

fn result() -> ExecutionResult {
    let map = |value: Value| value.as_object().unwrap().clone().into_iter().collect();
    ExecutionResult {
        ticket_id: TicketId::parse("t-1").unwrap(),
        status: ExecutionStatus::Completed,
        result: ExecutionResultPayload {
            success: true,
            output: map(
                json!({"list": ["a", {"b": null}], "none": null, "text": "x", "n": 12, "f": 12.5, "yes": true}),
            ),
            metadata: map(json!({"simulated": false})),
            logs: vec!["done".to_owned()],
        },
        error_message: None,
        actual_duration_ms: None,
        agent_id: "worker-1".to_owned(),
        timestamp: 1_773_654_000_000,
        schema_version: 1,
    }
}

#[test]
fn inc_10_values_are_plain_text_or_json_text_in_both_encodings() {
    let output = json!({"list": "[\"a\",{\"b\":null}]", "text": "x", "n": "12", "f": "12.5", "yes": "true"});
    let text: Value = serde_json::from_slice(&encode_json_result(&result(), &BTreeMap::new())).unwrap();
    assert_eq!(text["result"]["output"], output);
    assert_eq!(text["result"]["metadata"], json!({"simulated": "false"}));
    assert_eq!((&text["error_message"], &text["actual_duration_ms"]), (&Value::Null, &Value::Null));
    let avro = encode_avro_result(&result(), 2).unwrap();
    let decoded = decode_avro_result(&avro[5..], &WriterSchema::result()).unwrap();
    assert_eq!(serde_json::to_value(decoded.result.output).unwrap(), output);
}

#[test]
fn inc_12_extra_keys_are_added_and_never_replace_ours() {
    let extra = BTreeMap::from([
        ("execution_time_ms".to_owned(), json!(5)),
        ("status".to_owned(), json!("ERROR")),
        ("error_message".to_owned(), json!("forged")),
    ]);
    let text: Value = serde_json::from_slice(&encode_json_result(&result(), &extra)).unwrap();
    assert_eq!(text["execution_time_ms"], 5);
    assert_eq!((&text["status"], &text["error_message"]), (&json!("COMPLETED"), &Value::Null));
}

#[test]
fn equal_results_have_equal_bytes() {
    let bytes = || (encode_avro_result(&result(), 2).unwrap(), encode_json_result(&result(), &BTreeMap::new()));
    let first = bytes();
    assert!((0..20).all(|_| bytes() == first));
}

#[test]
fn the_type_itself_travels_as_json_with_native_values() {
    let text = serde_json::to_string(&result()).unwrap();
    assert_eq!(serde_json::from_str::<ExecutionResult>(&text).unwrap(), result());
}
