//! Every rule of references, and what hostile texts come to.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn map<T: Clone, const N: usize>(entries: [(&str, T); N]) -> BTreeMap<String, T> {
    entries.map(|(key, value)| (key.to_owned(), value)).into()
}

fn outputs() -> BTreeMap<String, BTreeMap<String, Value>> {
    let files = json!([{"url": "u0"}, "ü\"1"]);
    map([
        ("a", map([("n", json!(1.5)), ("s", json!("x")), ("z", Value::Null), ("b.output.k", json!("of a"))])),
        ("a.output.b", map([("k", json!("of a.output.b")), ("output.k", json!(true))])),
        (
            "c:1",
            map([
                ("o", json!({"files": files, "n": {"d": 1}})),
                ("o.n", json!("whole")),
                ("big", "y".repeat(40_000).into()),
            ]),
        ),
    ])
}

fn fill_one(parameter: Value, ids: &[&str]) -> Result<Value, ReferenceError> {
    fill(&map([("p", parameter)]), ids, &outputs()).map(|filled| filled["p"].clone())
}

const ALL: &[&str] = &["a", "a.output.b", "c:1"];

#[test]
fn texts_are_filled_by_type_escaped_and_otherwise_left_alone() {
    for (text, expected) in [
        ("${dependencies.a.output.n}", json!(1.5)),
        ("${dependencies.a.output.z}", Value::Null),
        ("${dependencies.c:1.output.o.n}", json!("whole")),
        ("${dependencies.c:1.output.o.files}", json!([{"url": "u0"}, "ü\"1"])),
        (" ${dependencies.a.output.n}", json!(" 1.5")),
        ("é${dependencies.a.output.s}${dependencies.a.output.z}}", json!("éxnull}")),
        ("f=${dependencies.c:1.output.o.files}", json!(r#"f=[{"url":"u0"},"ü\"1"]"#)),
        ("${dependencies.c:1.output.o.files.0.url}", json!("u0")),
        ("$${dependencies.a.output.s}", json!("${dependencies.a.output.s}")),
        ("$$${dependencies.", json!("$${dependencies.")),
        ("$${dependencies.${dependencies.a.output.s}}", json!("${dependencies.x}")),
        ("${HOME} $${HOME} $$ ${ ${dependencies} {{}}", json!("${HOME} $${HOME} $$ ${ ${dependencies} {{}}")),
        ("", json!("")),
    ] {
        assert_eq!(fill_one(json!(text), ALL), Ok(expected), "{text}");
    }
    let nested = json!({"${dependencies.": [1, {"k": "${dependencies.a.output.n}"}, null]});
    assert_eq!(fill_one(nested, ALL), Ok(json!({"${dependencies.": [1, {"k": 1.5}, null]})));
}

#[test]
fn inserted_values_stay_in_their_place() {
    let hostile = json!("x\", \"rm\", '; rm -rf / #");
    let values = map([("a", map([("s", hostile.clone())]))]);
    let fill_in =
        |name: &str, text: &str| fill(&map([(name, json!(text))]), &["a"], &values).map(|all| all[name].clone());
    let words = json!(["echo", "--v=x\", \"rm\", '; rm -rf / #", "z"]);
    assert_eq!(fill_in("command", "echo '--v=${dependencies.a.output.s}' z"), Ok(words));
    for text in [r#"["echo", "${dependencies.a.output.s}"]"#, "['echo', '${dependencies.a.output.s}']"] {
        let Ok(Value::String(filled)) = fill_in("command", text) else { panic!("{text}") };
        assert_eq!(serde_json::from_str::<Value>(&filled).expect("JSON"), json!(["echo", hostile]), "{text}");
    }
    for (name, text) in [("p", "[${dependencies.a.output.s}]"), ("command", "echo '${dependencies.a.output.s}")] {
        let error = fill_in(name, text).expect_err("unreadable");
        assert_eq!((error.problem(), error.parameter()), (&Problem::Unreadable, name), "{text}");
    }
    assert_eq!(
        fill_in("description", "say '${dependencies.a.output.s}"),
        Ok(json!(format!("say '{}", hostile.as_str().expect("text"))))
    );
}

#[test]
fn the_longest_declared_id_that_fits_is_meant() {
    let (text, nested) = ("${dependencies.a.output.b.output.k}", "${dependencies.a.output.b.output.output.k}");
    assert_eq!(fill_one(json!(text), &["a", "a.output.b"]), Ok(json!("of a.output.b")));
    assert_eq!(fill_one(json!(text), &["a.output.b", "a"]), Ok(json!("of a.output.b")));
    assert_eq!(fill_one(json!(text), &["a"]), Ok(json!("of a")));
    assert_eq!(fill_one(json!(nested), ALL), Ok(json!(true)), "two markers that overlap");
    let parameters = map([("p", json!([text, nested, {"q": "-${dependencies.a.output.n}-"}]))]);
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<BTreeSet<_>>();
    let expected = map([("a", keys(&["n"])), ("a.output.b", keys(&["k", "output.k"]))]);
    assert_eq!(references(&parameters, ALL), Ok(expected));
}

#[test]
fn a_key_is_a_name_or_else_a_path() {
    let output = map([("a.b", json!(1)), ("a", json!({"b": 2, "c": [[3], {"0": 4}]})), ("", json!(5))]);
    for (key, expected) in [
        ("a.b", Some(1)),
        ("a.c.0.0", Some(3)),
        ("a.c.1.0", Some(4)),
        ("", Some(5)),
        ("b", None),
        ("a.", None),
        ("a.c.2", None),
        ("a.c.-1", None),
        ("a.c.+1", None),
        ("a.c.01", None),
        ("a.b.c", None),
        ("a.b.0", None),
        ("a.c.99999999999999999999999", None),
    ] {
        assert_eq!(pick(&output, key), expected.map(|n: i32| json!(n)), "{key}");
    }
}

#[test]
fn errors_name_the_reference_the_parameter_and_what_to_do() {
    for (text, problem, said) in [
        (
            "${dependencies.a.output.n",
            Problem::Unclosed,
            "reference ${dependencies.a.output.n in parameter p.q[1] is not closed",
        ),
        ("${dependencies.a secret", Problem::Unclosed, "reference ${dependencies.a in"),
        ("${dependencies.a.output.${dependencies.a.output.n}}", Problem::Unclosed, "${dependencies.a.output. in"),
        (
            "${dependencies.x.output.n}",
            Problem::NotADependency,
            "reference ${dependencies.x.output.n} in parameter p.q[1]",
        ),
        ("${dependencies..output.n}", Problem::NotADependency, "declare the ticket in dependencies"),
        ("${dependencies.a.result.n}", Problem::Malformed, "write ${dependencies.<ticket_id>.output.<key>}"),
        ("${dependencies.a.output.}", Problem::Malformed, "names no output"),
        ("${dependencies.}", Problem::Malformed, "names no output"),
    ] {
        let error = references(&map([("p", json!({"q": [0, text]}))]), ALL).expect_err(text);
        assert_eq!((error.problem(), error.parameter()), (&problem, "p.q[1]"), "{text}");
        assert!(error.to_string().contains(said) && !error.to_string().contains("secret"), "{error}");
        assert_eq!(fill_one(json!({"q": [0, text]}), ALL), Err(error), "fill says the same");
    }
    let missing = fill_one(json!("${dependencies.a.output.n.x}"), ALL).expect_err("missing");
    assert!(missing.to_string().starts_with("missing output n.x of ticket a for parameter p: "), "{missing}");
}

#[test]
fn size_and_depth_are_bounded_while_filling() {
    let problem = |parameter| fill_one(parameter, ALL).expect_err("too much").problem().clone();
    let big = "${dependencies.c:1.output.big}";
    assert!(fill_one(json!(vec![big; 26]), ALL).is_ok());
    assert_eq!(problem(json!(big.repeat(100_000))), Problem::TooLarge);
    assert_eq!(problem(json!(vec![big; 100_000])), Problem::TooLarge);
    let rest = MAX_FILLED_BYTES - r#"{"p":""}"#.len();
    assert!(fill_one(json!("z".repeat(rest)), ALL).is_ok());
    assert_eq!(problem(json!("z".repeat(rest + 1))), Problem::TooLarge);
    assert_eq!(problem(json!("\u{1}".repeat(rest / 2))), Problem::TooLarge, "escapes count");
    let deep = |levels, inner: &str| (0..levels).fold(json!(inner), |value, _| json!([value]));
    assert!(fill_one(deep(MAX_FILLED_DEPTH - 2, "${dependencies.c:1.output.o.files}"), ALL).is_ok());
    assert_eq!(problem(deep(MAX_FILLED_DEPTH - 1, "${dependencies.c:1.output.o.files}")), Problem::TooDeep);
    assert!(fill_one(deep(MAX_FILLED_DEPTH, "f=${dependencies.c:1.output.o.files}"), ALL).is_ok());
    assert_eq!(problem(deep(MAX_FILLED_DEPTH + 1, "")), Problem::TooDeep);
}

#[test]
fn messages_are_short_and_on_one_line_whatever_they_quote() {
    let long = "é\n\u{85}".repeat(100_000);
    let id = "i".repeat(200);
    for text in [
        format!("${{dependencies.{id}.output.{long}}}"),
        format!("${{dependencies.{long}.output.k}}"),
        format!("${{dependencies.{long}}}"),
        format!("${{dependencies.{}", "x".repeat(9999)),
    ] {
        let parameters = map([(long.as_str(), json!({ &long: [{ &long: text }] }))]);
        let error = fill(&parameters, &[&id], &BTreeMap::new()).expect_err("hostile");
        let message = error.to_string();
        assert!(message.len() <= 500 && !message.contains(char::is_control), "{} {message}", message.len());
        assert!(error.reference().starts_with(OPEN), "{error}");
    }
}

/// Texts made of what the grammar is made of.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC",
        "[$}{.]",
        proptest::sample::select(vec![OPEN, OUTPUT, "${", "$${", "dependencies.", "a", "${dependencies.a.output.s}"])
            .prop_map(str::to_owned),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_without_the_opening_come_back_unchanged(text in text()) {
        let text = text.replace(OPEN, "");
        prop_assume!(!text.contains(OPEN));
        prop_assert_eq!(fill_one(json!([&text]), ALL), Ok(json!([text])));
    }

    #[test]
    fn any_text_is_escaped_by_one_more_dollar(text in text()) {
        // A bracket would make it a text that is read.
        let text = format!("t{text}");
        prop_assert_eq!(fill_one(json!(text.replace(OPEN, "$${dependencies.")), ALL), Ok(json!(text)));
    }

    #[test]
    fn inserted_values_are_never_expanded(value in text(), around in "[^$]*") {
        let values = map([("a", map([("k", json!([&value])), ("s", json!(value))]))]);
        let parameters = map([
            ("whole", json!("${dependencies.a.output.k}")),
            ("within", json!(format!("t{around}${{dependencies.a.output.s}}{around}"))),
        ]);
        let expected = map([("whole", json!([&value])), ("within", json!(format!("t{around}{value}{around}")))]);
        prop_assert_eq!(fill(&parameters, &["a"], &values), Ok(expected));
    }

    #[test]
    fn what_references_ask_for_is_what_fill_needs(text in text()) {
        let parameters = map([("p", json!(text))]);
        let found = references(&parameters, &["a"]).map(|wanted| {
            let zeros = |keys: BTreeSet<String>| keys.into_iter().map(|key| (key, json!(0))).collect();
            wanted.into_iter().map(|(id, keys)| (id, zeros(keys))).collect::<BTreeMap<_, _>>()
        });
        let filled = fill(&parameters, &["a"], found.as_ref().unwrap_or(&BTreeMap::new()));
        prop_assert_eq!(filled.is_ok(), found.is_ok());
    }
}
