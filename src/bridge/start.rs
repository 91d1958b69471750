//! The start call: raw `StartWorkflowExecution`, `RejectDuplicate` + `Fail`, a request id made of the record's position
//! and the ticket's digest (`docs/adr/0003-start-protocol.md`).

use std::time::Duration;

use serde::Serialize;
use temporalio_client::{Client, NamespacedClient as _, RetryOptions, request_extensions::RetryConfigForCall};
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use temporalio_common::protos::temporal::api::errordetails::v1::WorkflowExecutionAlreadyStartedFailure;
use temporalio_common::protos::temporal::api::sdk::v1::UserMetadata;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;
use temporalio_common::protos::utilities::decode_status_detail;
use temporalio_common::search_attributes::{SearchAttributes, Timestamp};
use ticket_activities::requested_provider;
use ticket_schemas::{Ticket, WorkDigest};
use ticket_workflows::{
    DEADLINE, INTENT_ID, PHASE, PLAN_ID, PROVIDER, RecordPosition, TASK_TYPE, TICKET_ID, TicketInput, TicketPhase,
    TicketPolicy, WORKFLOW_TYPE, workflow_id,
};
use tonic::{Code, Request};

use super::decision::{Answer, Decision, decide, request_id};

/// How long one start may take before it counts as unanswered. Asking again is safe: the request id is the same.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest input sent, in bytes. The server refuses payloads above 2 MiB.
const MAX_INPUT_BYTES: usize = 2 * 1024 * 1024 - 64 * 1024;
/// Longest summary, in characters; the server allows 400 bytes.
const MAX_SUMMARY_CHARS: usize = 120;

/// Starts workflows.
pub struct Starter {
    client: Client,
    task_queue: String,
    agent_id: String,
    policy: TicketPolicy,
}

impl Starter {
    /// A starter of tickets on `task_queue`.
    #[must_use]
    pub fn new(client: Client, task_queue: String, agent_id: String, policy: TicketPolicy) -> Self {
        Self { client, task_queue, agent_id, policy }
    }

    /// Starts the workflow of `ticket`, read at `position`, and decides what the answer means.
    pub async fn start(&self, ticket: &Ticket, position: &RecordPosition) -> Decision {
        let digest = WorkDigest::of(ticket).as_hex();
        let input = TicketInput {
            ticket: ticket.clone(),
            digest: digest.clone(),
            source: position.clone(),
            agent_id: self.agent_id.clone(),
            policy: self.policy.clone(),
        };
        let input = match json_payload(&input) {
            Ok(input) if input.data.len() > MAX_INPUT_BYTES => {
                return Decision::TicketRefused {
                    reason: format!(
                        "the ticket is {} bytes as workflow input, more than the {MAX_INPUT_BYTES} the server takes; pass data by reference",
                        input.data.len()
                    ),
                };
            }
            Ok(input) => input,
            Err(error) => return Decision::TicketRefused { reason: format!("the ticket cannot be encoded: {error}") },
        };
        let mut request = Request::new(self.request(ticket, position, &digest, input));
        request.set_timeout(START_TIMEOUT);
        // The partition decides when to ask again, not the client.
        request.extensions_mut().insert(RetryConfigForCall(RetryOptions::no_retries()));
        let mut service = self.client.connection().workflow_service();
        let answer = match service.start_workflow_execution(request).await {
            Ok(response) => Answer::Started { run_id: response.into_inner().run_id },
            Err(status) if status.code() == Code::AlreadyExists => Answer::AlreadyExists {
                first: decode_status_detail::<WorkflowExecutionAlreadyStartedFailure>(status.details())
                    .map(|detail| detail.start_request_id)
                    .unwrap_or_default(),
            },
            Err(status) => Answer::Refused { code: status.code(), message: status.message().to_owned() },
        };
        decide(answer, &digest)
    }

    fn request(
        &self,
        ticket: &Ticket,
        position: &RecordPosition,
        digest: &str,
        input: Payload,
    ) -> StartWorkflowExecutionRequest {
        StartWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            workflow_id: workflow_id(ticket.ticket_id.as_str()),
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.to_owned() }),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            input: Some(Payloads { payloads: vec![input] }),
            identity: self.client.identity(),
            request_id: request_id(position, digest),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail.into(),
            search_attributes: Some(search_attributes(ticket).into_proto()),
            user_metadata: json_payload(&summary(ticket))
                .ok()
                .map(|summary| UserMetadata { summary: Some(summary), details: None }),
            ..StartWorkflowExecutionRequest::default()
        }
    }
}

fn json_payload<T: Serialize>(value: &T) -> serde_json::Result<Payload> {
    Ok(Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: serde_json::to_vec(value)?,
        ..Payload::default()
    })
}

fn search_attributes(ticket: &Ticket) -> SearchAttributes {
    let mut updates = vec![
        TICKET_ID.value_set(ticket.ticket_id.as_str().to_owned()),
        TASK_TYPE.value_set(ticket.task_type.as_str().to_owned()),
        PHASE.value_set(TicketPhase::Ready.as_str().to_owned()),
    ];
    if !ticket.plan_id.is_empty() {
        updates.push(PLAN_ID.value_set(ticket.plan_id.as_str().to_owned()));
    }
    if !ticket.intent_id.is_empty() {
        updates.push(INTENT_ID.value_set(ticket.intent_id.as_str().to_owned()));
    }
    if let Some(provider) = requested_provider(ticket) {
        updates.push(PROVIDER.value_set(provider));
    }
    if let Some(deadline) = ticket.sla.as_ref().and_then(|sla| sla.deadline) {
        let nanos = i32::try_from(deadline.rem_euclid(1000) * 1_000_000).unwrap_or_default();
        updates.push(DEADLINE.value_set(Timestamp::new(deadline.div_euclid(1000), nanos)));
    }
    SearchAttributes::new(updates)
}

/// What the ticket does, in a line: `EXECUTE · local · Run the unit tests`.
fn summary(ticket: &Ticket) -> String {
    let mut parts = vec![ticket.task_type.as_str().to_owned()];
    parts.extend(requested_provider(ticket));
    let what = if ticket.description.trim().is_empty() { ticket.task_id.as_str() } else { ticket.description.trim() };
    let line: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > MAX_SUMMARY_CHARS {
        parts.push(format!("{}…", line.chars().take(MAX_SUMMARY_CHARS - 1).collect::<String>()));
    } else {
        parts.push(line);
    }
    parts.join(" · ")
}
