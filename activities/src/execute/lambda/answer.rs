//! What a function's answer says of the command that it was given (`contracts/executors.md`, EXECUTE, Lambda).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::api::Reply;
use crate::external::said;

/// The fields by which an object is known for an answer of the contract. Any other JSON is output.
const FIELDS: [&str; 8] = ["exit_code", "exitCode", "stdout", "output", "stderr", "error", "errorMessage", "errorType"];

/// How a command went, as its function tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    /// An error: why it is not known.
    pub(super) exit_code: Result<i64, String>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// What went wrong, where that is said: its kind and its words, in one bounded line.
    pub(super) error: Option<String>,
}

impl Reported {
    pub(super) fn of(reply: &Reply) -> Self {
        let mut reported = match serde_json::from_slice(&reply.payload) {
            Ok(Value::Object(fields)) if FIELDS.iter().any(|name| fields.contains_key(*name)) => {
                Self::of_fields(&fields)
            }
            Ok(Value::String(text)) => Self::of_output(text),
            // A function that returns nothing.
            Ok(Value::Null) => Self::of_output(String::new()),
            // It may say that the command failed: cut off, or with what JSON does not have, such as `NaN` or half a surrogate pair.
            Err(error) if begins_an_object(&reply.payload) => {
                let exit_code = Err(format!("JSON that cannot be read ({error})"));
                Self { exit_code, ..Self::of_output(lossy(&reply.payload)) }
            }
            Ok(_) | Err(_) => Self::of_output(lossy(&reply.payload)),
        };
        // Whatever the function says of itself, Lambda says that it failed.
        if reply.function_error.is_some() && reported.exit_code == Ok(0) {
            reported.exit_code = Ok(1);
        }
        reported
    }

    fn of_output(stdout: String) -> Self {
        Self { exit_code: Ok(0), stdout, stderr: String::new(), error: None }
    }

    fn of_fields(fields: &Map<String, Value>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
        let text = |names: &[&str]| first(names).map_or(Cow::Borrowed(""), as_text);
        let words =
            ["error", "errorMessage"].iter().find_map(|name| fields.get(*name).filter(|value| !is_nothing(value)));
        let (kind, words) = (text(&["errorType"]), words.map_or(Cow::Borrowed(""), as_text));
        let error = match (&*kind, &*words) {
            ("", "") => None,
            ("", words) => Some(said(words)),
            (kind, words) => Some(said(&format!("{kind}: {words}"))),
        };
        let exit_code = match first(&["exit_code", "exitCode"]) {
            Some(code) => {
                whole(code).ok_or_else(|| format!("an exit code that is no number: {}", said(&code.to_string())))
            }
            // One that tells of an error and of no exit code has not shown that anything went well.
            None => Ok(i64::from(error.is_some())),
        };
        let stderr = Some(text(&["stderr"])).filter(|text| !text.is_empty()).unwrap_or(words);
        Self { exit_code, stdout: text(&["stdout", "output"]).into_owned(), stderr: stderr.into_owned(), error }
    }
}

fn lossy(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

/// Whether a payload is meant for an object, after blanks and the mark that some writers begin with.
fn begins_an_object(payload: &[u8]) -> bool {
    let payload = payload.strip_prefix("\u{feff}".as_bytes()).unwrap_or(payload);
    payload.trim_ascii_start().starts_with(b"{")
}

/// Whether a value tells of no error: functions that went well say `false` too, or an empty list.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

/// A text as it is; anything else as JSON.
fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(payload: &[u8], function_error: Option<&str>) -> Reply {
        Reply {
            request_id: "471d6d5b-4b4e-5fdb-bc09-be992c618ef2".to_owned(),
            status: 200,
            function_error: function_error.map(str::to_owned),
            payload: payload.to_vec(),
            tail: String::new(),
        }
    }

    fn reported(payload: &Value) -> Reported {
        Reported::of(&reply(payload.to_string().as_bytes(), None))
    }

    #[test]
    fn the_contracts_answer_is_read_under_both_of_its_names() {
        let sample = include_bytes!("../../../../tests/samples/http/lambda/response.json");
        let of_sample = Reported::of(&reply(sample, None));
        assert_eq!(of_sample, Reported::of_output("hello world\n".to_owned()));
        let other = reported(&json!({ "exitCode": "3", "output": { "a": 1 }, "stderr": "bad\n", "error": null }));
        let expected =
            Reported { exit_code: Ok(3), stdout: "{\"a\":1}".to_owned(), stderr: "bad\n".to_owned(), error: None };
        assert_eq!(other, expected);
    }

    #[test]
    fn anything_else_is_output_of_a_command_that_went_well() {
        for (payload, stdout) in [
            (&b"plain text\n"[..], "plain text\n"),
            (b"", ""),
            (b"null", ""),
            (b"\"a\\nb\"", "a\nb"),
            (b"[1,2]", "[1,2]"),
            (b"{\"statusCode\":200}", "{\"statusCode\":200}"),
            (b"[INFO] done", "[INFO] done"),
            (b"\"half", "\"half"),
            (b"\xff", "\u{fffd}"),
        ] {
            assert_eq!(Reported::of(&reply(payload, None)), Reported::of_output(stdout.to_owned()), "{stdout}");
        }
    }

    #[test]
    fn inc_54_an_error_or_an_exit_code_that_cannot_be_read_is_no_success() {
        for (payload, expected) in [
            (json!({ "error": "boom" }), Ok(1)),
            (json!({ "errorMessage": "boom", "exit_code": null }), Ok(1)),
            (json!({ "error": "only a warning", "exit_code": 0 }), Ok(0)),
            (json!({ "error": { "code": 7 } }), Ok(1)),
            (json!({ "error": true }), Ok(1)),
            (json!({ "exit_code": 1.5 }), Err("an exit code that is no number: 1.5".to_owned())),
            (json!({ "exit_code": "none" }), Err("an exit code that is no number: \"none\"".to_owned())),
            (json!({ "exit_code": true }), Err("an exit code that is no number: true".to_owned())),
        ] {
            assert_eq!(reported(&payload).exit_code, expected, "{payload}");
        }
        for nothing in [json!(null), json!(false), json!(""), json!([]), json!({})] {
            let fine = reported(&json!({ "stdout": "ok", "error": nothing }));
            assert_eq!(fine, Reported::of_output("ok".to_owned()), "{nothing} tells of no error");
        }
        assert_eq!(reported(&json!({ "error": "boom" })).stderr, "boom", "it stands where nothing else does");
    }

    #[test]
    fn inc_54_an_object_that_cannot_be_read_is_no_success() {
        let deep = format!("{{\"exit_code\":1,\"stdout\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for payload in [
            "{\"exit_code\":",
            "{",
            " \r\n{\"exit_code\":1,\"stdout\":\"\\udcff\"}",
            "\u{feff}{\"exit_code\":1}",
            "{\"exit_code\":1,\"ratio\":NaN}",
            "{\"exit_code\":1,\"ratio\":1e999}",
            "{\"exit_code\":1}}",
            &deep,
        ] {
            let read = Reported::of(&reply(payload.as_bytes(), None));
            assert!(read.exit_code.as_ref().is_err_and(|why| why.contains("cannot be read")), "{payload}: {read:?}");
            assert_eq!(read.stdout, payload, "it is kept");
        }
        let torn = Reported::of(&reply(b"{\"exit_code\":1,\"stdout\":\"\xff\"}", None));
        assert!(torn.exit_code.is_err(), "{torn:?}");
    }

    #[test]
    fn a_function_error_is_a_failure_whatever_the_payload_says() {
        let payload = json!({ "errorMessage": "name\n'x'", "errorType": "NameError", "stackTrace": ["a"] });
        let failed = Reported::of(&reply(payload.to_string().as_bytes(), Some("Unhandled")));
        assert_eq!((failed.exit_code, failed.error.as_deref()), (Ok(1), Some("NameError: name 'x'")));
        assert_eq!(failed.stderr, "name\n'x'");
        for (payload, code) in [(json!({ "exit_code": 0 }), 1), (json!({ "exit_code": 7 }), 7), (json!("text"), 1)] {
            let failed = Reported::of(&reply(payload.to_string().as_bytes(), Some("Handled")));
            assert_eq!(failed.exit_code, Ok(code), "{payload}");
        }
    }
}
