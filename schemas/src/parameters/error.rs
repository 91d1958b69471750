//! Why parameters do not fit the type an executor asks for.

use std::fmt::Display;

use serde::de::{Expected, Unexpected};

use crate::excerpt::{excerpt, single_line, truncate_bytes};

/// Longest text taken from a type's own validation, in characters.
const MAX_REASON_CHARS: usize = 200;
/// Longest path, in bytes.
const MAX_PATH_BYTES: usize = 256;

/// A parameter that is missing or does not fit. Its text never quotes a text of the ticket, which may be a secret; only a
/// word where one of a few was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// A required parameter is absent.
    #[error("parameter {parameter} is missing: set it in the ticket")]
    Missing {
        /// Path of the parameter.
        parameter: String,
    },
    /// A value has the wrong type.
    #[error("parameter {parameter} is invalid: expected {expected}, found {found}")]
    Invalid {
        /// Path of the parameter.
        parameter: String,
        /// What the executor expects.
        expected: String,
        /// What was found: the type; the value of numbers and booleans, the length of texts.
        found: String,
    },
    /// A value has the right type and is refused for another reason.
    #[error("parameter {parameter} is rejected: {reason}")]
    Rejected {
        /// Path of the parameter.
        parameter: String,
        /// Why.
        reason: String,
    },
}

impl ParameterError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing_parameter",
            Self::Invalid { .. } => "invalid_parameter",
            Self::Rejected { .. } => "rejected_parameter",
        }
    }

    /// Path of the parameter, for example `filter.entities[2]`; empty when the error is about all of them.
    #[must_use]
    pub fn parameter(&self) -> &str {
        match self {
            Self::Missing { parameter } | Self::Invalid { parameter, .. } | Self::Rejected { parameter, .. } => {
                parameter
            }
        }
    }

    pub(super) fn invalid(expected: &dyn Expected, found: String) -> Self {
        Self::Invalid {
            parameter: String::new(),
            expected: single_line(&expected.to_string(), MAX_REASON_CHARS),
            found,
        }
    }

    pub(super) fn in_key(self, key: &str) -> Self {
        let key = excerpt(key);
        self.within(|path| match path {
            "" => key,
            path if path.starts_with('[') => format!("{key}{path}"),
            path => format!("{key}.{path}"),
        })
    }

    pub(super) fn in_index(self, index: usize) -> Self {
        self.within(|path| match path {
            "" => format!("[{index}]"),
            path if path.starts_with('[') => format!("[{index}]{path}"),
            path => format!("[{index}].{path}"),
        })
    }

    fn within(mut self, join: impl FnOnce(&str) -> String) -> Self {
        let (Self::Missing { parameter } | Self::Invalid { parameter, .. } | Self::Rejected { parameter, .. }) =
            &mut self;
        // The outer part of a long path says most.
        let path = join(parameter);
        *parameter = truncate_bytes(&path, MAX_PATH_BYTES).to_owned();
        self
    }
}

impl serde::de::Error for ParameterError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Rejected { parameter: String::new(), reason: single_line(&message.to_string(), MAX_REASON_CHARS) }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(expected, describe(found))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(expected, describe(found))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::Invalid {
            parameter: String::new(),
            expected: format!("one of {}", expected.join(", ")),
            found: format!("\"{}\"", excerpt(found)),
        }
    }

    fn unknown_field(found: &str, _expected: &'static [&'static str]) -> Self {
        Self::Rejected { parameter: excerpt(found), reason: "nothing reads it".to_owned() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing { parameter: field.to_owned() }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Rejected { parameter: field.to_owned(), reason: "it is given twice, under two names".to_owned() }
    }
}

/// What is said of a text that does not fit.
pub(super) fn text_found(text: &str) -> String {
    format!("a string of {} characters", text.chars().count())
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => text_found(text),
        Unexpected::Other(text) => excerpt(text),
        Unexpected::Bytes(_) => "bytes".to_owned(),
        other => other.to_string(),
    }
}
