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

use crate::execution::{ExecuteRequest, ExecuteResponse};
use crate::report::Report;

/// Declares `execute` and `report`.
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
}

pub use ticket_activities::{Execute as ExecuteTask, Report as PublishReport};
