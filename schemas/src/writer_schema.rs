//! Schemas that messages were written with, checked before anything is decoded with them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::schema::{Name, NamespaceRef};

use crate::error::SchemaError;
use crate::excerpt::truncate_bytes;

/// Text of the ticket schema, `com.neuralhivemind.orchestration.ExecutionTicket`.
pub const TICKET_SCHEMA_JSON: &str = include_str!("../execution-ticket/execution-ticket.avsc");

/// Text of the result schema, `neural.hive.execution.ExecutionResult`.
pub const RESULT_SCHEMA_JSON: &str = include_str!("../execution-result/execution-result.avsc");

/// Largest schema text taken, in bytes. The ticket schema has 8 KiB.
pub const MAX_SCHEMA_BYTES: usize = 1_048_576;

/// Most types a schema may expand to, references followed. The ticket schema has about 60.
const MAX_TYPES: usize = 4096;
/// Deepest nesting of types. Decoding recurses along it.
const MAX_DEPTH: usize = 32;
/// Longest text kept of a parser's message; it may quote the schema.
const MAX_REASON_BYTES: usize = 512;

static TICKET: LazyLock<WriterSchema> = LazyLock::new(|| local(TICKET_SCHEMA_JSON));
static RESULT: LazyLock<WriterSchema> = LazyLock::new(|| local(RESULT_SCHEMA_JSON));

#[expect(clippy::unwrap_used, reason = "the two texts are compiled in, and a test parses them")]
fn local(text: &str) -> WriterSchema {
    WriterSchema::parse(text).unwrap()
}

/// A schema from the registry, parsed and found safe to decode with. Cheap to clone.
#[derive(Clone)]
pub struct WriterSchema {
    schema: Arc<Schema>,
}

impl WriterSchema {
    /// Parses a schema.
    ///
    /// The library decodes recursively and without a limit, so a schema that refers to itself, or whose collections
    /// hold elements of no width, would let a short message exhaust stack or memory. Such schemas are refused here.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] when the text is too long, no schema, not a record, or unsafe to decode with.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge { bytes: text.len(), limit: MAX_SCHEMA_BYTES });
        }
        let schema = Schema::parse_str(text).map_err(|error| {
            let reason = error.to_string();
            SchemaError::Invalid { reason: truncate_bytes(&reason, MAX_REASON_BYTES).to_owned() }
        })?;
        if !matches!(schema, Schema::Record(_)) {
            return Err(SchemaError::NotARecord);
        }
        Walk::default().width(&schema, None, 0)?;
        Ok(Self { schema: Arc::new(schema) })
    }

    /// The local ticket schema.
    #[must_use]
    pub fn ticket() -> Self {
        TICKET.clone()
    }

    /// The local result schema.
    #[must_use]
    pub fn result() -> Self {
        RESULT.clone()
    }

    /// The Avro parsing canonical form. Schemas that decode alike have the same.
    #[must_use]
    pub fn canonical_form(&self) -> String {
        self.schema.canonical_form()
    }

    pub(crate) fn avro(&self) -> &Schema {
        &self.schema
    }
}

impl fmt::Debug for WriterSchema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.schema.name().map(|name| name.fullname(None));
        formatter.debug_struct("WriterSchema").field("name", &name).finish_non_exhaustive()
    }
}

/// Walks a schema the way decoding does, references followed, and computes the least number of bytes of each type.
#[derive(Default)]
struct Walk<'s> {
    types: usize,
    open: Vec<Name>,
    named: HashMap<Name, &'s Schema>,
}

impl<'s> Walk<'s> {
    fn width(&mut self, schema: &'s Schema, namespace: NamespaceRef<'_>, depth: usize) -> Result<usize, SchemaError> {
        self.types += 1;
        if self.types > MAX_TYPES || depth > MAX_DEPTH {
            return Err(SchemaError::TooComplex { limit: MAX_TYPES });
        }
        if let Some(name) = schema.name()
            && !matches!(schema, Schema::Ref { .. })
        {
            self.named.insert(name.fully_qualified_name(namespace).into_owned(), schema);
        }
        match schema {
            Schema::Null => Ok(0),
            Schema::Fixed(fixed) => Ok(fixed.size),
            Schema::Array(array) => self.elements(&array.items, namespace, depth),
            // A key takes its length at least.
            Schema::Map(map) => self.width(&map.types, namespace, depth + 1).map(|_| 1),
            Schema::Union(union) => {
                for variant in union.variants() {
                    self.width(variant, namespace, depth + 1)?;
                }
                Ok(1)
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace).into_owned();
                self.open.push(name.clone());
                let mut total = 0_usize;
                for field in &record.fields {
                    total = total.saturating_add(self.width(&field.schema, name.namespace(), depth + 1)?);
                }
                self.open.pop();
                Ok(total)
            }
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace).into_owned();
                if self.open.contains(&name) {
                    return Err(SchemaError::Recursive { name: name.fullname(None) });
                }
                match self.named.get(&name).copied() {
                    Some(target) => self.width(target, name.namespace(), depth + 1),
                    None => Err(SchemaError::Invalid { reason: format!("{} is not defined", name.fullname(None)) }),
                }
            }
            _ => Ok(1),
        }
    }

    fn elements(&mut self, items: &'s Schema, namespace: NamespaceRef<'_>, depth: usize) -> Result<usize, SchemaError> {
        match self.width(items, namespace, depth + 1)? {
            0 => Err(SchemaError::ZeroWidthElements),
            _ => Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_schemas_parse() {
        assert!(format!("{:?}", WriterSchema::ticket()).contains("ExecutionTicket"));
        assert!(format!("{:?}", WriterSchema::result()).contains("ExecutionResult"));
    }

    #[test]
    fn unsafe_schemas_are_refused() {
        let record = |fields: &str| format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#);
        let recursive = record(r#"{"name":"next","type":["null","R"]}"#);
        assert!(matches!(WriterSchema::parse(&recursive), Err(SchemaError::Recursive { .. })));
        let nulls = record(r#"{"name":"a","type":{"type":"array","items":"null"}}"#);
        assert_eq!(WriterSchema::parse(&nulls).unwrap_err(), SchemaError::ZeroWidthElements);
        let empty = record(r#"{"name":"a","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}}"#);
        assert_eq!(WriterSchema::parse(&empty).unwrap_err(), SchemaError::ZeroWidthElements);
        assert_eq!(WriterSchema::parse("\"string\"").unwrap_err(), SchemaError::NotARecord);
        assert!(matches!(WriterSchema::parse("{"), Err(SchemaError::Invalid { .. })));
        assert!(matches!(WriterSchema::parse(&" ".repeat(MAX_SCHEMA_BYTES + 1)), Err(SchemaError::TooLarge { .. })));
    }

    #[test]
    fn exponential_schemas_are_refused() {
        let mut fields = String::from(r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#);
        for level in 1..12 {
            let below = level - 1;
            let inner: Vec<_> = (0..8).map(|n| format!(r#"{{"name":"g{n}","type":"R{below}"}}"#)).collect();
            let inner = inner.join(",");
            fields +=
                &format!(r#",{{"name":"f{level}","type":{{"type":"record","name":"R{level}","fields":[{inner}]}}}}"#);
        }
        let schema = format!(r#"{{"type":"record","name":"Top","fields":[{fields}]}}"#);
        assert!(matches!(WriterSchema::parse(&schema), Err(SchemaError::TooComplex { .. })));
    }

    #[test]
    fn a_reference_that_does_not_recurse_is_fine() {
        let schema = r#"{"type":"record","name":"R","namespace":"n","fields":[
            {"name":"a","type":{"type":"enum","name":"E","symbols":["X"]}},{"name":"b","type":"E"}]}"#;
        assert!(WriterSchema::parse(schema).is_ok());
    }
}
