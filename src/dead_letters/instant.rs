//! Points in time, as people type them and as the platform writes them.

use chrono::{DateTime, SecondsFormat, Utc};

/// A point in time, epoch milliseconds: RFC 3339 (`2026-03-16T09:30:00Z`), or how long ago (`90s`, `30m`, `2h`, `7d`).
///
/// # Errors
/// What is expected.
pub fn parse_instant(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Some(ago) = ago_ms(text) {
        return Ok(now_ms.saturating_sub(ago));
    }
    DateTime::parse_from_rfc3339(text).map(|instant| instant.timestamp_millis()).map_err(|_| {
        format!("{text:?} is no time: use RFC 3339 (2026-03-16T09:30:00Z) or how long ago (90s, 30m, 2h, 7d)")
    })
}

fn ago_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_ms = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| i64::from(number) * unit_ms)
}

/// Epoch milliseconds as UTC ISO 8601 with `Z`; `None` for what is out of its range.
#[must_use]
pub fn format_instant(epoch_ms: i64) -> Option<String> {
    DateTime::<Utc>::from_timestamp_millis(epoch_ms).map(|instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_773_655_200_420;

    #[test]
    fn times_are_absolute_or_ago() {
        for (text, expected) in [
            ("2026-03-16T10:00:00.420Z", NOW),
            ("2026-03-16T11:00:00.420+01:00", NOW),
            ("0s", NOW),
            ("90s", NOW - 90_000),
            ("2h", NOW - 7_200_000),
            ("7d", NOW - 604_800_000),
        ] {
            assert_eq!(parse_instant(text, NOW), Ok(expected), "{text}");
        }
        for text in ["", "h", "2", "-2h", "2 h", "2w", "2h30m", "yesterday", "2026-03-16", "é"] {
            assert!(parse_instant(text, NOW).is_err_and(|error| error.contains("RFC 3339")), "{text}");
        }
        assert_eq!(format_instant(NOW).as_deref(), Some("2026-03-16T10:00:00.420Z"));
        assert_eq!(format_instant(i64::MAX), None);
    }
}
