//! The activities that the workflow calls. `ticket-activities` implements exactly these: a signature that drifts does
//! not compile, and a test checks that each is registered.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unimplemented,
    reason = "the macro wants `unimplemented!()` bodies and expands to undocumented marker types"
)]

use temporalio_macros::activity_definitions;

use crate::dependencies::{DependencyState, Found, Registered, Registration, Tell, Wanted};
use crate::execution::{ExecuteRequest, ExecuteResponse};
use crate::report::{Finish, Finished, Report};
use crate::ticket_service::{StatusEnd, StatusUpdate};

/// Declares the activities.
pub struct TicketActivities;

#[activity_definitions]
impl TicketActivities {
    /// Runs one attempt of the ticket's work and answers with its outcome. Errors are infrastructure only: the server
    /// runs it again without using up an attempt.
    #[activity(name = "execute")]
    pub fn execute(request: ExecuteRequest) -> ExecuteResponse {
        unimplemented!()
    }

    /// Publishes the ticket's result. Delivery is at least once; copies carry one result id and equal bytes.
    #[activity(name = "report")]
    pub fn report(report: Report) {
        unimplemented!()
    }

    /// Publishes the ticket's result and tells those that depend on it, both at once. Fails never: the answer says what
    /// was done.
    #[activity(name = "finish")]
    pub fn finish(finish: Finish) -> Finished {
        unimplemented!()
    }

    /// Tells the ticket service a status. Errors mean: try again.
    #[activity(name = "set_status")]
    pub fn set_status(update: StatusUpdate) -> StatusEnd {
        unimplemented!()
    }

    /// Tells workflows how a ticket ended. One that is closed is left alone.
    #[activity(name = "tell")]
    pub fn tell(tell: Tell) {
        unimplemented!()
    }

    /// Finds out how predecessors stand, subscribes to those not ended, and looks for a cycle.
    #[activity(name = "register")]
    pub fn register(registration: Registration) -> Registered {
        unimplemented!()
    }

    /// How one ticket stands.
    #[activity(name = "look")]
    pub fn look(ticket_id: String) -> DependencyState {
        unimplemented!()
    }

    /// Outputs of completed tickets.
    #[activity(name = "collect")]
    pub fn collect(wanted: Wanted) -> Found {
        unimplemented!()
    }
}

pub use ticket_activities::{
    Collect as CollectOutputs, Execute as ExecuteTask, Finish as FinishTicket, Look as LookAtTicket,
    Register as RegisterDependencies, Report as PublishReport, SetStatus, Tell as TellDependents,
};
