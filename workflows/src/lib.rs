//! Deterministic code only: [`TicketWorkflow`], the state machine it drives, and the *declarations* of its activities.
//!
//! Owns what a ticket is doing, what it waits for and how it ends. Never performs a side effect: no clock, no random
//! source, no I/O, no async runtime. The activities it declares are implemented by `ticket-activities`; the bridge
//! starts it.
//!
//! Every change here is replayed against the histories of all released versions.

mod compensation;
mod declarations;
mod dependencies;
mod details;
mod execution;
mod input;
mod local;
mod machine;
mod orders;
mod outcome;
pub mod payload;
mod policy;
mod references;
mod repeated;
mod report;
mod status;
mod ticket_service;
mod trace;
mod visibility;
mod waiters;
mod waiting;
mod workflow;

pub use compensation::Undoing;
pub use declarations::{
    CollectOutputs, CreateCompensation, ExecuteTask, FinishTicket, LookAtTicket, PublishReport, RegisterDependencies,
    SetStatus, TellDependents, TicketActivities,
};
pub use dependencies::{
    DependencyOutcome, DependencyState, Found, OUTCOME_SIGNAL, Registered, Registration, SUBSCRIBE_SIGNAL,
    Subscription, Tell, Wanted, waiters_id,
};
pub use execution::{ExecuteRequest, ExecuteResponse};
pub use input::{RecordPosition, START_MEMO, StartMemo, TicketInput};
pub use machine::{
    AttemptRecord, Command, Compensation, CompensationState, Concluded, Event, Ledger, Machine, RetryAt, Row, State,
    Times, Verdict,
};
pub use orders::{ORDER_UPDATE, Order, OrderAnswer, OrderRecord, Verb};
pub use outcome::{
    Completed, Evidence, ExecutionReport, ExternalState, Failed, FailureClass, MissingEvidence, Outcome, code,
};
pub use policy::{CompensationPolicy, DeadlinePolicy, DependencyPolicy, TicketPolicy};
pub use references::{MAX_FILLED_BYTES, MAX_FILLED_DEPTH, Problem, ReferenceError, fill, pick, references};
pub use report::{DependencyWait, Finish, Finished, Report, SlaLedger, result_id};
pub use status::TicketStatus;
pub use ticket_service::{Owed, ReportingPolicy, ServiceStatus, StatusEnd, StatusUpdate};
pub use trace::TraceContext;
pub use visibility::{
    DEADLINE, ERROR_CODE, INTENT_ID, PHASE, PLAN_ID, PROVIDER, SearchAttribute, TASK_TYPE, TICKET_ID, TicketPhase,
    search_attributes,
};
pub use waiters::{TicketWaiters, WAITERS_TYPE, WaitersInput};
pub use waiting::{Wait, WaitingFor};
pub use workflow::TicketWorkflow;

/// Workflow type as it stands in histories and in the Temporal UI. Changing it orphans every open ticket.
pub const WORKFLOW_TYPE: &str = "TicketWorkflow";

/// The workflow id of a ticket: `ticket-<ticket_id>`. One ticket id, one open workflow.
#[must_use]
pub fn workflow_id(ticket_id: &str) -> String {
    format!("ticket-{ticket_id}")
}
