//! Coercion of parameters by the type that is expected (`contracts/kafka.md §5.3`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ticket_schemas::*;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Fast,
    #[serde(alias = "slow-motion")]
    Slow,
    Custom {
        factor: u8,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
struct One<T> {
    p: T,
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ParameterError> {
    let parameters = BTreeMap::from([("p".to_owned(), value), ("other".to_owned(), json!("ignored"))]);
    ParameterView::new(&parameters).deserialize::<One<T>>().map(|one| one.p)
}

fn ok<T: DeserializeOwned + PartialEq + std::fmt::Debug>(expected: T, spellings: &[Value]) {
    for spelling in spellings {
        assert_eq!(read::<T>(spelling.clone()).as_ref(), Ok(&expected), "{spelling}");
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn inc_09_strings_are_read_as_the_expected_type() {
    ok(600_u32, &[json!(600), json!("600"), json!(" 600 "), json!("600.0"), json!(600.0)]);
    ok(-3_i64, &[json!(-3), json!("-3"), json!("-3.0")]);
    ok(u64::MAX, &[json!(u64::MAX), json!("18446744073709551615")]);
    ok(1.5_f64, &[json!(1.5), json!("1.5")]);
    ok(2.0_f64, &[json!(2), json!("2"), json!("2e0")]);
    ok(true, &[json!(true), json!("true"), json!("TRUE"), json!("True")]);
    ok(false, &[json!(false), json!("false"), json!("False")]);
    ok(
        words(&["-v", "--cov=src"]),
        &[json!(["-v", "--cov=src"]), json!("[\"-v\", \"--cov=src\"]"), json!("-v --cov=src")],
    );
    ok(Vec::<String>::new(), &[json!([]), json!("[]"), json!("")]);
    ok(vec![1_u8, 2], &[json!([1, 2]), json!("[1, \"2\"]"), json!("1 2"), json!("(1, 2)")]);
    ok(
        HashMap::from([("BRANCH".to_owned(), "main".to_owned())]),
        &[json!({"BRANCH": "main"}), json!("{\"BRANCH\": \"main\"}"), json!("{'BRANCH': 'main'}")],
    );
    ok(HashMap::from([(1_u8, true)]), &[json!({"1": "true"}), json!("{1: True}")]);
    ok((1_u8, "b".to_owned()), &[json!([1, "b"]), json!("(1, 'b')")]);
    ok(Mode::Slow, &[json!("slow"), json!("slow-motion")]);
    ok(Mode::Custom { factor: 3 }, &[json!({"custom": {"factor": "3"}}), json!("{'custom': {'factor': 3}}")]);
}

#[test]
fn native_scalars_are_read_as_text_where_text_is_expected() {
    ok("12".to_owned(), &[json!(12), json!("12")]);
    ok("12.5".to_owned(), &[json!(12.5)]);
    ok("true".to_owned(), &[json!(true)]);
    ok("[1]".to_owned(), &[json!("[1]")]);
    ok('x', &[json!("x")]);
}

#[test]
fn inc_88_python_literals_are_read_as_values() {
    let ticket = decode_json_ticket(&common::file("tickets-json-native/planner-query-direct-path.json")).unwrap();
    let twin = decode_json_ticket(&common::file("tickets-json-native/planner-query-decision-path.json")).unwrap();

    #[derive(Debug, PartialEq, Deserialize)]
    struct Query {
        collection: String,
        entities: Vec<String>,
        filter: HashMap<String, Value>,
        limit: u32,
    }
    let direct: Query = ParameterView::new(&ticket.parameters).deserialize().unwrap();
    assert_eq!(direct.entities, ["sap", "hana"]);
    assert_eq!(direct.filter["entities"], json!({"$in": ["sap", "hana"]}));
    assert_eq!(direct.limit, 100);
    let decision: Query = ParameterView::new(&twin.parameters).deserialize().unwrap();
    assert_eq!(direct, decision);
}

#[test]
fn null_and_none_are_absent() {
    for absent in [json!(null), json!("None"), json!("null"), json!(" None ")] {
        assert_eq!(read::<Option<u8>>(absent.clone()), Ok(None));
        let error = read::<u8>(absent.clone()).unwrap_err();
        assert_eq!((error.code(), error.parameter()), ("missing_parameter", "p"));

        #[derive(Debug, PartialEq, Deserialize)]
        struct Defaults {
            #[serde(default)]
            p: u8,
        }
        let parameters = BTreeMap::from([("p".to_owned(), absent)]);
        let view = ParameterView::new(&parameters);
        assert_eq!(view.deserialize(), Ok(Defaults { p: 0 }));
        assert_eq!((view.get("p"), view.iter().count()), (None, 0));
    }
    // Inside a value only null is absent: the text may be meant.
    assert_eq!(read::<Vec<Option<String>>>(json!([null, "None"])), Ok(vec![None, Some("None".to_owned())]));
}

#[test]
fn planner_transform_has_no_input_on_either_path() {
    for name in ["planner-transform-null-input", "planner-transform-direct-path"] {
        let ticket = decode_json_ticket(&common::file(&format!("tickets-json-native/{name}.json"))).unwrap();

        #[derive(Deserialize)]
        struct Transform {
            input_data: Option<Structured>,
            operations: Vec<Value>,
        }
        let transform: Transform = ParameterView::new(&ticket.parameters).deserialize().unwrap();
        assert!(transform.input_data.is_none() && transform.operations.is_empty(), "{name}");
    }
}

#[test]
fn nested_fields_are_coerced_too() {
    #[derive(Debug, Default, Clone, PartialEq, Deserialize)]
    #[serde(default)]
    struct Job {
        #[serde(alias = "job_name")]
        name: String,
        attempts: u8,
        mode: Mode,
        tags: CommaList,
    }
    let expected = Job { name: "a".into(), attempts: 3, mode: Mode::Fast, tags: CommaList(words(&["x", "y"])) };
    for spelling in [
        json!([{"job_name": "a", "attempts": "3", "mode": null, "tags": "x, y", "unknown": {}}]),
        json!("[{'job_name': 'a', 'attempts': 3.0, 'mode': None, 'tags': ['x', 'y']}]"),
    ] {
        assert_eq!(read::<Vec<Job>>(spelling).unwrap(), std::slice::from_ref(&expected));
    }
}

#[test]
fn lists_of_words_may_have_commas_and_plain_lists_keep_them() {
    ok(
        CommaList(words(&["a", "b"])),
        &[json!("a, b"), json!("a,b,"), json!("a b"), json!(["a", "b"]), json!("['a','b']")],
    );
    ok(words(&["--x=a,b"]), &[json!("--x=a,b")]);
}

#[test]
fn values_are_left_alone_and_structured_ones_are_opened() {
    for value in [json!("[1]"), json!("100"), json!({"a": [null, "None"]}), json!(1.5), json!(u64::MAX)] {
        assert_eq!(read::<Value>(value.clone()), Ok(value));
    }
    ok(Structured(json!({"a": [true, null]})), &[json!({"a": [true, null]}), json!("{'a': [True, None]}")]);
    ok(Structured(json!("{ not a literal")), &[json!("{ not a literal")]);
    ok(Structured(json!("100")), &[json!("100")]);
    // The newtypes are ordinary ones for other formats.
    assert_eq!(serde_json::from_value::<CommaList>(json!(["a"])).unwrap(), CommaList(words(&["a"])));
    assert_eq!(serde_json::to_value(Structured(json!([1]))).unwrap(), json!([1]));
}

#[test]
fn mismatches_name_parameter_and_type_and_quote_no_text() {
    let secret = "s3cr3t-".repeat(100);
    let cases: Vec<(ParameterError, &str)> = vec![
        (read::<u8>(json!("abc")).unwrap_err(), "parameter p is invalid: expected u8, found a string of 3 characters"),
        (read::<u8>(json!(300)).unwrap_err(), "parameter p is invalid: expected u8, found integer `300`"),
        (read::<u8>(json!("-1")).unwrap_err(), "parameter p is invalid: expected u8, found integer `-1`"),
        (read::<u8>(json!(1.5)).unwrap_err(), "parameter p is invalid: expected u8, found number 1.5"),
        (
            read::<f64>(json!("inf")).unwrap_err(),
            "parameter p is invalid: expected f64, found a string of 3 characters",
        ),
        (read::<bool>(json!(1)).unwrap_err(), "parameter p is invalid: expected a boolean, found number 1"),
        (
            read::<bool>(json!("yes")).unwrap_err(),
            "parameter p is invalid: expected a boolean, found a string of 3 characters",
        ),
        (
            read::<String>(json!([1])).unwrap_err(),
            "parameter p is invalid: expected a string, found an array of 1 items",
        ),
        (
            read::<Vec<u8>>(json!("[1")).unwrap_err(),
            "parameter p is invalid: expected a sequence, found a string of 2 characters",
        ),
        (
            read::<Vec<u8>>(json!("'1")).unwrap_err(),
            "parameter p is invalid: expected a sequence, found a string of 2 characters",
        ),
        (
            read::<HashMap<String, u8>>(json!("a\n=1")).unwrap_err(),
            "parameter p is invalid: expected a map, found a string of 4 characters",
        ),
        (
            read::<Mode>(json!("fasst")).unwrap_err(),
            "parameter p is invalid: expected one of fast, slow, slow-motion, custom, found \"fasst\"",
        ),
        (
            read::<Vec<HashMap<String, u8>>>(json!([{}, {"k\n": "x"}])).unwrap_err(),
            "parameter p[1].k\\n is invalid: expected u8, found a string of 1 characters",
        ),
        (read::<One<u8>>(json!({})).unwrap_err(), "parameter p.p is missing: set it in the ticket"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
    for error in [
        read::<u8>(json!(secret)).unwrap_err(),
        read::<Mode>(json!(secret)).unwrap_err(),
        read::<HashMap<u8, u8>>(json!({ secret.clone(): 1 })).unwrap_err(),
        read::<uuid_like::Id>(json!(secret)).unwrap_err(),
    ] {
        assert!(error.to_string().chars().count() < 350, "{error}");
        assert!(!error.to_string().contains(&secret));
    }
}

mod uuid_like {
    //! A type whose own validation quotes what it refuses.

    #[derive(Debug, serde::Deserialize)]
    #[serde(try_from = "String")]
    pub(crate) struct Id;

    impl TryFrom<String> for Id {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            Err(format!("not an id:\n{text}"))
        }
    }
}

#[test]
fn nesting_is_bounded() {
    #[derive(Debug, Deserialize)]
    struct Nested(#[expect(dead_code, reason = "only its depth matters")] Vec<Nested>);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read::<Nested>(json!(nested(MAX_PARAMETER_DEPTH - 1))).is_ok());
    assert_eq!(read::<Nested>(json!(nested(MAX_PARAMETER_DEPTH + 1))).unwrap_err().code(), "rejected_parameter");
    assert!(read::<Nested>(json!(nested(100_000))).is_err());
    let native: Value = serde_json::from_str(&nested(100)).unwrap();
    assert!(read::<Value>(native.clone()).is_err());
    assert!(canonical(&native).is_some());
}

#[test]
fn every_sample_ticket_can_be_viewed() {
    for folder in ["tickets", "tickets-json-native"] {
        for (name, bytes) in common::files(folder, "json") {
            let Ok(ticket) = decode_json_ticket(&bytes) else {
                continue;
            };
            let view = ParameterView::new(&ticket.parameters);
            assert!(view.deserialize::<HashMap<String, Value>>().is_ok(), "{name}");
        }
    }
}
