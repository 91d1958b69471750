//! `docs/ticket-states.md` says what the code does: it is written by the code.

#[path = "support/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use ticket_workflows::Row;

fn document(rows: &BTreeSet<Row>) -> String {
    let mut edges: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state != row.next) {
        edges.entry((row.state, row.next)).or_default().insert(row.event);
    }
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n```mermaid\nstateDiagram-v2\n    [*] --> received\n");
    for ((from, to), events) in &edges {
        let events: Vec<_> = events.iter().map(|event| event.replace(": ", " ")).collect();
        writeln!(text, "    {from} --> {to}: {}", events.join(" / ")).expect("a text");
    }
    text.push_str("    closed --> [*]\n```\n\n## All rows\n\n");
    text.push_str("| state | event | what is done | next state |\n|---|---|---|---|\n");
    for Row { state, event, command, next } in rows {
        writeln!(text, "| `{state}` | {event} | {command} | `{next}` |").expect("a text");
    }
    text
}

const INTRODUCTION: &str = "\
# States of a ticket

This page is written by the code: `tests/ticket_states.rs` tries every kind of event in every situation that events can
lead to, and fails when the page says something else (`WRITE_DOCS=1 cargo test --locked --workspace --test ticket_states`
writes it anew). Events that change neither the state nor what is done are not listed; the machine ignores them.

What each state waits for, and until when, is in [running.md](operations/running.md); the machine is
`workflows/src/machine.rs`.
";

#[test]
fn the_page_of_states_says_what_the_machine_does() {
    let written = document(&table::rows());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ticket-states.md");
    #[expect(clippy::disallowed_methods, reason = "a wish of whoever runs the test, no setting of the product")]
    let wanted = std::env::var_os("WRITE_DOCS").is_some();
    if wanted {
        std::fs::write(&page, &written).expect("written");
    }
    let page = std::fs::read_to_string(&page).expect("docs/ticket-states.md");
    assert!(page == written, "docs/ticket-states.md is not what the machine does; run this test with WRITE_DOCS=1");
}
