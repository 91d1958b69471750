//! The closed vocabularies of the contract (`contracts/kafka.md §5`, `§6`).
//!
//! The enums are exhaustive on purpose: a word more is a new schema, and every place that decides by it must be looked at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;

/// A word that the vocabulary does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not a {vocabulary}; known: {known}")]
pub struct UnknownWord {
    /// Name of the vocabulary, for example `task type`.
    pub vocabulary: &'static str,
    /// What was found, escaped and cut to 80 characters.
    pub found: String,
    /// The known words, separated by commas.
    pub known: String,
}

macro_rules! vocabulary {
    (
        $(#[$meta:meta])*
        $name:ident, $avro:literal, $what:literal,
        { $($(#[$variant_meta:meta])* $variant:ident => $text:literal,)+ }
        aliases { $($alias:literal => $target:ident,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every word, in the order of the schema.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word as it is on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            /// Case does not matter: legacy producers write other case in JSON (`contracts/kafka.md §5.1`).
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $(if text.eq_ignore_ascii_case($text) {
                    return Ok(Self::$variant);
                })+
                $(if text.eq_ignore_ascii_case($alias) {
                    return Ok(Self::$target);
                })*
                Err(UnknownWord { vocabulary: $what, found: excerpt(text), known: [$($text),+].join(", ") })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // A unit variant rather than a string: Avro needs it, JSON writes the same text.
                serializer.serialize_unit_variant($avro, *self as u32, self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

vocabulary! {
    /// Kind of work; selects the executor.
    TaskType, "TaskType", "task type",
    {
        /// Build an artifact through Code Forge.
        Build => "BUILD",
        /// Deploy by GitOps.
        Deploy => "DEPLOY",
        /// Run tests.
        Test => "TEST",
        /// Check a policy or scan code.
        Validate => "VALIDATE",
        /// Run a command, container or function.
        Execute => "EXECUTE",
        /// Undo another ticket.
        Compensate => "COMPENSATE",
        /// Read data.
        Query => "QUERY",
        /// Convert data.
        Transform => "TRANSFORM",
    }
    // Names of older producers (`contracts/kafka.md §5.1`). `create` and `update` are not among them: nobody says
    // what they would mean, so they fail with a clear message (INC-89).
    aliases {
        "analyze" => Query,
        "generate" => Execute,
        "code_generation" => Execute,
        "review" => Validate,
        "validate_legacy" => Validate,
    }
}

vocabulary! {
    /// Life cycle of a ticket as the platform sees it.
    TicketStatus, "TicketStatus", "ticket status",
    {
        /// Asks for work.
        Pending => "PENDING",
        /// Work has started.
        Running => "RUNNING",
        /// Work reached its goal.
        Completed => "COMPLETED",
        /// Work ended without reaching its goal.
        Failed => "FAILED",
        /// The work is being undone.
        Compensating => "COMPENSATING",
        /// The work has been undone.
        Compensated => "COMPENSATED",
    }
    aliases {}
}

vocabulary! {
    /// Scheduling priority.
    Priority, "Priority", "priority",
    {
        /// Below the rest.
        Low => "LOW",
        /// The default.
        Normal => "NORMAL",
        /// Before normal work.
        High => "HIGH",
        /// Before everything else.
        Critical => "CRITICAL",
    }
    aliases {}
}

impl Priority {
    /// Reads the legacy number 1–10 (`contracts/kafka.md §5.1`): up to 2 is `LOW`, 5 `NORMAL`, 8 `HIGH`, else
    /// `CRITICAL`. `None` outside 1–10.
    #[must_use]
    pub fn from_legacy_number(number: i64) -> Option<Self> {
        match number {
            1..=2 => Some(Self::Low),
            3..=5 => Some(Self::Normal),
            6..=8 => Some(Self::High),
            9..=10 => Some(Self::Critical),
            _ => None,
        }
    }
}

vocabulary! {
    /// Risk class of a plan. Lower case on the wire.
    RiskBand, "RiskBand", "risk band",
    {
        /// Little to lose.
        Low => "low",
        /// The default.
        Medium => "medium",
        /// Much to lose.
        High => "high",
        /// Very much to lose.
        Critical => "critical",
    }
    aliases {}
}

vocabulary! {
    /// Classification of the data a ticket touches.
    SecurityLevel, "SecurityLevel", "security level",
    {
        /// Anyone may see it.
        Public => "PUBLIC",
        /// The default.
        Internal => "INTERNAL",
        /// Need to know.
        Confidential => "CONFIDENTIAL",
        /// Strictly limited.
        Restricted => "RESTRICTED",
    }
    aliases {}
}

vocabulary! {
    /// How often the work may happen.
    DeliveryMode, "DeliveryMode", "delivery mode",
    {
        /// Rather not at all than twice.
        AtMostOnce => "AT_MOST_ONCE",
        /// Rather twice than not at all.
        AtLeastOnce => "AT_LEAST_ONCE",
        /// Once, as far as the provider lets us know.
        ExactlyOnce => "EXACTLY_ONCE",
    }
    aliases {}
}

vocabulary! {
    /// Consistency of what the work reads and writes.
    Consistency, "Consistency", "consistency",
    {
        /// Eventually consistent.
        Eventual => "EVENTUAL",
        /// Strongly consistent.
        Strong => "STRONG",
    }
    aliases {}
}

vocabulary! {
    /// Whether an outcome must survive restarts.
    Durability, "Durability", "durability",
    {
        /// It need not.
        Transient => "TRANSIENT",
        /// It must.
        Persistent => "PERSISTENT",
    }
    aliases {}
}

vocabulary! {
    /// State that a result reports. `PREEMPTED` and `CANCELLED` are not legal (INC-11).
    ExecutionStatus, "ExecutionStatus", "execution status",
    {
        /// The work reached its goal.
        Completed => "COMPLETED",
        /// The work did not reach its goal.
        Failed => "FAILED",
        /// Progress; not final.
        Running => "RUNNING",
    }
    aliases {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_89_types_are_read_in_any_case_and_create_is_unknown() {
        for task_type in TaskType::ALL {
            assert_eq!(task_type.as_str().to_lowercase().parse(), Ok(*task_type));
            assert_eq!(task_type.as_str().parse(), Ok(*task_type));
        }
        for (alias, target) in [
            ("analyze", TaskType::Query),
            ("Generate", TaskType::Execute),
            ("code_generation", TaskType::Execute),
            ("review", TaskType::Validate),
            ("validate_legacy", TaskType::Validate),
        ] {
            assert_eq!(alias.parse(), Ok(target));
        }
        for unknown in ["create", "update", "", "BUILD "] {
            let error = unknown.parse::<TaskType>().unwrap_err();
            assert!(error.to_string().contains("known: BUILD"), "{error}");
        }
    }

    #[test]
    fn legacy_numbers_map_to_priorities() {
        let names: Vec<_> = (0..=11).map(Priority::from_legacy_number).collect();
        use Priority::*;
        assert_eq!(
            names,
            [
                None,
                Some(Low),
                Some(Low),
                Some(Normal),
                Some(Normal),
                Some(Normal),
                Some(High),
                Some(High),
                Some(High),
                Some(Critical),
                Some(Critical),
                None
            ]
        );
    }

    #[test]
    fn words_travel_as_json_strings() {
        assert_eq!(serde_json::to_string(&RiskBand::Medium).unwrap(), "\"medium\"");
        assert_eq!(serde_json::from_str::<RiskBand>("\"MEDIUM\"").unwrap(), RiskBand::Medium);
    }
}
