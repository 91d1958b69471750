//! One form for values that mean the same, whatever transport brought them. The work digest is computed over it.

use serde_json::{Number, Value};

use super::text::{integral_number, is_absent, structured};

/// The canonical form of a parameter's value; `None` when the parameter counts as absent.
///
/// A top-level string becomes the value it spells when it is JSON or a Python literal of a boolean, number, array or
/// object. A number must be spelled as a serialiser writes it: `"1.10"` and `"007"` stay strings, so a version or a
/// code with significant zeros is never merged with another. Integer-valued floats become integers, also inside
/// arrays and objects; strings inside them stay strings.
#[must_use]
pub fn canonical(value: &Value) -> Option<Value> {
    if is_absent(value) {
        return None;
    }
    Some(match value {
        Value::String(text) => spelled(text).map_or_else(|| value.clone(), normalised),
        other => normalised(other.clone()),
    })
}

fn spelled(text: &str) -> Option<Value> {
    match text.trim() {
        "True" | "true" => return Some(Value::Bool(true)),
        "False" | "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    if let Some(structured) = structured(text) {
        return structured;
    }
    let number: Number = serde_json::from_str(text).ok()?;
    (plain_exponent(&number.to_string()) == plain_exponent(text)).then_some(Value::Number(number))
}

/// The spelling with the shortest exponent: serialisers differ between `1e+22` and `1e22`, `1e-07` and `1e-7`.
fn plain_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    format!("{mantissa}e{sign}{}", digits.trim_start_matches('0'))
}

fn normalised(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(integral_number(&number).unwrap_or(number)),
        Value::Array(items) => Value::Array(items.into_iter().map(normalised).collect()),
        Value::Object(entries) => {
            Value::Object(entries.into_iter().map(|(key, value)| (key, normalised(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_mean_the_same_have_one_form() {
        let same: [(Value, &[Value]); 8] = [
            (json!(100), &[json!("100"), json!(100.0), json!("100.0")]),
            (json!(1.5), &[json!("1.5")]),
            (json!(1e22), &[json!("1e+22"), json!("1e22")]),
            (json!(1e-7), &[json!("1e-07"), json!("1e-7")]),
            (json!(true), &[json!("True"), json!("true")]),
            (json!(["a", 1]), &[json!("['a', 1]"), json!("[\"a\",1.0]"), json!("('a', 1)")]),
            (json!({"a": null, "b": [true]}), &[json!("{'b': [True], 'a': None}"), json!("{\"a\":null,\"b\":[true]}")]),
            (json!([]), &[json!("[]"), json!(" [ ] ")]),
        ];
        for (native, spellings) in same {
            let expected = canonical(&native);
            assert!(expected.is_some());
            for spelling in spellings {
                assert_eq!(canonical(spelling), expected, "{spelling}");
            }
        }
    }

    #[test]
    fn absent_values_have_none() {
        for absent in [json!(null), json!("None"), json!("null")] {
            assert_eq!(canonical(&absent), None);
        }
    }

    #[test]
    fn other_strings_stay_as_they_are() {
        for text in
            ["", "1.10", "007", "1e3", "+1", " 1", "1_000", "NaN", "TRUE", "'a'", "[ -f x ] && y", "(1)", "{{ x }}"]
        {
            assert_eq!(canonical(&json!(text)), Some(json!(text)), "{text}");
        }
        assert_eq!(canonical(&json!(["1", "None", "[]"])), Some(json!(["1", "None", "[]"])));
    }
}
