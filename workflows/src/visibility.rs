//! Search attributes: names, types and values. At most ten keywords fit a SQL visibility store; we use seven.

use serde::{Deserialize, Serialize};
use temporalio_common::search_attributes::{SearchAttributeKey, Timestamp};

/// The ticket's id.
pub const TICKET_ID: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketId");
/// The plan that produced the ticket.
pub const PLAN_ID: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketPlanId");
/// The intent behind the plan.
pub const INTENT_ID: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketIntentId");
/// `BUILD`, `DEPLOY`, …
pub const TASK_TYPE: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketTaskType");
/// The provider (runtime, CI system, scanner) that the ticket asks for.
pub const PROVIDER: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketProvider");
/// `sla.deadline`.
pub const DEADLINE: SearchAttributeKey<Timestamp> = SearchAttributeKey::datetime("TicketDeadline");
/// A [`TicketPhase`].
pub const PHASE: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketPhase");
/// The stable error code of a failed ticket; absent otherwise.
pub const ERROR_CODE: SearchAttributeKey<String> = SearchAttributeKey::keyword("TicketErrorCode");

/// Whether a ticket counts against `MAX_CONCURRENT_TICKETS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketPhase {
    /// It may work, works or reports.
    Ready,
    /// It waits for others and holds nothing.
    Parked,
    /// Its result is out; only the ticket service has not heard of it yet.
    Reported,
}

impl TicketPhase {
    /// The value of the `TicketPhase` search attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Parked => "parked",
            Self::Reported => "reported",
        }
    }
}

/// A search attribute that a namespace must have, as set-up registers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchAttribute {
    /// Name in queries and in the UI.
    pub name: &'static str,
    /// Type name as the CLI's `--search-attribute NAME=TYPE` takes it.
    pub kind: &'static str,
}

/// Every search attribute that tickets use.
#[must_use]
pub fn search_attributes() -> Vec<SearchAttribute> {
    let keyword = |key: SearchAttributeKey<String>| SearchAttribute { name: key.name(), kind: "Keyword" };
    let mut all: Vec<_> = [TICKET_ID, PLAN_ID, INTENT_ID, TASK_TYPE, PROVIDER, PHASE, ERROR_CODE].map(keyword).to_vec();
    all.push(SearchAttribute { name: DEADLINE.name(), kind: "Datetime" });
    all
}
