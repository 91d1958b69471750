//! A deserialiser that coerces each value by the type that is asked for.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Expected, Unexpected, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use super::access::{Entries, Items, unit_variant};
use super::error::{ParameterError, text_found};
use super::text::{boolean, integral_number, number, structured};
use super::{MAX_PARAMETER_DEPTH, ParameterView};
use crate::shell_words::shell_words;

type Result<T> = std::result::Result<T, ParameterError>;

const COMMA_LIST: &str = "ticket_schemas::CommaList";
const STRUCTURED: &str = "ticket_schemas::Structured";

/// A list of simple words that may also be written `a, b, c` (`contracts/kafka.md §5.3`, rule 3).
///
/// A plain `Vec<String>` splits a text like a shell and leaves commas alone, because arguments contain them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CommaList(pub Vec<String>);

/// A value of any type, where a text that holds JSON or a Python literal of an array or object means its content.
///
/// A plain [`Value`] leaves texts alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Structured(pub Value);

macro_rules! marked_newtype {
    ($name:ident, $inner:ty, $mark:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                struct Inner;
                impl<'de> Visitor<'de> for Inner {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expecting)
                    }

                    fn visit_newtype_struct<D: Deserializer<'de>>(
                        self,
                        deserializer: D,
                    ) -> std::result::Result<$name, D::Error> {
                        <$inner>::deserialize(deserializer).map($name)
                    }
                }
                deserializer.deserialize_newtype_struct($mark, Inner)
            }
        }
    };
}

marked_newtype!(CommaList, Vec<String>, COMMA_LIST, "a list of words");
marked_newtype!(Structured, Value, STRUCTURED, "a value");

/// All parameters of a ticket: an object whose absent entries are left out.
pub(super) struct Root<'a>(pub(super) ParameterView<'a>);

impl<'de> Deserializer<'de> for Root<'_> {
    type Error = ParameterError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_map(Entries::new(self.0.iter().map(|(name, value)| (name.to_owned(), value.clone())), 1))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}

/// One value at some depth.
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) depth: usize,
}

impl Item {
    fn mismatch<T>(&self, expected: &dyn Expected) -> Result<T> {
        let found = match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => format!("boolean {flag}"),
            Value::Number(number) => format!("number {number}"),
            Value::String(text) => text_found(text),
            Value::Array(items) => format!("an array of {} items", items.len()),
            Value::Object(entries) => format!("an object of {} keys", entries.len()),
        };
        Err(ParameterError::invalid(expected, found))
    }

    fn deeper(&self) -> Result<usize> {
        if self.depth >= MAX_PARAMETER_DEPTH {
            return Err(serde::de::Error::custom(format_args!("nested deeper than {MAX_PARAMETER_DEPTH}")));
        }
        Ok(self.depth + 1)
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let found = match &self.value {
            Value::Number(number) => integral_number(number),
            Value::String(text) => number(text).and_then(|number| integral_number(&number)),
            _ => None,
        };
        match found.map(|number| (number.as_u64(), number.as_i64())) {
            Some((Some(number), _)) => visitor.visit_u64(number),
            Some((_, Some(number))) => visitor.visit_i64(number),
            _ => self.mismatch(&visitor),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let found = match &self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => number(text).and_then(|number| number.as_f64()),
            _ => None,
        };
        match found {
            Some(number) => visitor.visit_f64(number),
            None => self.mismatch(&visitor),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            Value::String(text) => visitor.visit_string(text),
            Value::Bool(flag) => visitor.visit_string(flag.to_string()),
            Value::Number(number) => visitor.visit_string(number.to_string()),
            _ => self.mismatch(&visitor),
        }
    }

    /// The items, if the value is an array or a text that stands for one.
    fn take_items(&mut self) -> Option<Vec<Value>> {
        match &mut self.value {
            Value::Array(items) => Some(std::mem::take(items)),
            Value::String(text) => match structured(text) {
                Some(Some(Value::Array(items))) => Some(items),
                Some(_) => None,
                None => Some(shell_words(text)?.into_iter().map(Value::String).collect()),
            },
            _ => None,
        }
    }

    /// The entries, if the value is an object or a text that stands for one.
    fn take_entries(&mut self) -> Option<Map<String, Value>> {
        match &mut self.value {
            Value::Object(entries) => Some(std::mem::take(entries)),
            Value::String(text) => match structured(text) {
                Some(Some(Value::Object(entries))) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    fn array<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        let depth = self.deeper()?;
        let Some(items) = self.take_items() else {
            return self.mismatch(&visitor);
        };
        let total = items.len();
        let mut items = Items::new(items, depth);
        let value = visitor.visit_seq(&mut items)?;
        items.finish(total)?;
        Ok(value)
    }

    /// What the marked newtypes see.
    fn marked(self, name: &str) -> Self {
        let value = match (name, self.value) {
            (COMMA_LIST, Value::String(text)) if structured(&text).is_none() => comma_separated(text),
            (STRUCTURED, Value::String(text)) => structured(&text).flatten().unwrap_or(Value::String(text)),
            (_, other) => other,
        };
        Self { value, ..self }
    }
}

fn comma_separated(text: String) -> Value {
    if text.contains(',') {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Value::from).collect()
    } else {
        Value::String(text)
    }
}

macro_rules! forward {
    ($($method:ident)+ => $target:ident) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.$target(visitor)
        }
    )+};
}

impl<'de> Deserializer<'de> for Item {
    type Error = ParameterError;

    forward!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 => integer);
    forward!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 => integer);
    forward!(deserialize_f32 deserialize_f64 => float);
    forward!(deserialize_char deserialize_str deserialize_string deserialize_identifier => text);
    forward!(deserialize_seq => array);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(_) => self.array(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Number(ref number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => self.mismatch(&visitor),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match &self.value {
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(text) => match boolean(text) {
                Some(flag) => visitor.visit_bool(flag),
                None => self.mismatch(&visitor),
            },
            _ => self.mismatch(&visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.value.is_null() { visitor.visit_unit() } else { self.mismatch(&visitor) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self.marked(name))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.array(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value> {
        self.array(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        let depth = self.deeper()?;
        match self.take_entries() {
            Some(entries) => visitor.visit_map(Entries::new(entries.into_iter(), depth)),
            None => self.mismatch(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let depth = self.deeper()?;
        match self.take_entries() {
            // A field that is null is absent, so that its default applies (rule 5).
            Some(entries) => {
                visitor.visit_map(Entries::new(entries.into_iter().filter(|(_, value)| !value.is_null()), depth))
            }
            None => self.mismatch(&visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let depth = self.deeper()?;
        if let Some(entries) = self.take_entries() {
            // Serde takes the first entry and ignores others.
            return visitor.visit_enum(MapAccessDeserializer::new(Entries::new(entries.into_iter(), depth)));
        }
        match self.value {
            Value::String(name) => visitor.visit_enum(unit_variant(name)),
            _ => self.mismatch(&"the name of a variant"),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            Value::String(text) => visitor.visit_byte_buf(text.into_bytes()),
            Value::Array(_) => self.array(visitor),
            _ => Err(serde::de::Error::invalid_type(Unexpected::Other("another type"), &visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}
