//! Which dead letters are meant.

use std::str::FromStr;

use super::letter::Letter;

/// A dead letter by its position: `PARTITION/OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(partition, offset)| {
            let (partition, offset) = (partition.parse::<u16>().ok()?, offset.parse::<u64>().ok()?);
            Some(Self { partition: i32::from(partition), offset: i64::try_from(offset).ok()? })
        });
        parsed.ok_or_else(|| "expected PARTITION/OFFSET, such as 0/17 (`dlq list` shows them)".to_owned())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// Conditions on dead letters; one that names nothing admits all. Texts are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Error codes, or (for the platform's records) classes of errors.
    pub codes: Vec<String>,
    /// Task types.
    pub task_types: Vec<String>,
    /// Ticket ids, exactly.
    pub tickets: Vec<String>,
    /// Written at this time or later, epoch milliseconds.
    pub since_ms: Option<i64>,
    /// Written before this time, epoch milliseconds.
    pub until_ms: Option<i64>,
}

impl Selection {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it admits a dead letter.
    #[must_use]
    pub fn admits(&self, letter: &Letter) -> bool {
        let among = |wanted: &[String], found: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        let class = letter.content.as_ref().ok().and_then(|record| record.error_type());
        (among(&self.codes, letter.code()) || class.is_some_and(|class| among(&self.codes, class)))
            && among(&self.task_types, letter.task_type())
            && (self.tickets.is_empty() || self.tickets.iter().any(|wanted| wanted == letter.ticket_id()))
            && self.since_ms.is_none_or(|since| letter.written_at_ms.is_some_and(|written| written >= since))
            && self.until_ms.is_none_or(|until| letter.written_at_ms.is_some_and(|written| written < until))
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{NORMAL, UNDECODABLE, letter};
    use super::*;

    const WRITTEN: i64 = 1_773_655_201_000;
    const TICKET: &str = "b48b8f01-cdc1-506e-81c1-0be644e6096e";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn each_condition_admits_and_refuses() {
        let all = Selection::default();
        let normal = letter(1, NORMAL);
        for (selection, admitted) in [
            (all.clone(), true),
            (Selection { codes: texts(&["timeouterror", "x"]), ..all.clone() }, true),
            (Selection { codes: texts(&["x"]), ..all.clone() }, false),
            (Selection { task_types: texts(&["test"]), ..all.clone() }, true),
            (Selection { task_types: texts(&["BUILD"]), ..all.clone() }, false),
            (Selection { tickets: texts(&[TICKET]), ..all.clone() }, true),
            (Selection { tickets: texts(&[&TICKET.to_uppercase()]), ..all.clone() }, false),
            (Selection { since_ms: Some(WRITTEN), ..all.clone() }, true),
            (Selection { since_ms: Some(WRITTEN + 1), ..all.clone() }, false),
            (Selection { until_ms: Some(WRITTEN), ..all.clone() }, false),
            (Selection { until_ms: Some(WRITTEN + 1), ..all.clone() }, true),
            (Selection { codes: texts(&["TimeoutError"]), task_types: texts(&["BUILD"]), ..all.clone() }, false),
        ] {
            assert_eq!(selection.admits(&normal), admitted, "{selection:?}");
        }
        let unknown = Selection { tickets: texts(&["unknown"]), ..all.clone() };
        assert!(unknown.admits(&letter(1, UNDECODABLE)) && unknown.admits(&letter(1, b"garbage")));
        assert!(Selection { codes: texts(&["dlq_unreadable"]), ..all }.admits(&letter(1, b"garbage")));
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!("0/17".parse(), Ok(Place { partition: 0, offset: 17 }));
        for text in ["", "17", "/", "0/", "/1", "-1/2", "0/-2", "0/1/2", "a/b", "0/99999999999999999999"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
