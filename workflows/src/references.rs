//! References from a ticket's parameters to the outputs of its finished predecessors:
//! `${dependencies.<ticket_id>.output.<key>}`.
//!
//! Owns their grammar, where a key leads and how parameters are filled. Never fetches an output, and never reads an
//! inserted value again: what a predecessor wrote cannot refer to anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use serde_json::Value;
use ticket_schemas::{shell_words, structured};

/// Most bytes of JSON that filled parameters may have.
pub const MAX_FILLED_BYTES: usize = 1024 * 1024;
/// Deepest nesting of a filled parameter, the same as that of a ticket's parameters. Readers of JSON stop at 128 levels.
pub const MAX_FILLED_DEPTH: usize = 64;

const OPEN: &str = "${dependencies.";
const OUTPUT: &str = ".output.";
/// Longest parts of an error message, in bytes. A ticket id is never cut.
const MAX_PATH_BYTES: usize = 100;
const MAX_KEY_BYTES: usize = 80;
const MAX_BODY_BYTES: usize = 200;

/// Every reference in the parameters' texts, at any depth but not in the names: ticket id to the keys asked for.
///
/// `$${dependencies.` stands for the literal text `${dependencies.`; any other `${…}` means nothing here. Ids may
/// contain dots: the longest declared id that fits is meant.
///
/// # Errors
///
/// [`ReferenceError`] for the first reference that is malformed or names no declared dependency, and for parameters
/// nested deeper than [`MAX_FILLED_DEPTH`].
pub fn references(
    parameters: &BTreeMap<String, Value>,
    dependencies: &[impl AsRef<str>],
) -> Result<BTreeMap<String, BTreeSet<String>>, ReferenceError> {
    let ids = dependencies.iter().map(AsRef::as_ref).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Apart { parameters, .. } = Apart::take(parameters)?;
    rewrite_entries::<Vec<_>>(&parameters, MAX_FILLED_DEPTH, &mut |text, _| {
        for piece in pieces(text, &ids)? {
            if let Piece::Output(Reference { ticket, key, .. }) = piece {
                found.entry(ticket.to_owned()).or_default().insert(key.to_owned());
            }
        }
        Ok(Value::Null)
    })?;
    Ok(found)
}

/// Makes every text of the value stand for itself: what looks like a reference in it refers to nothing.
pub(crate) fn escaped(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(OPEN) => *text = text.replace(OPEN, &format!("${OPEN}")),
        Value::Array(items) => items.iter_mut().for_each(escaped),
        Value::Object(entries) => entries.values_mut().for_each(escaped),
        _ => {}
    }
}

/// Whether any text holds a reference, escaped or not: nothing else changes when parameters are filled.
pub(crate) fn mentioned(parameters: &BTreeMap<String, Value>) -> bool {
    fn within(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains(OPEN),
            Value::Array(items) => items.iter().any(within),
            Value::Object(entries) => entries.values().any(within),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    parameters.values().any(within)
}

/// The value that `key` leads to in a predecessor's output; `None` when there is none.
///
/// A key that the output has as it stands wins. Else dots separate the names of nested objects and the indices of
/// arrays, which are written without leading zeros: `artifact.files.0.url`.
#[must_use]
pub fn pick(output: &BTreeMap<String, Value>, key: &str) -> Option<Value> {
    find(output, key).cloned()
}

/// The parameters with every reference replaced and every escape resolved.
///
/// `values` holds, for each ticket, its output or as much of it as [`pick`] found under the keys of [`references`]. A
/// text that is one reference becomes the value itself, of whatever type. Within a longer text a string is inserted as
/// it is and anything else as compact JSON. A text that holds JSON or a Python literal is filled inside and stays a text;
/// a command line becomes its words. So an inserted value never adds an argument, an element or a key.
///
/// # Errors
///
/// [`ReferenceError`] as for [`references`], when a value is missing, and when the result would exceed
/// [`MAX_FILLED_BYTES`] or [`MAX_FILLED_DEPTH`].
pub fn fill(
    parameters: &BTreeMap<String, Value>,
    dependencies: &[impl AsRef<str>],
    values: &BTreeMap<String, BTreeMap<String, Value>>,
) -> Result<BTreeMap<String, Value>, ReferenceError> {
    let ids = dependencies.iter().map(AsRef::as_ref).collect();
    let mut source = Source { values, budget: Budget(MAX_FILLED_BYTES) };
    let Apart { parameters, texts } = Apart::take(parameters)?;
    let mut filled: BTreeMap<_, _> = rewrite_entries(&parameters, MAX_FILLED_DEPTH, &mut |text, levels| {
        let pieces = pieces(text, &ids)?;
        if let [Piece::Output(reference)] = pieces.as_slice() {
            return source.take(reference, levels).cloned();
        }
        let mut whole = String::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Output(reference) => match source.take(reference, MAX_FILLED_DEPTH)? {
                    Value::String(text) => whole.push_str(text),
                    other => whole.push_str(&other.to_string()),
                },
            }
        }
        Ok(Value::String(whole))
    })?;
    for name in texts {
        if let Some(value) = filled.get_mut(&name) {
            *value = Value::String(value.to_string());
        }
    }
    match serde_json::to_writer(Budget(MAX_FILLED_BYTES), &filled) {
        Ok(()) => Ok(filled),
        Err(_) => Err(ReferenceError::too_large()),
    }
}

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It has no closing brace.
    Unclosed,
    /// It lacks `.output.` or the key.
    Malformed,
    /// It stands in a text that begins like JSON, a Python literal or a command line, and is none.
    Unreadable,
    /// It names a ticket that is not a declared dependency.
    NotADependency,
    /// The predecessor's output has no such key.
    MissingOutput {
        /// The predecessor.
        ticket: String,
        /// The key, cut when it is long.
        key: String,
    },
    /// The filled parameters would exceed [`MAX_FILLED_BYTES`].
    TooLarge,
    /// The filled parameter would be nested deeper than [`MAX_FILLED_DEPTH`].
    TooDeep,
}

/// A reference that cannot be followed. Its message has at most 500 bytes, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    problem: Problem,
    reference: String,
    /// Every name behind a dot, also the first.
    path: String,
}

impl ReferenceError {
    fn new(problem: Problem, reference: String) -> Self {
        Self { problem, reference, path: String::new() }
    }

    /// The outputs referred to do not fit into parameters.
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(Problem::TooLarge, String::new())
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The reference, cut when it is long; empty when no single one is to blame.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Path of the parameter, for example `filter.entities[2]`, cut when it is long; empty when the error is about all.
    #[must_use]
    pub fn parameter(&self) -> &str {
        self.path.strip_prefix('.').unwrap_or(&self.path)
    }

    fn within(mut self, step: &str) -> Self {
        self.path = clip(&format!("{step}{}", self.path), MAX_PATH_BYTES);
        self
    }
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameter = self.parameter();
        let subject = match (self.reference.as_str(), parameter) {
            ("", "") => "the filled parameters".to_owned(),
            ("", parameter) => format!("parameter {parameter}"),
            (reference, parameter) => format!("reference {reference} in parameter {parameter}"),
        };
        match &self.problem {
            Problem::Unclosed => write!(f, "{subject} is not closed: add a brace, or write $${{ for the text itself"),
            Problem::Malformed => {
                write!(f, "{subject} names no output: write {OPEN}<ticket_id>{OUTPUT}<key>}}")
            }
            Problem::Unreadable => {
                write!(
                    f,
                    "{subject} refers to an output within a text that cannot be read: correct its brackets and quotes"
                )
            }
            Problem::NotADependency => {
                write!(f, "{subject} names no dependency: declare the ticket in dependencies or correct its id")
            }
            Problem::MissingOutput { ticket, key } => write!(
                f,
                "missing output {key} of ticket {ticket} for parameter {parameter}: \
                 refer to a key that its result has"
            ),
            Problem::TooLarge => {
                write!(f, "{subject}: more than {MAX_FILLED_BYTES} bytes in all: refer to smaller outputs")
            }
            Problem::TooDeep => {
                write!(f, "{subject}: nested deeper than {MAX_FILLED_DEPTH} levels: refer to a key further inside")
            }
        }
    }
}

impl std::error::Error for ReferenceError {}

/// Parameters whose text is a command line.
const COMMAND_LINES: [&str; 3] = ["args", "command", "test_command"];

/// Parameters in which texts that their readers take apart have been taken apart.
struct Apart {
    parameters: BTreeMap<String, Value>,
    /// Names of those that held JSON or a Python literal.
    texts: Vec<String>,
}

impl Apart {
    fn take(parameters: &BTreeMap<String, Value>) -> Result<Self, ReferenceError> {
        let mut apart = Self { parameters: parameters.clone(), texts: Vec::new() };
        for (name, value) in &mut apart.parameters {
            let Value::String(text) = &*value else { continue };
            if !text.contains(OPEN) || text.starts_with(OPEN) && text.find('}') == Some(text.len() - 1) {
                continue;
            }
            let unreadable = || {
                ReferenceError::new(Problem::Unreadable, String::new())
                    .within(&format!(".{}", clip(name, MAX_PATH_BYTES)))
            };
            if let Some(structured) = structured(text) {
                *value = structured.ok_or_else(unreadable)?;
                apart.texts.push(name.clone());
            } else if COMMAND_LINES.contains(&name.as_str()) {
                *value = shell_words(text).ok_or_else(unreadable)?.into();
            }
        }
        Ok(apart)
    }
}

#[derive(Debug)]
enum Piece<'a> {
    Text(&'a str),
    Output(Reference<'a>),
}

#[derive(Debug)]
struct Reference<'a> {
    /// What stands between `${dependencies.` and the brace.
    body: &'a str,
    ticket: &'a str,
    key: &'a str,
}

impl<'a> Reference<'a> {
    fn read(body: &'a str, ids: &BTreeSet<&str>) -> Result<Self, ReferenceError> {
        let longest = body.rmatch_indices('.').find_map(|(at, _)| {
            let (ticket, rest) = body.split_at_checked(at)?;
            let key = rest.strip_prefix(OUTPUT)?;
            ids.contains(ticket).then_some(Self { body, ticket, key })
        });
        match longest {
            Some(reference) if !reference.key.is_empty() => Ok(reference),
            None if body.contains(OUTPUT) => Err(ReferenceError::new(Problem::NotADependency, quoted(body))),
            _ => Err(ReferenceError::new(Problem::Malformed, quoted(body))),
        }
    }

    fn missing(&self) -> ReferenceError {
        let (ticket, key) = (clip(self.ticket, MAX_BODY_BYTES), clip(self.key, MAX_KEY_BYTES));
        ReferenceError::new(Problem::MissingOutput { ticket, key }, quoted(self.body))
    }
}

fn pieces<'a>(text: &'a str, ids: &BTreeSet<&str>) -> Result<Vec<Piece<'a>>, ReferenceError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(OPEN) {
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Text(OPEN)]);
            rest = inside;
            continue;
        }
        let closed = inside.split_once('}').filter(|(body, _)| !body.contains("${"));
        let (body, after) = closed.ok_or_else(|| unclosed(inside))?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Output(Reference::read(body, ids)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Where the reference should have ended is a guess; text that follows it may be a secret and is not quoted.
fn unclosed(inside: &str) -> ReferenceError {
    let other = |c: char| !(c.is_ascii_alphanumeric() || "._:-".contains(c));
    let body = inside.split(other).next().unwrap_or_default();
    ReferenceError::new(Problem::Unclosed, format!("{OPEN}{}", clip(body, MAX_BODY_BYTES)))
}

fn quoted(body: &str) -> String {
    format!("{OPEN}{}}}", clip(body, MAX_BODY_BYTES))
}

fn clip(text: &str, max_bytes: usize) -> String {
    let (kept, cut) = text.split_at_checked(text.floor_char_boundary(max_bytes)).unwrap_or((text, ""));
    let line = kept.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.chain((!cut.is_empty()).then_some('…')).collect()
}

fn find<'v>(output: &'v BTreeMap<String, Value>, key: &str) -> Option<&'v Value> {
    output.get(key).or_else(|| {
        let mut steps = key.split('.');
        let first = output.get(steps.next()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Object(entries) => entries.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok().filter(|index| index.to_string() == step)?),
            _ => None,
        })
    })
}

type OnText<'f> = dyn FnMut(&str, usize) -> Result<Value, ReferenceError> + 'f;

/// A copy of the entries in which each text is what `on_text` makes of it, given the levels that may still open there.
fn rewrite_entries<'v, C: FromIterator<(String, Value)>>(
    entries: impl IntoIterator<Item = (&'v String, &'v Value)>,
    levels: usize,
    on_text: &mut OnText<'_>,
) -> Result<C, ReferenceError> {
    let entry = |(key, value): (&String, &Value)| match rewrite(value, levels, on_text) {
        Ok(value) => Ok((key.clone(), value)),
        Err(error) => Err(error.within(&format!(".{}", clip(key, MAX_PATH_BYTES)))),
    };
    entries.into_iter().map(entry).collect()
}

fn rewrite(value: &Value, levels: usize, on_text: &mut OnText<'_>) -> Result<Value, ReferenceError> {
    let inside = || levels.checked_sub(1).ok_or_else(|| ReferenceError::new(Problem::TooDeep, String::new()));
    match value {
        Value::String(text) => on_text(text, levels),
        Value::Array(items) => {
            let inside = inside()?;
            let item =
                |(index, item)| rewrite(item, inside, on_text).map_err(|error| error.within(&format!("[{index}]")));
            items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(entries) => rewrite_entries(entries, inside()?, on_text).map(Value::Object),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    let Some(inside) = levels.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(item, inside)),
        Value::Object(entries) => entries.values().any(|entry| deeper_than(entry, inside)),
        _ => false,
    }
}

/// Where values come from, and how much more of them may be inserted.
struct Source<'v> {
    values: &'v BTreeMap<String, BTreeMap<String, Value>>,
    budget: Budget,
}

impl<'v> Source<'v> {
    /// Counts before anything is copied, so that a large value named a thousand times costs nothing.
    fn take(&mut self, reference: &Reference<'_>, levels: usize) -> Result<&'v Value, ReferenceError> {
        let output = self.values.get(reference.ticket);
        let value = output.and_then(|output| find(output, reference.key)).ok_or_else(|| reference.missing())?;
        if deeper_than(value, levels) {
            return Err(ReferenceError::new(Problem::TooDeep, quoted(reference.body)));
        }
        let counted = match value {
            Value::String(text) => io::Write::write_all(&mut self.budget, text.as_bytes()).is_ok(),
            other => serde_json::to_writer(&mut self.budget, other).is_ok(),
        };
        if counted { Ok(value) } else { Err(ReferenceError::new(Problem::TooLarge, quoted(reference.body))) }
    }
}

/// Bytes that may still be written; it counts them and keeps none.
struct Budget(usize);

impl io::Write for Budget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
