//! The work digest: what it covers, what it does not, and vectors that must never change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use serde_json::{Value, json};
use ticket_schemas::*;

fn digest(object: &Value) -> WorkDigest {
    WorkDigest::of(&decode_json_ticket(object.to_string().as_bytes()).unwrap())
}

/// A ticket with parameters of every type.
fn native() -> Value {
    json!({
        "ticket_id": "t-1", "plan_id": "p-1", "intent_id": "i-1", "decision_id": "d-1", "task_id": "task",
        "task_type": "QUERY", "status": "PENDING", "dependencies": ["b", "a"], "security_level": "INTERNAL",
        "required_capabilities": ["read", "analyze"], "created_at": 1_773_653_400_000_i64,
        "sla": {"deadline": 1_773_654_000_000_i64, "timeout_ms": 600_000, "max_retries": 2},
        "parameters": {
            "limit": 100, "ratio": 0.5, "explain": true, "collection": "sap", "version": "1.10", "input_data": null,
            "entities": ["sap", "hana"], "filter": {"subject": "sap", "entities": {"$in": ["sap", "hana"]}, "x": null},
        },
    })
}

const NATIVE: &str = "6b03fcf1f1f3b7358e3054026bf587987d56fea55f1adcb43adba08ef3183c34";

#[test]
fn one_ticket_has_one_digest_in_every_form() {
    let ticket = decode_json_ticket(native().to_string().as_bytes()).unwrap();
    assert_eq!(WorkDigest::of(&ticket).as_hex(), NATIVE);

    let avro = encode_avro_ticket(&ticket, 9).unwrap();
    let avro = decode_avro_ticket(&avro[5..], &WriterSchema::ticket()).unwrap();
    assert_ne!(avro.parameters, ticket.parameters);
    assert_eq!(WorkDigest::of(&avro).as_hex(), NATIVE);

    let literals = json!({
        "limit": "100", "ratio": "0.5", "explain": "True", "collection": "sap", "version": "1.10", "input_data": "None",
        "entities": "['sap', 'hana']",
        "filter": "{'x': None, 'entities': {'$in': ['sap', 'hana']}, 'subject': 'sap'}",
    });
    assert_eq!(digest(&common::with(native(), "parameters", literals)).as_hex(), NATIVE);

    let reordered = r#"{"parameters": {"filter": {"x": null, "entities": {"$in": ["sap", "hana"]}, "subject": "sap"},
        "version": "1.10", "entities": ["sap", "hana"], "collection": "sap", "explain": true, "ratio": 5e-1,
        "limit": 100.0}, "required_capabilities": ["analyze", "read", "read"], "security_level": "internal",
        "dependencies": ["a", "b", "a"], "status": "RUNNING", "task_type": "analyze", "task_id": "task",
        "decision_id": "d-1", "intent_id": "i-1", "plan_id": "p-1", "ticket_id": "t-1"}"#;
    assert_eq!(WorkDigest::of(&decode_json_ticket(reordered.as_bytes()).unwrap()).as_hex(), NATIVE);
}

#[test]
fn every_covered_field_changes_it() {
    let mut seen = vec![digest(&native())];
    for (field, value) in [
        ("ticket_id", json!("t-2")),
        ("plan_id", json!("p-2")),
        ("intent_id", json!("i-2")),
        ("decision_id", json!("d-2")),
        ("decision_id", json!(null)),
        ("task_id", json!("other")),
        ("task_type", json!("EXECUTE")),
        ("dependencies", json!(["a"])),
        ("required_capabilities", json!(["read"])),
        ("security_level", json!("PUBLIC")),
        ("parameters", json!({})),
        ("parameters", json!({"limit": 101})),
        ("parameters", json!({"limit": "1.10"})),
        ("parameters", json!({"limit": "1.1"})),
        ("parameters", json!({"a": "x", "b": ""})),
        ("parameters", json!({"a": "x\",\"b\":\""})),
        ("parameters", json!({"entities": ["hana", "sap"]})),
        ("parameters", json!({"entities": ["sap", "hana"]})),
        ("parameters", json!({"entities": ["sap,hana"]})),
    ] {
        let changed = digest(&common::with(native(), field, value.clone()));
        assert!(!seen.contains(&changed), "{field} {value}");
        seen.push(changed);
    }
}

#[test]
fn no_other_field_changes_it() {
    for (field, value) in [
        ("status", json!("FAILED")),
        ("priority", json!("HIGH")),
        ("risk_band", json!("high")),
        ("description", json!("x")),
        ("sla", json!(null)),
        ("sla", json!({"deadline": 5, "timeout_ms": 6})),
        ("qos", json!({"delivery_mode": "AT_MOST_ONCE"})),
        ("correlation_id", json!("c")),
        ("trace_id", json!("t")),
        ("span_id", json!("s")),
        ("created_at", json!(7)),
        ("started_at", json!(7)),
        ("completed_at", json!(7)),
        ("estimated_duration_ms", json!(7)),
        ("actual_duration_ms", json!(7)),
        ("retry_count", json!(7)),
        ("error_message", json!("e")),
        ("compensation_ticket_id", json!("c")),
        ("metadata", json!({"a": "b"})),
        ("schema_version", json!(2)),
        ("predictions", json!({"a": 1})),
    ] {
        assert_eq!(digest(&common::with(native(), field, value)).as_hex(), NATIVE, "{field}");
    }
    let absent = digest(&common::with(native(), "decision_id", json!(null)));
    assert_eq!(digest(&common::with(native(), "decision_id", json!(""))), absent);
}

#[test]
fn vectors_of_the_samples() {
    for (path, expected) in [
        ("tickets/build-code-forge.json", "a4ebd7f44a23a05ef3495e79958754dc807fef25d56caf7b33ac1d4226068312"),
        ("tickets/engine-unicode-and-nulls.json", "f36b8047489fd7fe9c55bb2fea65a516dd612b1d2d5b05b0cb1254fbc2b82844"),
        ("tickets/execute-empty-parameters.json", "9301a9de13bf8f67b8ce0fbcb4ace8bb34ababd39d3a3c79b93d2fb907dcb9d4"),
        (
            "tickets-json-native/planner-query-direct-path.json",
            "e61bd43f562273822924b433d9d88d0d138cb1eba1a7ca394e41ec4a197deb02",
        ),
        (
            "tickets-json-native/orchestrator-compensation.json",
            "788b9e944ab5bf50c80a05dc8098b86294a0e332d0a44638fb971763d1cefe6e",
        ),
    ] {
        assert_eq!(digest(&common::json(path)).as_hex(), expected, "{path}");
    }
}

#[test]
fn avro_and_json_samples_agree() {
    for (name, bytes) in common::files("tickets", "json") {
        let ticket = decode_json_ticket(&bytes).unwrap();
        let avro = encode_avro_ticket(&ticket, 1).unwrap();
        let avro = decode_avro_ticket(&avro[5..], &WriterSchema::ticket()).unwrap();
        assert_eq!(WorkDigest::of(&avro), WorkDigest::of(&ticket), "{name}");
    }
}

#[test]
fn digests_travel_as_text() {
    let digest = digest(&native());
    assert_eq!(digest.to_string().parse(), Ok(digest));
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<WorkDigest>(&json).unwrap(), digest);
    let upper = digest.as_hex().to_uppercase();
    for bad in ["", "00", "zz", upper.as_str(), &"é".repeat(32)] {
        assert_eq!(bad.parse::<WorkDigest>().unwrap_err().code(), "invalid_work_digest");
    }
}
