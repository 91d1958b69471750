//! What the machine is told, what it answers, and the states it can be in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::dependencies::{DependencyOutcome, DependencyState, Registered};
use crate::execution::ExecuteResponse;
use crate::orders::Order;
use crate::outcome::{Completed, Failed};
use crate::ticket_service::Owed;

/// What a ticket is doing. Every wait says since when, and until when if that is known (epoch milliseconds).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Started, nothing decided yet.
    Received,
    /// The tickets it depends on are being asked how they stand.
    Registering {
        /// When the wait for dependencies began.
        since_ms: i64,
    },
    /// It waits for tickets it depends on and holds nothing.
    Parked {
        /// When the wait for dependencies began.
        since_ms: i64,
        /// When to look again if none of them tells, or the wait ends.
        until_ms: i64,
        /// Some of those it waits for.
        waiting_for: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// All it depends on have completed; outputs that its parameters refer to are being fetched.
    Collecting {
        /// Since when.
        since_ms: i64,
    },
    /// An attempt is scheduled or runs.
    Executing {
        /// Attempt number, from 1.
        attempt: u32,
        /// When it was scheduled.
        since_ms: i64,
    },
    /// An attempt is being stopped because the ticket was cancelled.
    Stopping {
        /// The attempt being stopped.
        attempt: u32,
        /// When the stop was asked for.
        since_ms: i64,
        /// Why.
        reason: String,
    },
    /// A failed attempt will be repeated.
    RetryWait {
        /// The attempt that failed.
        attempt: u32,
        /// When it failed.
        since_ms: i64,
        /// When the next one starts.
        until_ms: i64,
        /// Its error code.
        code: String,
    },
    /// The next attempt waits until somebody resumes the ticket. It holds nothing.
    Paused {
        /// Since when.
        since_ms: i64,
        /// When an enforced deadline ends the ticket.
        until_ms: Option<i64>,
        /// The attempt that waits.
        attempt: u32,
        /// The retry that it is, if the attempt before it failed.
        retry: Option<RetryAt>,
    },
    /// The outcome is known and is being published.
    Reporting {
        /// When the outcome was known.
        since_ms: i64,
    },
    /// The outcome is known, and a peer has been keeping it from being reported for long.
    ReportStuck {
        /// When the outcome was known.
        since_ms: i64,
        /// To whom it was owed when that was noticed.
        owed: BTreeSet<Owed>,
    },
    /// It has failed, its result is published, and the ticket that undoes what it did is being created.
    CreatingCompensation {
        /// Since when.
        since_ms: i64,
        /// Which try at undoing it this is, from 1.
        attempt: u32,
        /// The ticket that undoes it.
        ticket_id: String,
    },
    /// The ticket that undoes it is waited for.
    Compensating {
        /// Since that ticket was created.
        since_ms: i64,
        /// When to look how it stands if it does not tell.
        until_ms: i64,
        /// Which try at undoing it this is, from 1.
        attempt: u32,
        /// The ticket that undoes it.
        ticket_id: String,
    },
    /// The ticket that should have undone it has failed: somebody is to say what happens.
    CompensationFailed {
        /// Since when.
        since_ms: i64,
        /// Which try at undoing it this was, from 1.
        attempt: u32,
        /// The ticket that failed.
        ticket_id: String,
        /// Its error code.
        code: String,
    },
    /// What became of the compensation is being told.
    SettlingCompensation {
        /// Since when.
        since_ms: i64,
    },
    /// Published.
    Closed,
}

impl State {
    /// Predecessors that a parked ticket names; there may be thousands.
    pub const MOST_NAMED: usize = 20;
}

/// A retry that a paused ticket would have waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryAt {
    /// When the attempt before it failed, epoch milliseconds.
    pub failed_at_ms: i64,
    /// Not before this time, epoch milliseconds.
    pub at_ms: i64,
    /// The error code of the attempt before it.
    pub code: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The workflow runs for the first time.
    Admitted,
    /// The registration answered.
    Registered(Registered),
    /// A predecessor told how it ended.
    PredecessorEnded(DependencyOutcome),
    /// The ticket's parameters are complete.
    Collected {
        /// Bytes of the ticket, if outputs were filled in.
        filled_bytes: Option<usize>,
    },
    /// They cannot be completed, and why.
    NotCollected(String),
    /// The executor answered.
    Answered(Box<ExecuteResponse>),
    /// The server ended the attempt: it outlived its time-out without an answer.
    TimedOut,
    /// The attempt ended because it was told to stop, without an answer.
    Stopped,
    /// The activity broke in a way that no retry mends (a panic, an unreadable answer).
    Broken(String),
    /// The wait for a retry is over.
    WaitOver,
    /// Somebody cancelled the workflow.
    CancelRequested(String),
    /// An operator orders something.
    Ordered(Order),
    /// The attempt had not been scheduled when orders came: it is stopped, or begins as they want it.
    Unbegun,
    /// The grace is over, and the executor has not confirmed that the work has stopped.
    GraceOver,
    /// Reports are owed for too long, to these.
    ReportOverdue(BTreeSet<Owed>),
    /// The result is published.
    Published,
    /// The compensation ticket is created.
    CompensationCreated,
    /// How the compensation ticket stands.
    CompensationStands(DependencyState),
    /// What became of the compensation is told.
    CompensationSettled,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Start this attempt.
    Execute {
        /// Attempt number, from 1.
        attempt: u32,
        /// Time it may run, in milliseconds.
        timeout_ms: u64,
    },
    /// Ask about these predecessors, and see to it that they tell.
    Register {
        /// Ticket ids.
        dependencies: Vec<String>,
    },
    /// Wait for predecessors to tell, holding nothing.
    Park {
        /// Until then, epoch milliseconds.
        until_ms: i64,
    },
    /// Fetch the outputs that the parameters refer to, and fill them in.
    Collect,
    /// Stop the running attempt and wait until it has ended.
    Stop,
    /// Wait, holding nothing.
    Wait {
        /// Milliseconds from now.
        for_ms: u64,
    },
    /// Wait until somebody resumes the ticket, holding nothing.
    Hold {
        /// Until then, epoch milliseconds; `None`: for as long as it takes.
        until_ms: Option<i64>,
    },
    /// Publish the verdict.
    Publish,
    /// Create the ticket that undoes this one.
    Compensate {
        /// Which try this is, from 1.
        attempt: u32,
        /// Whether it was created before, and did not appear.
        again: bool,
    },
    /// Ask how that ticket stands, and see to it that it tells.
    FollowCompensation,
    /// Wait for it to tell, holding nothing.
    AwaitCompensation {
        /// Until then, epoch milliseconds.
        until_ms: i64,
    },
    /// Wait until somebody says what becomes of a compensation that failed, holding nothing.
    AwaitOperator {
        /// When to look whether a ticket that nobody has heard of has come after all, epoch milliseconds.
        until_ms: Option<i64>,
    },
    /// Tell what became of the compensation.
    SettleCompensation,
    /// Close the workflow.
    Close,
    /// Nothing: the event changed nothing.
    Ignore,
}

/// How the ticket ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "snake_case")]
pub enum Verdict {
    /// Done, with evidence.
    Completed(Completed),
    /// Not done.
    Failed(Failed),
    /// Not done, because somebody cancelled it.
    Cancelled(Failed),
}

impl Verdict {
    /// The failure of a ticket that did not complete.
    #[must_use]
    pub fn failure(&self) -> Option<&Failed> {
        match self {
            Self::Completed(_) => None,
            Self::Failed(failed) | Self::Cancelled(failed) => Some(failed),
        }
    }
}

/// When a ticket ended.
///
/// A workflow task that is lost runs again at another time. A time that stands in the history already is the same then,
/// any other is not: a result made of it must go through the history itself before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concluded {
    /// Epoch milliseconds.
    pub at_ms: i64,
    /// Whether the history holds this time already.
    pub recorded: bool,
}
