//! Newtypes for the identifiers of the contract.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::excerpt::excerpt;

/// Longest ticket id in bytes.
///
/// The platform's are UUIDs (36); the bound leaves room for derived ids and keeps `ticket-<id>` well under the
/// 1000 bytes that the workflow engine allows for a workflow id.
pub const MAX_TICKET_ID_BYTES: usize = 200;

/// A text that is not a ticket id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not a ticket id: use 1 to 200 characters of A-Z a-z 0-9 . _ : -")]
pub struct InvalidTicketId {
    found: String,
}

impl InvalidTicketId {
    /// Stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_ticket_id"
    }

    /// What was found, escaped and cut to 80 characters.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }
}

/// Identity of a ticket: 1 to 200 characters of `[A-Za-z0-9._:-]`.
///
/// The set is narrow because the id becomes a workflow id, a message key, a URL segment and a log field. It does not
/// exclude `.` and `..`: never use an id as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TicketId(String);

impl TicketId {
    /// Checks `text` and takes it as an id.
    ///
    /// # Errors
    ///
    /// [`InvalidTicketId`] when it is empty, longer than [`MAX_TICKET_ID_BYTES`] or has other characters.
    pub fn parse(text: &str) -> Result<Self, InvalidTicketId> {
        if Self::is_valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidTicketId { found: excerpt(text) }) }
    }

    /// Whether `text` is a ticket id.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        (1..=MAX_TICKET_ID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
    }
}

impl std::str::FromStr for TicketId {
    type Err = InvalidTicketId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TicketId {
    type Error = InvalidTicketId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if Self::is_valid(&text) { Ok(Self(text)) } else { Err(InvalidTicketId { found: excerpt(&text) }) }
    }
}

impl<'de> Deserialize<'de> for TicketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes `text` as it is; the codec checks length and characters of what it reads.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Whether the producer left the id out.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id! {
    /// Cognitive plan that produced a ticket. Empty when the producer left it out.
    PlanId
}
text_id! {
    /// User intent behind a plan. Empty when the producer left it out.
    IntentId
}
text_id! {
    /// Name of a node in the plan's task graph.
    TaskId
}

macro_rules! text_access {
    ($($name:ident),+) => {$(
        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id's text, owned.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

text_access!(TicketId, PlanId, IntentId, TaskId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_ids_are_narrow() {
        for good in ["a", "30368fd5-4a4c-576c-a042-9c6e0cd02ac8", "A.b_c:d-9", &"x".repeat(200)] {
            assert_eq!(TicketId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a/b", "a\n", "é", "a\0", &"x".repeat(201)] {
            let error = TicketId::parse(bad).unwrap_err();
            assert_eq!(error.code(), "invalid_ticket_id");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<TicketId>("\"a-1\"").is_ok());
        assert!(serde_json::from_str::<TicketId>("\"../x\"").is_err());
        assert_eq!(serde_json::to_string(&PlanId::from("p")).unwrap(), "\"p\"");
    }
}
