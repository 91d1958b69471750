//! Damaged records by the hundred thousand: each is a ticket or has a stable code, none panics, none allocates much.
//!
//! One test in a binary of its own: the allocator counts for the whole process. `MUTATIONS` says how many
//! (`make mutate` takes a million); the same number damages the same records in the same way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::BTreeMap;

use peak_alloc::PeakAlloc;
use ticket_schemas::*;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Samples have a few KiB. Avro may claim [`MAX_AVRO_ALLOCATION_BYTES`] for one string, array or map.
const BOUND: usize = 16 * 1024 * 1024;

/// Chance that is the same at every run (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// Samples of both encodings, tickets for the most part.
fn samples() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (_, value) in common::vectors() {
        all.push(value);
    }
    for folder in ["tickets", "tickets-json-native"] {
        for (_, text) in common::files(folder, "json") {
            if let Ok(value) = decode_json_ticket(&text).map(|ticket| encode_avro_ticket(&ticket, 1)) {
                all.extend(value.ok());
            }
            all.push(text);
        }
    }
    all
}

const TOKENS: [&[u8]; 14] = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"\"\"",
    b"[]",
    b"{}",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"99999999999999999999",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x10",
];

fn damaged(samples: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = samples[chance.below(samples.len())].clone();
    // Half of them have one bit wrong and no more: those come closest to passing.
    if chance.below(2) == 0 {
        let at = chance.below(bytes.len());
        bytes[at] ^= 1 << chance.below(8);
        return bytes;
    }
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len());
        match chance.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
            1 | 2 if !bytes.is_empty() => bytes[at] = chance.next().to_le_bytes()[0],
            3 => bytes.truncate(at),
            4 => {
                let other = &samples[chance.below(samples.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[chance.below(other.len())..]);
            }
            5 => {
                let token = TOKENS[chance.below(TOKENS.len())];
                let end = (at + chance.below(token.len() + 2)).min(bytes.len());
                bytes.splice(at..end, token.iter().copied());
            }
            6 => {
                let end = (at + chance.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + chance.below(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Does what the bridge does with a record.
fn decode(value: &[u8], writer: &WriterSchema) -> Result<Ticket, DecodeError> {
    match Frame::detect(Some(value))? {
        Frame::Json(text) => decode_json_ticket(text),
        Frame::Avro { body, .. } => decode_avro_ticket(body, writer),
    }
}

/// How many records are damaged.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says how long it may take")]
fn mutations() -> u64 {
    std::env::var("MUTATIONS").map_or(50_000, |text| text.parse().expect("MUTATIONS is a number"))
}

#[test]
fn every_damaged_record_is_a_ticket_or_has_a_stable_code() {
    let count = mutations();
    let (samples, writer) = (samples(), WriterSchema::ticket());
    let originals: Vec<Option<WorkDigest>> =
        samples.iter().map(|value| decode(value, &writer).ok().map(|ticket| WorkDigest::of(&ticket))).collect();
    let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut largest = 0;
    for number in 0..count {
        let mut chance = Chance(number);
        let value = damaged(&samples, &mut chance);
        let encoding = if value.first() == Some(&0) { "avro" } else { "json" };
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let decoded = decode(&value, &writer);
        let used = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(used < BOUND, "mutation {number}: {used} bytes for a record of {}", value.len());
        largest = largest.max(used);
        let became = match &decoded {
            Ok(ticket) => {
                // What passes is what the contract allows, not just what the schema does.
                let again = decode_json_ticket(&encode_json_ticket(ticket));
                assert_eq!(again.as_ref(), Ok(ticket), "mutation {number}");
                let digest = WorkDigest::of(ticket);
                if originals.contains(&Some(digest)) { "a ticket of the same work" } else { "another ticket" }
            }
            Err(error) => {
                let code = error.code();
                assert!(DecodeErrorKind::CODES.contains(&code), "mutation {number}: {code}");
                let text = error.to_string();
                assert!(text.chars().count() < 600 && !text.contains(char::is_control), "mutation {number}: {text:?}");
                code
            }
        };
        *totals.entry((encoding, became)).or_default() += 1;
    }
    println!("{count} damaged records, at most {largest} bytes allocated for one:");
    for ((encoding, became), total) in &totals {
        println!("  {encoding} {became}: {total}");
    }
    let refused_by_meaning: u64 =
        ["malformed_field", "invalid_ticket_id"].iter().filter_map(|code| totals.get(&("avro", *code))).sum();
    assert!(refused_by_meaning > count / 200, "Avro that fits its schema is checked for its meaning, too");
}
