//! Outputs of finished tickets, read from their histories: nothing is kept twice, and nothing is read that nobody wants.

use std::collections::BTreeMap;

use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_sdk::activities::ActivityContext;
use ticket_workflows::{ExecuteResponse, Found, Outcome, Wanted, pick};
use tonic::Status;

use crate::temporal::{Server, decoded};

/// Events at the end of a completed ticket's history among which the answer of its last attempt is: after it come one
/// workflow task, its markers, and retried reports and subscriptions.
const NEWEST: i32 = 1_000;

/// The wanted outputs that exist.
pub(crate) async fn collect(ctx: &ActivityContext, wanted: &Wanted) -> Result<Found, Status> {
    let server = Server::new(ctx.client(), ctx.info().task_queue.clone());
    let mut found = BTreeMap::new();
    for (ticket_id, keys) in &wanted.0 {
        let Some(output) = output(&server, ticket_id).await? else { continue };
        let values = keys.iter().filter_map(|key| Some((key.clone(), pick(&output, key)?))).collect();
        found.insert(ticket_id.clone(), values);
    }
    Ok(Found(found))
}

async fn output(server: &Server, ticket_id: &str) -> Result<Option<BTreeMap<String, serde_json::Value>>, Status> {
    let events = server.newest_events(ticket_id, NEWEST).await?;
    Ok(events.into_iter().find_map(|event| {
        let Some(Attributes::ActivityTaskCompletedEventAttributes(completed)) = event.attributes else { return None };
        let response: ExecuteResponse = decoded(completed.result?.payloads.first()?)?;
        match response.outcome {
            Outcome::Completed(completed) => Some(completed.report.output),
            Outcome::Failed(_) => None,
        }
    }))
}
