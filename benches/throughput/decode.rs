//! Decoding on one thread: frame, ticket, work digest. The bare loop parses the same bytes with the same libraries into
//! untyped values and does not look at them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::Value;
use ticket_schemas::{
    Frame, TICKET_SCHEMA_JSON, WorkDigest, WriterSchema, decode_avro_ticket, decode_json_ticket, encode_avro_ticket,
    encode_json_ticket,
};

use crate::load::ticket;

/// Length of one run.
const RUN: Duration = Duration::from_millis(500);
/// Of the Avro frame: magic byte and schema id.
const FRAME: usize = 5;

/// One ticket in both encodings, and the schemas.
pub(crate) struct Samples {
    avro: Vec<u8>,
    json: Vec<u8>,
    writer: WriterSchema,
    schema: Schema,
}

impl Samples {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ticket = ticket(0)?;
        Ok(Self {
            avro: encode_avro_ticket(&ticket, 1)?,
            json: encode_json_ticket(&ticket),
            writer: WriterSchema::parse(TICKET_SCHEMA_JSON)?,
            schema: Schema::parse_str(TICKET_SCHEMA_JSON)?,
        })
    }

    pub(crate) fn avro_bytes(&self) -> usize {
        self.avro.len()
    }

    pub(crate) fn json_bytes(&self) -> usize {
        self.json.len()
    }

    /// Tickets a second, Avro and JSON in turn.
    pub(crate) fn ours(&self) -> anyhow::Result<f64> {
        per_second(|| {
            black_box(self.ours_of(&self.avro)?);
            black_box(self.ours_of(&self.json)?);
            Ok(())
        })
    }

    /// Values a second, Avro and JSON in turn.
    pub(crate) fn bare(&self) -> anyhow::Result<f64> {
        let reader = GenericDatumReader::builder(&self.schema).build()?;
        per_second(|| {
            black_box(reader.read_value(&mut self.avro.get(FRAME..).context("no frame")?)?);
            black_box(serde_json::from_slice::<Value>(&self.json)?);
            Ok(())
        })
    }

    fn ours_of(&self, value: &[u8]) -> anyhow::Result<WorkDigest> {
        let ticket = match Frame::detect(Some(black_box(value)))? {
            Frame::Avro { body, .. } => decode_avro_ticket(body, &self.writer)?,
            Frame::Json(text) => decode_json_ticket(text)?,
        };
        Ok(WorkDigest::of(&ticket))
    }
}

/// Runs `pair`, which handles two tickets.
fn per_second(mut pair: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let clock = Instant::now();
    let mut handled = 0_u32;
    while clock.elapsed() < RUN {
        for _ in 0..100 {
            pair()?;
            handled += 2;
        }
    }
    Ok(f64::from(handled) / clock.elapsed().as_secs_f64())
}
