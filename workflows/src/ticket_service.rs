//! What a ticket's workflow says to the Execution Ticket Service (`docs/adr/0015-ticket-service.md`).

use serde::{Deserialize, Serialize};

/// A status that the ticket service takes from a worker. There are no others: `PREEMPTED`, `CANCELLED` and whatever else
/// the platform's documents name are answered with 422 (INC-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceStatus {
    /// An attempt runs.
    Running,
    /// Done.
    Completed,
    /// Not done, or cancelled.
    Failed,
    /// It is being undone.
    Compensating,
    /// It has been undone.
    Compensated,
}

impl ServiceStatus {
    /// The word of the wire; a bounded metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Compensating => "COMPENSATING",
            Self::Compensated => "COMPENSATED",
        }
    }
}

/// How reports are owed, in milliseconds. It travels in the policy of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportingPolicy {
    /// `REPORT_STUCK_AFTER_SECONDS`: after so long a report that is still owed is a state of its own.
    pub stuck_after_ms: u64,
    /// `ETS_UNKNOWN_AFTER_SECONDS`: how long the ticket service may not know the ticket. `None`: there is no ticket
    /// service, nothing is sent.
    pub unknown_after_ms: Option<u64>,
}

/// A status on its way to the ticket service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// The ticket.
    pub ticket_id: String,
    /// The status.
    pub status: ServiceStatus,
    /// The service clears the text of an earlier call when this is absent, so it goes with every later status (INC-34).
    pub error_message: Option<String>,
    /// How long the ticket took, in milliseconds.
    pub actual_duration_ms: Option<i64>,
    /// Since when it is owed, epoch milliseconds.
    pub since_ms: i64,
    /// How long the service may not know the ticket, in milliseconds.
    pub unknown_after_ms: u64,
}

/// What became of a status. Each is an end: nothing is owed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum StatusEnd {
    /// The service has it.
    Noted,
    /// The service did not know the ticket for too long (INC-36).
    UnknownTicket,
    /// The service refuses it, and will again.
    Refused {
        /// What it said.
        reason: String,
    },
    /// The worker that was to send it has no ticket service.
    NoService,
}

/// To whom a report is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owed {
    /// The result, to Kafka.
    Results,
    /// The status, to the ticket service.
    TicketService,
    /// The outcome, to tickets that depend on this one.
    Dependents,
}

impl Owed {
    /// The word of the wire; a bounded metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::TicketService => "ticket_service",
            Self::Dependents => "dependents",
        }
    }
}
