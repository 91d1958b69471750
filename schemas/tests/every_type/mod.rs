//! Parameters, asked for every kind of type: for the property tests and for a fuzz target.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use ticket_schemas::{CommaList, ParameterView, Structured, canonical};

/// Has a field of every kind of type.
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

/// Reads parameters as every kind of type: none panics, errors are short, and canonical forms are their own.
pub(crate) fn ask(parameters: &BTreeMap<String, Value>) {
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
