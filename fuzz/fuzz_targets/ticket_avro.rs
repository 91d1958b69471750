//! A framed Avro record, as the bridge reads it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ticket_fuzz::{bounded, check};
use ticket_schemas::{Frame, WriterSchema, decode_avro_result, decode_avro_ticket};

static TICKET: LazyLock<WriterSchema> = LazyLock::new(WriterSchema::ticket);
static RESULT: LazyLock<WriterSchema> = LazyLock::new(WriterSchema::result);

fuzz_target!(|data: &[u8]| {
    let Ok(Frame::Avro { body, .. }) = Frame::detect(Some(data)) else { return };
    check(bounded(|| decode_avro_ticket(body, &TICKET)));
    // A schema id that belongs to something else.
    check(bounded(|| decode_avro_ticket(body, &RESULT)));
    let _ = bounded(|| decode_avro_result(body, &RESULT));
});
