//! The protocol against a provider in memory, on a clock that costs nothing: every way to recognise work, every fault at
//! every step, every interruption. Registered providers go through `tests/conformance` as well, over real connections.

mod endpoints;
mod fake;
mod follow;
mod interruptions;
mod janitor;
mod lost_answers;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ticket_schemas::decode_json_ticket;
use ticket_workflows::{Completed, Failed, Outcome};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::executor::Progress;

/// A first attempt at a ticket of this id, with a minute of time.
pub(super) fn job(ticket_id: &str) -> Job {
    let ticket = json!({
        "ticket_id": ticket_id, "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
        "parameters": {},
    });
    Job::first(decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket"))
}

/// The same attempt on the next worker, which reads what the last one told.
fn next_worker(job: &Job) -> Job {
    let recorded = job.progress.get();
    Job {
        lost_workers: job.lost_workers + 1,
        recorded,
        stop: CancellationToken::new(),
        detach: CancellationToken::new(),
        progress: Progress::default(),
        ..job.clone()
    }
}

fn completed(outcome: Outcome) -> Completed {
    match outcome {
        Outcome::Completed(completed) => completed,
        Outcome::Failed(failed) => panic!("{failed:?}"),
    }
}

fn failed(outcome: Outcome) -> Failed {
    match outcome {
        Outcome::Completed(completed) => panic!("{completed:?}"),
        Outcome::Failed(failed) => failed,
    }
}
