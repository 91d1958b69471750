//! What the targets share: the bound of memory, and what must hold of a decoded ticket and of an error.

use peak_alloc::PeakAlloc;
use ticket_schemas::{
    DecodeError, DecodeErrorKind, Ticket, WorkDigest, WriterSchema, decode_avro_ticket, decode_json_ticket,
    encode_avro_ticket, encode_json_ticket,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Inputs have a few KiB here. Avro may claim 4 MiB for one string, array or map, and a tree of JSON takes some eighty
/// times its text.
const BOUND: usize = 16 * 1024 * 1024;

/// Runs `work` and panics when it allocates more than the bound.
pub fn bounded<T>(work: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let used = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(used < BOUND, "{used} bytes for one input");
    result
}

/// A ticket has one digest and one meaning however it travels; an error has a code that is known, and a short text of
/// one line.
pub fn check(decoded: Result<Ticket, DecodeError>) {
    match decoded {
        Ok(ticket) => {
            assert_eq!(decode_json_ticket(&encode_json_ticket(&ticket)).as_ref(), Ok(&ticket));
            if let Ok(avro) = encode_avro_ticket(&ticket, 1) {
                let again = decode_avro_ticket(&avro[5..], &WriterSchema::ticket());
                let again = again.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(WorkDigest::of(&again), WorkDigest::of(&ticket));
            }
        }
        Err(error) => {
            assert!(DecodeErrorKind::CODES.contains(&error.code()), "{}", error.code());
            let text = error.to_string();
            assert!(text.chars().count() < 600 && !text.contains(char::is_control), "{text:?}");
            let _ = (error.ticket_id_hint(), error.task_type_hint(), error.original());
        }
    }
}
