//! Whether one schema reads what was written with another, by Avro's rules of resolution.

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use crate::excerpt::truncate_bytes;
use crate::writer_schema::WriterSchema;

/// Longest reason kept, in bytes; it may quote a schema.
const MAX_REASON_BYTES: usize = 512;

/// How much of what one schema writes another reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// Everything.
    Always,
    /// Not all values: an enum or a union has more of them than the reader knows.
    Sometimes,
    /// Nothing, for this reason.
    Never(String),
}

impl WriterSchema {
    /// How much of what `writer` writes a reader with this schema reads.
    #[must_use]
    pub fn reads(&self, writer: &Self) -> Readable {
        match SchemaCompatibility::can_read(writer.avro(), self.avro()) {
            Ok(Compatibility::Full) => Readable::Always,
            Ok(Compatibility::Partial) => Readable::Sometimes,
            Err(error) => Readable::Never(truncate_bytes(&error.to_string(), MAX_REASON_BYTES).to_owned()),
        }
    }
}
