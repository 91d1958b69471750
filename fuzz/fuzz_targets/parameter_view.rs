//! A ticket's parameters, asked for every kind of type: a JSON object, or one text under every name.
#![no_main]

#[path = "../../schemas/tests/every_type/mod.rs"]
mod every_type;

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use ticket_fuzz::bounded;
use ticket_schemas::parse_python_literal;

use every_type::ask;

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
