//! The Confluent frame and the rule that tells Avro from JSON (`contracts/kafka.md §4`).

use crate::error::{DecodeError, DecodeErrorKind};

/// Largest value taken, in bytes: `max.message.bytes` of `execution.tickets` (`contracts/kafka.md §1`).
pub const MAX_VALUE_BYTES: usize = 1_048_576;

/// First byte of the frame.
const MAGIC: u8 = 0x00;
/// Magic byte and schema id.
const HEADER_BYTES: usize = 5;

/// A record value, told apart by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A framed Avro datum.
    Avro {
        /// Id of the writer's schema in the registry.
        schema_id: u32,
        /// The datum.
        body: &'a [u8],
    },
    /// Anything else; must be JSON text.
    Json(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Applies the detection rule of `contracts/kafka.md §4.1`: longer than five bytes and first byte `0x00`.
    ///
    /// # Errors
    ///
    /// `tombstone` for a null value, `oversized` over [`MAX_VALUE_BYTES`].
    pub fn detect(value: Option<&'a [u8]>) -> Result<Self, DecodeError> {
        let value = value.ok_or(DecodeErrorKind::Tombstone)?;
        check_size(value)?;
        match value.split_first_chunk::<HEADER_BYTES>() {
            Some(([MAGIC, id @ ..], body)) if !body.is_empty() => {
                Ok(Self::Avro { schema_id: u32::from_be_bytes(*id), body })
            }
            _ => Ok(Self::Json(value)),
        }
    }
}

pub(crate) fn check_size(value: &[u8]) -> Result<(), DecodeErrorKind> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(DecodeErrorKind::Oversized { bytes: value.len(), limit: MAX_VALUE_BYTES });
    }
    Ok(())
}

/// A buffer that starts with the frame's header.
pub(crate) fn framed(schema_id: u32) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(1024);
    buffer.push(MAGIC);
    buffer.extend_from_slice(&schema_id.to_be_bytes());
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detection_rule() {
        assert_eq!(Frame::detect(Some(&[0, 0, 1, 0, 2, 9])).unwrap(), Frame::Avro { schema_id: 65_538, body: &[9] });
        for json in [&b"{}"[..], b"", b"\0\0\0\0\x01", b"\x01\0\0\0\x01abc"] {
            assert_eq!(Frame::detect(Some(json)).unwrap(), Frame::Json(json));
        }
        assert_eq!(Frame::detect(None).unwrap_err().code(), "tombstone");
        assert_eq!(Frame::detect(Some(&vec![b' '; MAX_VALUE_BYTES + 1])).unwrap_err().code(), "oversized");
        assert!(Frame::detect(Some(&vec![b' '; MAX_VALUE_BYTES])).is_ok());
    }
}
