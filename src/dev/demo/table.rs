//! The demo's table: ticket, status, duration, evidence.

use super::DeadLetter;
use crate::cli::Followed;
use crate::config::TemporalConfig;

/// Longest text in a column, in characters.
const MAX_COLUMN: usize = 72;

/// One line.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) ticket_id: Option<String>,
    pub(super) status: String,
    pub(super) duration_ms: Option<i64>,
    pub(super) evidence: String,
    pub(super) expected: bool,
}

/// What ran and what it answered, or the error code.
pub(super) fn evidence(followed: &Followed, code: Option<&str>) -> String {
    let said = followed.evidence();
    match (code, said) {
        (Some(code), Some(said)) => format!("{code} · {said}"),
        (Some(code), None) => code.to_owned(),
        (None, said) => said.unwrap_or_default(),
    }
}

pub(super) fn print(rows: &[Row], temporal: &TemporalConfig, dead_letters: &[DeadLetter]) {
    println!();
    println!("  {:<38} {:<12} {:>9}  evidence", "ticket", "status", "duration");
    for row in rows {
        let duration = row.duration_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        let mark = if row.expected { "✓" } else { "✗ NOT AS EXPECTED" };
        println!("{mark} {:<38} {:<12} {duration:>9}  {}", row.name, row.status, short(&row.evidence));
        if let Some(url) = row.ticket_id.as_deref().and_then(|ticket_id| temporal.ticket_url(ticket_id)) {
            println!("    {url}");
        }
    }
    println!("\n  in the dead-letter topic:");
    for letter in dead_letters {
        println!("    {:<22} {:<38} {}", letter.code, letter.ticket_id, short(&letter.error));
    }
    let met = rows.iter().filter(|row| row.expected).count();
    println!("\n{met} of {} outcomes are the expected ones", rows.len());
}

fn short(text: &str) -> String {
    if text.chars().count() <= MAX_COLUMN {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(MAX_COLUMN - 1).collect::<String>())
}
