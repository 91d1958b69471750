//! A ticket's parameters, asked for every kind of type: a JSON object, or one text under every name.
#![no_main]

use std::collections::{BTreeMap, HashMap};

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use ticket_fuzz::bounded;
use ticket_schemas::{CommaList, ParameterView, Structured, canonical, parse_python_literal};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Everything {
    a: Option<u8>,
    b: Option<bool>,
    c: Option<f64>,
    d: Option<String>,
    e: Option<Vec<Everything>>,
    f: Option<HashMap<String, Structured>>,
    g: Option<(u8, CommaList)>,
    h: Option<Value>,
    i: Option<Kind>,
    j: Option<Box<Everything>>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only reading it matters")]
enum Kind {
    Unit,
    New(u8),
    Tuple(u8, String),
    Struct { a: Vec<i64> },
}

fn ask(parameters: &BTreeMap<String, Value>) {
    let view = ParameterView::new(parameters);
    if let Err(error) = view.deserialize::<Everything>() {
        assert!(error.to_string().chars().count() < 1000);
    }
    let _ = view.deserialize::<HashMap<String, Kind>>();
    let _ = view.deserialize::<HashMap<String, Vec<i32>>>();
    let _ = view.deserialize::<HashMap<String, Structured>>();
    for value in parameters.values() {
        if let Some(once) = canonical(value) {
            assert_eq!(canonical(&once), Some(once), "canonical is its own canonical form");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(|| {
        let _ = parse_python_literal(text);
        if let Ok(parameters) = serde_json::from_str(text) {
            ask(&parameters);
        }
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for name in names {
            ask(&BTreeMap::from([(name.to_owned(), Value::from(text))]));
        }
    });
});
