//! Reads typed fields out of a JSON object, with an error that names the field.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::DecodeErrorKind;
use crate::vocabulary::UnknownWord;

type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// Last millisecond of the year 9999. A later time is a corrupted one: Avro has no checksum.
pub(crate) const MAX_EPOCH_MS: i64 = 253_402_300_799_999;

/// Ten years. A longer duration is a corrupted one.
pub(crate) const MAX_DURATION_MS: i64 = 10 * 366 * 24 * 60 * 60 * 1000;

/// An object whose fields are being read; `prefix` is its path in the message.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix }
    }

    /// The value, unless it is absent or null: producers use both for "not set" (INC-39).
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, key: &'static str) -> Result<&'a Value> {
        self.get(key).ok_or(DecodeErrorKind::MissingField { field: key })
    }

    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn malformed(&self, key: &str, reason: impl Into<String>) -> DecodeErrorKind {
        DecodeErrorKind::malformed(self.path(key), reason)
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &Value) -> DecodeErrorKind {
        self.malformed(key, format!("expected {expected}, found {}", type_name(found)))
    }

    /// A string of any content.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.wrong_type(key, "a string", value))).transpose()
    }

    /// A string without control characters, of at most `max_chars` characters.
    ///
    /// Ids become headers, labels and database keys: a NUL or a line feed in one is an attack or a corruption.
    pub(crate) fn id(&self, key: &str, max_chars: usize) -> Result<Option<&'a str>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if text.chars().any(char::is_control) {
            return Err(self.malformed(key, "contains control characters"));
        }
        let chars = text.chars().count();
        if chars > max_chars {
            return Err(self.malformed(key, format!("has {chars} characters, more than {max_chars}")));
        }
        Ok(Some(text))
    }

    pub(crate) fn word<T: FromStr<Err = UnknownWord>>(&self, key: &str) -> Result<Option<T>> {
        self.text(key)?
            .map(|text| text.parse().map_err(|error: UnknownWord| self.malformed(key, error.to_string())))
            .transpose()
    }

    /// An integer within `range`; `what` says what the range means.
    pub(crate) fn integer(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = integral(value).ok_or_else(|| self.wrong_type(key, "an integer", value))?;
        if range.contains(&number) {
            Ok(Some(number))
        } else {
            Err(self.malformed(key, format!("{number} is not between {} and {}", range.start(), range.end())))
        }
    }

    pub(crate) fn small_integer(&self, key: &str, range: std::ops::RangeInclusive<i32>) -> Result<Option<i32>> {
        let wide = i64::from(*range.start())..=i64::from(*range.end());
        Ok(self.integer(key, wide)?.and_then(|number| i32::try_from(number).ok()))
    }

    /// Epoch milliseconds, after the epoch and before the year 10000.
    pub(crate) fn time(&self, key: &str) -> Result<Option<i64>> {
        self.integer(key, 1..=MAX_EPOCH_MS)
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.get(key).map(|value| value.as_object().ok_or_else(|| self.wrong_type(key, "an object", value))).transpose()
    }

    pub(crate) fn array(&self, key: &str) -> Result<Option<&'a Vec<Value>>> {
        self.get(key).map(|value| value.as_array().ok_or_else(|| self.wrong_type(key, "an array", value))).transpose()
    }

    /// An array of strings; absent is empty.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let items = self.array(key)?.map(Vec::as_slice).unwrap_or_default();
        items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                other => Err(self.wrong_type(key, "an array of strings", other)),
            })
            .collect()
    }

    /// A map of strings; absent is empty. Other values become their text, nulls are dropped.
    pub(crate) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let Some(object) = self.object(key)? else {
            return Ok(BTreeMap::new());
        };
        Ok(object.iter().filter_map(|(key, value)| Some((key.clone(), wire_text(value)?))).collect())
    }
}

/// The text of a value where the wire form carries only strings: scalars plainly, nested values as compact JSON, null
/// not at all (`contracts/kafka.md §6`, INC-10).
pub(crate) fn wire_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The integer a number stands for. Producers that compute in floats write `60000.0` (`contracts/kafka.md §5.1`).
pub(crate) fn integral(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().and_then(integral_float))
}

/// The integer a float stands for, where floats still tell neighbouring integers apart.
#[expect(clippy::cast_possible_truncation, reason = "the bound keeps the value within i64 and without fraction")]
pub(crate) fn integral_float(float: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
