//! Outputs of finished tickets, read from their histories: nothing is kept twice, and nothing is read that nobody wants.

use std::collections::BTreeMap;

use serde_json::Value;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_sdk::activities::ActivityContext;
use ticket_workflows::payload::decoded;
use ticket_workflows::{ExecuteResponse, Found, MAX_FILLED_BYTES, Outcome, Wanted, pick};
use tonic::Status;

use crate::temporal::Server;

/// Events of one page, and pages, from the end of a completed ticket's history on, among which the answer of its last attempt
/// is: after it come one workflow task, its markers, and retried reports and subscriptions.
const PAGE: i32 = 200;
const PAGES: usize = 10;

/// The wanted outputs that exist, as long as they fit into parameters.
pub(crate) async fn collect(ctx: &ActivityContext, wanted: &Wanted) -> Result<Found, Status> {
    let server = Server::new(ctx.client(), ctx.info().task_queue.clone());
    let (mut found, mut bytes) = (Found::default(), 0);
    for (ticket_id, keys) in &wanted.0 {
        let Some(output) = output(&server, ticket_id).await? else { continue };
        let values = found.outputs.entry(ticket_id.clone()).or_default();
        for key in keys {
            let Some(value) = pick(&output, key) else { continue };
            bytes += key.len() + value.to_string().len();
            if bytes > MAX_FILLED_BYTES {
                found.too_large = true;
                return Ok(found);
            }
            values.insert(key.clone(), value);
        }
    }
    Ok(found)
}

async fn output(server: &Server, ticket_id: &str) -> Result<Option<BTreeMap<String, Value>>, Status> {
    let mut next_page = Vec::new();
    for _ in 0..PAGES {
        let (events, next) = server.newest_events(ticket_id, PAGE, next_page).await?;
        if let Some(answered) = events.into_iter().find_map(answer) {
            return Ok(Some(answered));
        }
        if next.is_empty() {
            break;
        }
        next_page = next;
    }
    Ok(None)
}

/// The output of an attempt that completed its ticket.
fn answer(event: HistoryEvent) -> Option<BTreeMap<String, Value>> {
    let Some(Attributes::ActivityTaskCompletedEventAttributes(completed)) = event.attributes else { return None };
    let response: ExecuteResponse = decoded(completed.result?.payloads.first()?)?;
    match response.outcome {
        Outcome::Completed(completed) => Some(completed.report.output),
        Outcome::Failed(_) => None,
    }
}
