//! What a string stands for, given what is expected (`contracts/kafka.md §5.3`).

use serde_json::{Number, Value};

use crate::fields::integral_float;
use crate::python_literal::{MAX_LITERAL_BYTES, parse_python_literal};

/// Whether a top-level value means "parameter absent" (rule 5).
///
/// `null` as text counts too: it is what an encoder of nested values as JSON text makes of a null.
pub(super) fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "None" | "null"),
        _ => false,
    }
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The number a text spells. Python writes integral floats as `600.0`.
pub(super) fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    // `from_f64` refuses the infinities and NaN, which Rust's parser takes.
    text.parse().ok().and_then(Number::from_f64)
}

/// The number as an integer, if it is one.
pub(super) fn integral_number(number: &Number) -> Option<Number> {
    if number.is_f64() { number.as_f64().and_then(integral_float).map(Number::from) } else { Some(number.clone()) }
}

/// The array or object that a text holds: its JSON, else its Python literal. `None` when the text does not start like
/// one; `Some(None)` when it does and is neither.
#[must_use]
pub fn structured(text: &str) -> Option<Option<Value>> {
    let text = text.trim();
    if !text.starts_with(['[', '{', '(']) {
        return None;
    }
    if text.len() > MAX_LITERAL_BYTES {
        return Some(None);
    }
    let value = serde_json::from_str(text).ok().or_else(|| parse_python_literal(text).ok());
    // Parentheses around a scalar are no structure.
    Some(value.filter(|value: &Value| value.is_array() || value.is_object()))
}
