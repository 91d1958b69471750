//! Invariant: every change to workflow code replays the histories of all released versions.
//!
//! `tests/histories/<version>/` holds one history for each way a ticket can go, recorded from a server with
//! `cargo run --example record_history`. Files are added with each release and never changed. `tests/histories/red/` holds
//! histories that must come back red, `tests/histories/examples/` those of the workflows in this folder.
//! docs/changing-the-workflow.md says how a workflow is changed.

mod alterations;
mod altered;
mod asked;
mod changing;
mod commands;
mod comparison;
#[cfg(feature = "dev-stack")]
#[path = "../support/dev_server.rs"]
mod dev_server;
mod endings;
mod everything;
mod evicted;
mod gate;
mod history;
mod parcel;
mod recorder;
mod red;
mod server;

use ticket_workflows::{TicketWaiters, TicketWorkflow};

use crate::gate::{Code, code, verdict};
use crate::history::{Recording, files};

/// The code of today.
const TICKETS: Code = code!(TicketWorkflow, TicketWaiters);

#[tokio::test]
async fn every_recorded_history_replays() {
    let files = files(None);
    assert!(files.len() >= 20, "histories are missing: {files:?}");
    let mut red = Vec::new();
    for file in files {
        if let Some(verdict) = verdict(TICKETS, &Recording::read(&file)).await {
            red.push(format!("{}:\n{verdict}", file.display()));
        }
    }
    assert!(red.is_empty(), "{}", red.join("\n\n"));
}
