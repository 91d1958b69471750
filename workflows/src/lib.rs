//! Deterministic code only: [`TicketWorkflow`], the state machine it drives, and the *declarations* of its activities.
//!
//! Owns what a ticket is doing, what it waits for and how it ends. Never performs a side effect: no clock, no random
//! source, no I/O, no async runtime. The activities it declares are implemented by `ticket-activities`; the bridge
//! starts it.
//!
//! Every change here is replayed against the histories of all released versions.

mod declarations;
mod details;
mod execution;
mod input;
mod machine;
mod outcome;
mod policy;
mod report;
mod status;
mod trace;
mod visibility;
mod workflow;

pub use declarations::{ExecuteTask, PublishReport, TicketActivities};
pub use execution::{ExecuteRequest, ExecuteResponse};
pub use input::{RecordPosition, TicketInput};
pub use machine::{AttemptRecord, Command, Concluded, Event, Ledger, Machine, State, Verdict};
pub use outcome::{
    Completed, Evidence, ExecutionReport, ExternalState, Failed, FailureClass, MissingEvidence, Outcome, code,
};
pub use policy::{DeadlinePolicy, TicketPolicy};
pub use report::{Report, result_id};
pub use status::TicketStatus;
pub use trace::TraceContext;
pub use visibility::{
    DEADLINE, ERROR_CODE, INTENT_ID, PHASE, PLAN_ID, PROVIDER, SearchAttribute, TASK_TYPE, TICKET_ID, TicketPhase,
    search_attributes,
};
pub use workflow::TicketWorkflow;

/// Workflow type as it stands in histories and in the Temporal UI. Changing it orphans every open ticket.
pub const WORKFLOW_TYPE: &str = "TicketWorkflow";

/// The workflow id of a ticket: `ticket-<ticket_id>`. One ticket id, one open workflow.
#[must_use]
pub fn workflow_id(ticket_id: &str) -> String {
    format!("ticket-{ticket_id}")
}
