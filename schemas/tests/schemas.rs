//! The schemas are the platform's: their canonical forms have the fingerprints of `contracts/kafka.md §4`.

use sha2::{Digest, Sha256};
use ticket_schemas::{RESULT_SCHEMA_JSON, TICKET_SCHEMA_JSON, WriterSchema};

fn fingerprint(schema: &WriterSchema) -> (usize, String) {
    let form = schema.canonical_form();
    let digest = Sha256::digest(form.as_bytes());
    (form.chars().count(), digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn the_ticket_schema_has_the_platforms_fingerprint() {
    assert_eq!(
        fingerprint(&WriterSchema::ticket()),
        (2665, "c86e60b315eb6b421a7312710752b74841a9a29918e635e5fa6592e31b896b1f".to_owned())
    );
}

#[test]
fn the_result_schema_has_the_platforms_fingerprint() {
    assert_eq!(
        fingerprint(&WriterSchema::result()),
        (775, "594f0047c54ea25b04583327aa988fa7e3f287a3ad0efda7e3142df4d1454b21".to_owned())
    );
}

#[test]
fn every_field_has_a_doc_string_and_times_carry_their_type_on_the_field() {
    for text in [TICKET_SCHEMA_JSON, RESULT_SCHEMA_JSON] {
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        for field in schema["fields"].as_array().unwrap() {
            assert!(field["doc"].as_str().is_some_and(|doc| doc.ends_with('.')), "{field}");
            let name = field["name"].as_str().unwrap();
            let is_time = name.ends_with("_at") || name == "timestamp";
            assert_eq!(field.get("logicalType").is_some(), is_time, "{name}");
        }
    }
}
