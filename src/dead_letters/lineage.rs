//! Where a re-driven record comes from and how often that has happened: headers that survive another dead-lettering,
//! because a dead letter keeps its record's headers.
//!
//! Invariant: lineage headers stand first in a record, so that a bound on headers never cuts the count.

use super::letter::Headers;
use crate::bridge::REDRIVE_HEADER;

/// How often the record was re-driven, this time included.
pub const COUNT_HEADER: &str = "x-neural-hive-redrive-count";
/// The dead letter that it was re-driven from.
pub const LETTER_HEADER: &str = "x-neural-hive-redrive-letter";
/// The record that was dead-lettered first.
pub const ORIGIN_HEADER: &str = "x-neural-hive-redrive-origin";
/// Who re-drove it.
pub const BY_HEADER: &str = "x-neural-hive-redrive-by";
/// All of these begin so.
const PREFIX: &str = "x-neural-hive-redrive-";
/// Re-drives of one record before another is refused: who has tried three times does not know the cause.
pub const DEFAULT_MAX_REDRIVES: u32 = 3;

/// The lineage of a record that is published again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Id of the re-drive; one for all records of a command.
    pub id: String,
    /// How often the record was re-driven, this time included.
    pub count: u32,
    /// Position of the dead letter.
    pub letter: String,
    /// Position of the record that was dead-lettered first, if it is known.
    pub origin: Option<String>,
    /// Who.
    pub by: String,
}

impl Lineage {
    /// The headers of the record that is published: the lineage, then what else the original had.
    #[must_use]
    pub fn on(&self, original: &Headers) -> Headers {
        let own = [
            (REDRIVE_HEADER, Some(self.id.clone())),
            (COUNT_HEADER, Some(self.count.to_string())),
            (LETTER_HEADER, Some(self.letter.clone())),
            (ORIGIN_HEADER, self.origin.clone()),
            (BY_HEADER, Some(self.by.clone())),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Some(value?.into_bytes()))));
        own.chain(original.iter().filter(|(name, _)| !is_lineage(name)).cloned()).collect()
    }
}

/// How often a record with these headers was re-driven. What is no number counts nothing.
#[must_use]
pub fn redrive_count(headers: &Headers) -> u32 {
    texts(headers, COUNT_HEADER).filter_map(|text| text.parse().ok()).max().unwrap_or(0)
}

/// The header's values that are text.
pub(super) fn texts<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
        .filter_map(|(_, value)| std::str::from_utf8(value.as_deref()?).ok())
}

fn is_lineage(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
        (name.to_owned(), Some(value.into()))
    }

    #[test]
    fn lineage_stands_first_and_replaces_that_of_an_earlier_time() {
        let lineage = Lineage {
            id: "id".to_owned(),
            count: 2,
            letter: "execution.tickets.dlq/0@17".to_owned(),
            origin: Some("execution.tickets/3@11".to_owned()),
            by: "ops@host".to_owned(),
        };
        let original = vec![
            header("traceparent", "00-1"),
            header("X-Neural-Hive-Redrive-Count", "1"),
            header(REDRIVE_HEADER, "old"),
            ("empty".to_owned(), None),
            header("x-neural-hive-plan-id", "plan"),
        ];
        let names: Vec<String> = lineage.on(&original).into_iter().map(|(name, _)| name).collect();
        let expected = [
            REDRIVE_HEADER,
            COUNT_HEADER,
            LETTER_HEADER,
            ORIGIN_HEADER,
            BY_HEADER,
            "traceparent",
            "empty",
            "x-neural-hive-plan-id",
        ];
        assert_eq!(names, expected);
        assert_eq!(redrive_count(&lineage.on(&original)), 2);
        assert_eq!(lineage.on(&lineage.on(&original)), lineage.on(&original));
    }

    #[test]
    fn the_highest_readable_count_counts() {
        for (values, expected) in
            [(vec![], 0), (vec!["2"], 2), (vec!["1", "3"], 3), (vec!["-1", "many", ""], 0), (vec!["99999999999"], 0)]
        {
            let headers = values.iter().map(|value| header("X-NEURAL-HIVE-REDRIVE-COUNT", value)).collect();
            assert_eq!(redrive_count(&headers), expected, "{values:?}");
        }
    }
}
