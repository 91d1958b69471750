//! Loads the samples.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of the samples.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// Name without extension and bytes of each file in a folder, sorted.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(samples().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The bytes of one file.
pub(crate) fn file(path: &str) -> Vec<u8> {
    fs::read(samples().join(path)).unwrap()
}

/// One file as JSON.
pub(crate) fn json(path: &str) -> Value {
    serde_json::from_slice(&file(path)).unwrap()
}

/// A wire vector as bytes.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    unhex(&file(&format!("wire/{name}.hex")))
}

/// Every wire vector.
pub(crate) fn vectors() -> Vec<(String, Vec<u8>)> {
    files("wire", "hex").into_iter().map(|(name, text)| (name, unhex(&text))).collect()
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A small valid ticket as a JSON object.
pub(crate) fn small_ticket() -> Value {
    serde_json::json!({
        "ticket_id": "t-1", "task_id": "task", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
    })
}

/// `object` with `key` set to `value`; null stays a key.
pub(crate) fn with(mut object: Value, key: &str, value: Value) -> Value {
    object.as_object_mut().unwrap().insert(key.to_owned(), value);
    object
}
