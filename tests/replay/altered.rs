//! Recorded histories, altered.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::gate::{Code, verdict};
use crate::history::{Recording, root};

/// A history as JSON.
pub(crate) struct History(pub(crate) Value);

impl History {
    pub(crate) fn read(file: &str) -> Self {
        let path: PathBuf = root().join(file);
        Self(serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON"))
    }

    /// The id and the attributes of the `nth` event of a kind.
    pub(crate) fn event(&mut self, kind: &str, nth: usize) -> (i64, &mut Value) {
        let name = format!("{kind}EventAttributes");
        let events = self.0["events"].as_array_mut().expect("events");
        let event = events.iter_mut().filter(|event| event["attributes"].get(&name).is_some()).nth(nth);
        let event = event.unwrap_or_else(|| panic!("no such event: {kind} {nth}"));
        (event["event_id"].as_i64().expect("an id"), &mut event["attributes"][&name])
    }

    pub(crate) fn cut_after(&mut self, event_id: i64) {
        self.0["events"].as_array_mut().expect("events").retain(|event| event["event_id"].as_i64() <= Some(event_id));
    }

    pub(crate) async fn verdict(&self, code: Code) -> Option<String> {
        verdict(code, &self.recording()).await
    }

    pub(crate) fn recording(&self) -> Recording {
        Recording::parse(self.0.to_string().as_bytes())
    }
}

pub(crate) fn payload(value: &Value) -> Value {
    json!({ "metadata": { "encoding": STANDARD.encode("json/plain") }, "data": STANDARD.encode(value.to_string()) })
}

fn value_of(payload: &Value) -> Value {
    let data = STANDARD.decode(payload["data"].as_str().expect("base64")).expect("base64");
    serde_json::from_slice(&data).expect("JSON")
}

/// What is done to the attributes of one event.
pub(crate) enum Alter {
    /// Another value at this JSON pointer.
    Set(&'static str, Value),
    /// Another value in the JSON of the payload at the first pointer: at the second pointer.
    Within(&'static str, &'static str, Value),
}

impl Alter {
    pub(crate) fn apply(&self, attributes: &mut Value) {
        match self {
            Self::Set(pointer, value) => put(attributes, pointer, value.clone()),
            Self::Within(pointer, inner, value) => {
                let place = attributes.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
                let mut content = value_of(place);
                put(&mut content, inner, value.clone());
                *place = payload(&content);
            }
        }
    }
}

/// Sets a value, also one that is not there; it must be another one.
fn put(value: &mut Value, pointer: &str, new: Value) {
    if pointer.is_empty() {
        assert_ne!(*value, new, "nothing would change");
        *value = new;
        return;
    }
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent} in {pointer}"));
    if parent.is_null() {
        *parent = json!({});
    }
    let place = match parent {
        Value::Array(array) => &mut array[name.parse::<usize>().expect("an index")],
        parent => &mut parent[name],
    };
    assert_ne!(*place, new, "{pointer}: nothing would change");
    *place = new;
}
