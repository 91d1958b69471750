//! Reads and writes one Avro datum, within a stated bound of memory.

use std::io::Read;
use std::sync::Once;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as AvroValue;
use apache_avro::util::max_allocation_bytes;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::DecodeErrorKind;
use crate::excerpt::truncate_bytes;
use crate::framing::framed;
use crate::writer_schema::WriterSchema;

/// Most bytes that one string, array or map of a message may make the decoder allocate.
///
/// Avro lengths are claims: a corrupted one may ask for gigabytes. The library's own limit is 512 MiB. Four times the
/// largest message is enough for an honest one (an array element takes 56 bytes in memory, so about 75,000 elements).
/// The library keeps the limit in one setting for the process.
pub const MAX_AVRO_ALLOCATION_BYTES: usize = 4 * 1024 * 1024;

/// Longest text kept of a decoder's message; it may quote content.
const MAX_REASON_BYTES: usize = 256;

fn limit_allocations() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        max_allocation_bytes(MAX_AVRO_ALLOCATION_BYTES);
    });
}

/// Decodes `body` with the writer's schema into the JSON object it stands for.
///
/// Both encodings then go through one reader of fields, which also does what Avro calls resolution: fields this
/// version does not know are ignored, fields the writer does not know get the contract's defaults.
pub(crate) fn read(body: &[u8], writer: &WriterSchema) -> Result<Map<String, Value>, DecodeErrorKind> {
    limit_allocations();
    let failed = |error: apache_avro::Error| DecodeErrorKind::AvroDecodeFailed { reason: reason(&error) };
    let mut input = Input { rest: body, starved: false };
    let value =
        GenericDatumReader::builder(writer.avro()).build().map_err(failed)?.read_value(&mut input).map_err(failed)?;
    if input.starved {
        return Err(DecodeErrorKind::AvroDecodeFailed { reason: "the body ends early".to_owned() });
    }
    if !input.rest.is_empty() {
        return Err(DecodeErrorKind::AvroTrailingBytes { bytes: input.rest.len() });
    }
    match json(value) {
        Value::Object(object) => Ok(object),
        _ => Err(DecodeErrorKind::UnusableSchema { reason: "not a record".to_owned() }),
    }
}

/// Writes the frame and `record` with `schema`. Maps are sorted, so equal records have equal bytes.
pub(crate) fn write(schema_id: u32, schema: &WriterSchema, record: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut buffer = framed(schema_id);
    GenericDatumWriter::builder(schema.avro())
        .build()
        .and_then(|writer| writer.write_ser(&mut buffer, record))
        .map_err(|error| reason(&error))?;
    Ok(buffer)
}

fn reason(error: &apache_avro::Error) -> String {
    let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    truncate_bytes(&text, MAX_REASON_BYTES).to_owned()
}

/// The body as a stream that remembers whether more was asked for than there was.
///
/// The library reads a string, boolean or union at the end of input as null instead of failing.
struct Input<'a> {
    rest: &'a [u8],
    starved: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.rest.read(buffer)?;
        self.starved |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// The JSON value that an Avro value stands for.
///
/// Types that no field of the contract has become null: they can occur only in fields that are ignored.
fn json(value: AvroValue) -> Value {
    match value {
        AvroValue::Boolean(flag) => Value::Bool(flag),
        AvroValue::Int(number) | AvroValue::Date(number) | AvroValue::TimeMillis(number) => number.into(),
        AvroValue::Long(number)
        | AvroValue::TimeMicros(number)
        | AvroValue::TimestampMillis(number)
        | AvroValue::TimestampMicros(number)
        | AvroValue::TimestampNanos(number)
        | AvroValue::LocalTimestampMillis(number)
        | AvroValue::LocalTimestampMicros(number)
        | AvroValue::LocalTimestampNanos(number) => number.into(),
        AvroValue::Float(number) => Value::from(f64::from(number)),
        AvroValue::Double(number) => Value::from(number),
        AvroValue::String(text) | AvroValue::Enum(_, text) => Value::String(text),
        // Avro promotes bytes to string where the reader expects one.
        AvroValue::Bytes(bytes) => String::from_utf8(bytes).map_or(Value::Null, Value::String),
        AvroValue::Uuid(id) => Value::String(id.to_string()),
        AvroValue::Union(_, inner) => json(*inner),
        AvroValue::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        AvroValue::Map(entries) => Value::Object(entries.into_iter().map(|(key, value)| (key, json(value))).collect()),
        AvroValue::Record(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, json(value))).collect()),
        _ => Value::Null,
    }
}
