//! Whether clocks agree. Without I/O: peers tell their time, or something that shows a part of it.

use std::time::{Duration, SystemTime};

use super::finding::{Check, Finding};
use crate::bridge::decision::CLOCK_SKEW_MARGIN;

/// What somebody's clock shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// The time, as told in an answer.
    Tells {
        /// Who.
        who: &'static str,
        /// Their time.
        theirs: SystemTime,
        /// Ours, when it was asked and when it was answered.
        ours: (SystemTime, SystemTime),
    },
    /// A time in their past: it shows only whether they are ahead.
    NotBefore {
        /// Who.
        who: &'static str,
        /// Their time.
        theirs: SystemTime,
        /// Ours, after it was asked for.
        ours: SystemTime,
    },
    /// Whether somebody is ahead.
    Ahead {
        /// Who.
        who: &'static str,
        /// More than the margin.
        ahead: bool,
    },
}

impl Sight {
    fn who(&self) -> &'static str {
        match self {
            Self::Tells { who, .. } | Self::NotBefore { who, .. } | Self::Ahead { who, .. } => who,
        }
    }

    /// In words, when it shows a difference above the margin.
    fn skew(&self) -> Option<String> {
        // Headers have whole seconds.
        let margin = CLOCK_SKEW_MARGIN + Duration::from_secs(1);
        let ahead = |theirs: SystemTime, ours: SystemTime| theirs.duration_since(ours).ok().filter(|by| *by > margin);
        match self {
            Self::Tells { who, theirs, ours: (asked, answered) } => ahead(*theirs, *answered)
                .map(|by| format!("{who} is {} s ahead of this machine", by.as_secs()))
                .or_else(|| {
                    ahead(*asked, *theirs).map(|by| format!("{who} is {} s behind this machine", by.as_secs()))
                }),
            Self::NotBefore { who, theirs, ours } => {
                ahead(*theirs, *ours).map(|by| format!("{who} is {} s or more ahead of this machine", by.as_secs()))
            }
            Self::Ahead { who, ahead } => {
                ahead.then(|| format!("{who} is more than {} s ahead of this machine", CLOCK_SKEW_MARGIN.as_secs()))
            }
        }
    }
}

/// Judges what was seen.
pub(super) fn judge(sights: &[Sight]) -> Finding {
    let skews: Vec<_> = sights.iter().filter_map(Sight::skew).collect();
    let margin = CLOCK_SKEW_MARGIN.as_secs();
    if !skews.is_empty() {
        return Finding::failed(
            Check::Clock,
            format!("clocks differ by more than {margin} s: {}", skews.join(", ")),
            "set the clocks right (NTP): of this machine, of the peer named, or of whoever produces tickets",
        );
    }
    let names = |only_ahead: bool| {
        let chosen = sights.iter().filter(|sight| matches!(sight, Sight::Tells { .. }) != only_ahead);
        chosen.map(Sight::who).collect::<Vec<_>>().join(", ")
    };
    match (names(false), names(true)) {
        (told, seen) if told.is_empty() && seen.is_empty() => Finding::unknown(
            Check::Clock,
            "no peer showed its clock",
            "compare the clocks of this machine, Temporal and the producers by hand",
        ),
        (told, seen) if told.is_empty() => {
            Finding::ok(Check::Clock, format!("not ahead of this machine by more than {margin} s: {seen}"))
        }
        (told, seen) if seen.is_empty() => {
            Finding::ok(Check::Clock, format!("within {margin} s of this machine's clock: {told}"))
        }
        (told, seen) => Finding::ok(
            Check::Clock,
            format!("within {margin} s of this machine's clock: {told}; not ahead of it by more: {seen}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn at(seconds: i64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(1_000_000 + seconds).expect("time"))
    }

    #[test]
    fn a_clock_outside_of_the_margin_is_told_with_its_direction() {
        let tells = |theirs| Sight::Tells { who: "the registry", theirs: at(theirs), ours: (at(0), at(2)) };
        let seen = |theirs| Sight::NotBefore { who: "Temporal", theirs: at(theirs), ours: at(0) };
        let records = |ahead| Sight::Ahead { who: "a producer", ahead };
        for (sight, expected) in [
            (tells(0), None),
            (tells(33), None),
            (tells(34), Some("the registry is 32 s ahead")),
            (tells(-31), None),
            (tells(-32), Some("the registry is 32 s behind")),
            (seen(31), None),
            (seen(32), Some("Temporal is 32 s or more ahead")),
            (seen(-3600), None),
            (records(false), None),
            (records(true), Some("a producer is more than 30 s ahead")),
        ] {
            let finding = judge(&[sight.clone(), records(false)]);
            assert_eq!(finding.state == State::Failed, expected.is_some(), "{sight:?}");
            assert!(finding.what.contains(expected.unwrap_or("this machine")), "{}", finding.what);
        }
    }

    #[test]
    fn without_anything_seen_nothing_is_known() {
        assert_eq!(judge(&[]).state, State::Unknown);
    }
}
