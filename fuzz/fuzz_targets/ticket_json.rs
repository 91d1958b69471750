//! A JSON record, as the bridge reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ticket_fuzz::{bounded, check};
use ticket_schemas::{decode_json_result, decode_json_ticket};

fuzz_target!(|data: &[u8]| {
    check(bounded(|| decode_json_ticket(data)));
    let _ = bounded(|| decode_json_result(data));
});
