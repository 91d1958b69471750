//! The Markdown that the Temporal UI shows as a ticket's current details: what it does, since when, until when.

use std::fmt::Write as _;

use crate::machine::{Machine, State, Verdict};
use crate::waiting::Wait;

/// Renders the details. Ticket content is quoted as code and bounded; it cannot break out of the Markdown.
pub(crate) fn current_details(machine: &Machine) -> String {
    let mut text = match machine.state() {
        State::Received => "Received; nothing decided yet.".to_owned(),
        State::Registering { since_ms } => {
            format!("**Asking** the tickets it depends on how they stand, since {}.", utc(*since_ms))
        }
        State::Parked { since_ms, until_ms, waiting_for, count } => {
            let named = waiting_for.iter().map(|id| quoted(id)).collect::<Vec<_>>().join(", ");
            let more = count.saturating_sub(waiting_for.len());
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let (since, until) = (utc(*since_ms), utc(*until_ms));
            format!(
                "**Waiting for dependencies** since {since}: {named}{more}. They tell when they end; it looks again at {until}."
            )
        }
        State::Collecting { since_ms } => {
            format!("**Fetching outputs** of the tickets it depends on since {}.", utc(*since_ms))
        }
        State::Executing { attempt, since_ms } => {
            format!("**Executing** attempt {attempt} of {} since {}.", machine.max_attempts(), utc(*since_ms))
        }
        State::Stopping { attempt, since_ms, reason } => {
            format!("**Stopping** attempt {attempt} since {}: {}.", utc(*since_ms), quoted(reason))
        }
        State::RetryWait { attempt, since_ms, until_ms, code } => format!(
            "**Waiting to retry**: attempt {attempt} of {} ended with `{code}` at {}; the next one starts at {}.",
            machine.max_attempts(),
            utc(*since_ms),
            utc(*until_ms)
        ),
        State::Paused { since_ms, until_ms, attempt, .. } => {
            let until = until_ms.map(|ms| format!("; its deadline ends it at {}", utc(ms))).unwrap_or_default();
            format!("**Paused** since {}: attempt {attempt} begins when it is resumed{until}.", utc(*since_ms))
        }
        State::Reporting { since_ms } => format!("**Reporting** the result since {}.", utc(*since_ms)),
        State::ReportStuck { since_ms, owed } => {
            let owed = owed.iter().map(|peer| format!("`{}`", peer.as_str())).collect::<Vec<_>>().join(", ");
            format!("**Report stuck** since {}; still owed: {owed}. It goes on being tried.", utc(*since_ms))
        }
        State::Closed => "**Closed**; the result is published.".to_owned(),
    };
    if let Some(wait) = Wait::now(machine) {
        let _ = write!(text, "\n\nThis ends with {}.", wait.unblocked_by);
    }
    match machine.verdict() {
        Some(Verdict::Completed(completed)) => {
            let _ = write!(text, "\n\nCompleted: {}", quoted(&completed.evidence.to_string()));
        }
        Some(Verdict::Failed(failed) | Verdict::Cancelled(failed)) => {
            let _ = write!(text, "\n\nFailed with `{}`: {}", failed.code, quoted(&failed.message));
        }
        None => {}
    }
    if machine.is_paused() && !matches!(machine.state(), State::Paused { .. }) {
        text.push_str("\n\n**Paused**: no other attempt begins until it is resumed.");
    }
    if let Some(last) = machine.orders().last() {
        let (verb, by, why) = (last.order.verb.as_str(), quoted(&last.order.by), quoted(&last.order.why));
        let _ = write!(text, "\n\nLast order: {verb}, by {by} at {}: {why}", utc(last.at_ms));
    }
    if let Some(deadline_ms) = machine.deadline_ms() {
        let _ = write!(text, "\n\nDeadline: {}.", utc(deadline_ms));
    }
    text
}

/// Inline code of at most 300 bytes that its content cannot end.
fn quoted(content: &str) -> String {
    let cleaned: String = content
        .chars()
        .map(|c| {
            if c == '`' {
                '\''
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect();
    format!("`{}`", crate::outcome::bounded(cleaned, 300))
}

/// `2026-03-16 09:30:00.000 UTC`. Civil date from days since the epoch, proleptic Gregorian.
fn utc(epoch_ms: i64) -> String {
    let (days, ms_of_day) = (epoch_ms.div_euclid(86_400_000), epoch_ms.rem_euclid(86_400_000));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (seconds, ms) = (ms_of_day / 1_000 % 60, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{ms:03} UTC")
}

#[cfg(test)]
mod tests {
    use super::{quoted, utc};

    #[test]
    fn times_are_civil_utc() {
        for (epoch_ms, expected) in [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (1_773_653_400_000, "2026-03-16 09:30:00.000 UTC"),
            (951_782_399_999, "2000-02-28 23:59:59.999 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00.000 UTC"),
            (-1, "1969-12-31 23:59:59.999 UTC"),
        ] {
            assert_eq!(utc(epoch_ms), expected);
        }
    }

    #[test]
    fn content_cannot_break_out_of_its_quotes() {
        assert_eq!(quoted("a`b\n# c"), "`a'b # c`");
        assert!(quoted(&"x".repeat(5_000)).len() <= 302);
    }
}
