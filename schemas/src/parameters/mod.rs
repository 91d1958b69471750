//! Typed view of a ticket's parameters (`contracts/kafka.md §5.3`, INC-09, INC-88).
//!
//! Avro carries parameters as strings only, the planner writes Python literals, JSON has native values. Executors see
//! one thing: the type they ask for.

mod access;
mod canonical;
mod deserializer;
mod error;
mod text;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use canonical::canonical;
pub use deserializer::{CommaList, Structured};
pub use error::ParameterError;
use text::is_absent;
pub use text::structured;

/// Deepest nesting of a parameter.
pub const MAX_PARAMETER_DEPTH: usize = 64;

/// The parameters of a ticket, read by the type that is expected.
#[derive(Debug, Clone, Copy)]
pub struct ParameterView<'a> {
    parameters: &'a BTreeMap<String, Value>,
}

impl<'a> ParameterView<'a> {
    /// Views `parameters`.
    #[must_use]
    pub fn new(parameters: &'a BTreeMap<String, Value>) -> Self {
        Self { parameters }
    }

    /// The value as it arrived; `None` when it is absent, null, `"None"` or `"null"`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.parameters.get(name).filter(|value| !is_absent(value))
    }

    /// The parameters that are present.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.parameters.iter().filter(|(_, value)| !is_absent(value)).map(|(name, value)| (name.as_str(), value))
    }

    /// Reads the parameters into `T`, coercing each by the type that `T` expects.
    ///
    /// | found | expected | becomes |
    /// |---|---|---|
    /// | null, `"None"`, `"null"` | anything | parameter absent |
    /// | string | number, boolean | the number or boolean it spells, booleans in any case |
    /// | string starting with `[`, `{` or `(` | array, object | its JSON, else its Python literal |
    /// | other string | array | its words, split as a POSIX shell does |
    /// | string | [`CommaList`] | also split at commas |
    /// | number, boolean | string | its text |
    /// | integer-valued float | integer | the integer |
    /// | anything | [`Value`] | itself |
    /// | string starting with `[`, `{` or `(` | [`Structured`] | its value, or itself when it is none |
    ///
    /// The same holds inside arrays and objects, except that only null counts as absent there. Parameters that `T` does
    /// not have are ignored. `#[serde(untagged)]` and `#[serde(flatten)]` see native values without coercion.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the parameter, what was expected and what kind of value was found.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ParameterError> {
        T::deserialize(deserializer::Root(*self))
    }
}
