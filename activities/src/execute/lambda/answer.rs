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
    /// An error: what stands there, which is no number.
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
            Ok(_) | Err(_) => Self::of_output(String::from_utf8_lossy(&reply.payload).into_owned()),
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
        let text = |names: &[&str]| first(names).map_or(Cow::Borrowed(""), text);
        let (kind, words) = (text(&["errorType"]), text(&["error", "errorMessage"]));
        let error = match (&*kind, &*words) {
            ("", "") => None,
            ("", words) => Some(said(words)),
            (kind, words) => Some(said(&format!("{kind}: {words}"))),
        };
        let exit_code = match first(&["exit_code", "exitCode"]) {
            Some(code) => whole(code).ok_or_else(|| said(&code.to_string())),
            // One that tells of an error and of no exit code has not shown that anything went well.
            None => Ok(i64::from(error.is_some())),
        };
        let stderr = Some(text(&["stderr"])).filter(|text| !text.is_empty()).unwrap_or(words);
        Self { exit_code, stdout: text(&["stdout", "output"]).into_owned(), stderr: stderr.into_owned(), error }
    }
}

/// A text as it is; anything else as JSON.
fn text(value: &Value) -> Cow<'_, str> {
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
            (b"{\"exit_code\":", "{\"exit_code\":"),
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
            (json!({ "exit_code": 1.5 }), Err("1.5".to_owned())),
            (json!({ "exit_code": "none" }), Err("\"none\"".to_owned())),
            (json!({ "exit_code": true }), Err("true".to_owned())),
        ] {
            assert_eq!(reported(&payload).exit_code, expected, "{payload}");
        }
        assert_eq!(reported(&json!({ "error": "boom" })).stderr, "boom", "it stands where nothing else does");
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
