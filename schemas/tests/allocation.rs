//! What a message can make the decoders allocate.
//!
//! One test in a binary of its own: the allocator counts for the whole process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use peak_alloc::PeakAlloc;
use ticket_schemas::*;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// No decode of Avro may allocate more than this beyond what was in use, whatever the message claims or holds.
const BOUND: usize = 16 * 1024 * 1024;

/// JSON claims no lengths, but a tree takes more room than its text: an object of one key has 640 bytes where the text
/// has 8.
const JSON_BOUND: usize = 128 * 1024 * 1024;

fn assert_bounded(what: &str, decode: impl FnOnce()) {
    assert_below(BOUND, what, decode);
}

fn assert_below(bound: usize, what: &str, decode: impl FnOnce()) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    decode();
    let used = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(used < bound, "{what}: {used} bytes");
}

fn varint(number: i64) -> Vec<u8> {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    let mut out = Vec::new();
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

#[test]
fn decoding_stays_within_the_bound() {
    let ticket = WriterSchema::ticket();
    let result = WriterSchema::result();
    let claims = [1 << 20, 4 << 20, (4 << 20) + 1, 1 << 29, 1 << 40, i64::MAX, i64::MIN, -1, -(1 << 20), -(1 << 40)];

    // Every place of a ticket and a result claims every length.
    for (name, value) in
        common::vectors().into_iter().filter(|(name, _)| name.contains("minimal") || name.contains("empty"))
    {
        for at in 5..value.len() {
            for claim in claims {
                let mut body = value[5..at].to_vec();
                body.extend(varint(claim));
                body.extend(&value[at + 1..]);
                assert_bounded(&format!("{name} at {at} claims {claim}"), || {
                    let _ = decode_avro_ticket(&body, &ticket);
                    let _ = decode_avro_result(&body, &result);
                });
            }
        }
    }

    // Honest messages of the full size, made of as many entries as fit.
    let head = common::vector("ticket-execute-empty-parameters");
    let parsed = decode_avro_ticket(&head[5..], &ticket).unwrap();
    for entries in [10_000, 60_000, 74_000, 150_000] {
        let mut many = parsed.clone();
        many.required_capabilities = vec![String::new(); entries];
        let capabilities = encode_avro_ticket(&many, 1).unwrap();
        let mut many = parsed.clone();
        many.metadata = (0..entries).map(|n| (format!("{n:x}"), String::new())).collect();
        let metadata = encode_avro_ticket(&many, 1).unwrap();
        let mut many = parsed.clone();
        many.dependencies = (0..entries.min(MAX_DEPENDENCIES + 1)).map(|n| format!("{n:x}").parse().unwrap()).collect();
        let dependencies = encode_avro_ticket(&many, 1).unwrap();
        let json = encode_json_ticket(&many);
        for value in [capabilities, metadata, dependencies] {
            let body = &value[5..value.len().min(MAX_VALUE_BYTES)];
            assert_bounded(&format!("{entries} entries"), || {
                let _ = decode_avro_ticket(body, &ticket);
            });
        }
        assert_bounded(&format!("{entries} entries as json"), || {
            let _ = decode_json_ticket(&json);
        });
    }

    // Schemas that would let a short message claim a lot are refused before anything is decoded with them; an array of
    // one-byte records is not, and stays within the bound.
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":
        {"type":"record","name":"E","fields":[{"name":"b","type":"boolean"}]}}}]}"#;
    let schema = WriterSchema::parse(schema).unwrap();
    for count in [1_000, 70_000, 1_000_000, 1 << 40] {
        let mut body = varint(count);
        body.resize(body.len() + usize::try_from(count).unwrap().min(70_000), 1);
        assert_bounded(&format!("{count} records"), || {
            let _ = decode_avro_ticket(&body, &schema);
        });
    }

    for (item, name) in [("0", "numbers"), ("[]", "arrays"), ("{\"\":0}", "objects"), ("\"\"", "strings")] {
        let items = vec![item; (MAX_VALUE_BYTES - 200) / (item.len() + 1)].join(",");
        let text = format!(
            r#"{{"ticket_id":"t","task_id":"t","task_type":"TEST","status":"PENDING","dependencies":[],"parameters":{{"a":[{items}]}}}}"#
        );
        assert_below(JSON_BOUND, name, || {
            assert!(decode_json_ticket(text.as_bytes()).is_ok());
        });
    }
}
