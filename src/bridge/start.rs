//! The start calls: raw `StartWorkflowExecution`, `RejectDuplicate` + `Fail`, a request id made of the record's position
//! and the ticket's digest; a description and a second start for re-drives (`docs/adr/0003-start-protocol.md`).

use std::time::Duration;

use temporalio_client::{Client, NamespacedClient as _, RetryOptions, request_extensions::RetryConfigForCall};
use temporalio_common::protos::temporal::api::common::v1::{Memo, Payload, Payloads, WorkflowExecution, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{
    WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::errordetails::v1::WorkflowExecutionAlreadyStartedFailure;
use temporalio_common::protos::temporal::api::sdk::v1::UserMetadata;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};
use temporalio_common::protos::utilities::decode_status_detail;
use temporalio_common::search_attributes::{SearchAttributes, Timestamp};
use ticket_activities::{border, now_ms, requested_provider, trace};
use ticket_schemas::{Ticket, WorkDigest};
use ticket_workflows::payload::{decoded, encoded};
use ticket_workflows::{
    DEADLINE, INTENT_ID, PHASE, PLAN_ID, PROVIDER, START_MEMO, StartMemo, TASK_TYPE, TICKET_ID, TicketInput,
    TicketPhase, TicketPolicy, TraceContext, WORKFLOW_TYPE, workflow_id,
};
use tonic::{Code, Request};

use super::decision::{
    Answer, Claim, Decision, Existing, Judgement, Reading, Refusal, RunState, judge, read, read_again, request_id,
    too_old,
};
use super::priority::{self, Fairness};
use super::record::Provenance;
use super::trace::of_ticket;
use crate::spans::Spans;

/// How long one call may take before it counts as unanswered. Asking again is safe: the request id is the same.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest input sent, in bytes. The server refuses payloads above 2 MiB.
const MAX_INPUT_BYTES: usize = 2 * 1024 * 1024 - 64 * 1024;
/// Longest summary, in characters; the server allows 400 bytes.
const MAX_SUMMARY_CHARS: usize = 120;
/// Most earlier records that the memo names.
const MAX_EARLIER: usize = 50;
/// Most dependencies that the memo names: others look for cycles through them, and a memo is carried everywhere.
const MAX_DEPENDENCIES: usize = 500;

/// Starts workflows.
pub struct Starter {
    client: Client,
    task_queue: String,
    agent_id: String,
    policy: TicketPolicy,
    retention: Option<Duration>,
    fairness: Fairness,
    spans: Spans,
}

impl Starter {
    /// A starter of tickets on `task_queue`.
    #[must_use]
    pub fn new(client: Client, task_queue: String, agent_id: String, policy: TicketPolicy) -> Self {
        let (fairness, spans) = (Fairness::default(), Spans::default());
        Self { client, task_queue, agent_id, policy, retention: None, fairness, spans }
    }

    /// With the namespace's retention: records older than that are not started.
    #[must_use]
    pub fn with_retention(self, retention: Option<Duration>) -> Self {
        Self { retention, ..self }
    }

    /// With whose share of the slots a ticket takes.
    #[must_use]
    pub fn with_fairness(self, fairness: Fairness) -> Self {
        Self { fairness, ..self }
    }

    /// With what gives tickets their place in a trace.
    #[must_use]
    pub fn with_spans(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// Starts the workflow of `ticket`, read from `provenance`, and decides what the answers mean.
    pub async fn start(&self, ticket: &Ticket, provenance: &Provenance) -> Decision {
        match self.prepare(ticket, provenance) {
            Ok(start) => start.ask().await,
            Err(refusal) => Decision::Refused(refusal),
        }
    }

    /// Everything that can be decided without asking the server.
    ///
    /// # Errors
    /// Why it is not to be started at all.
    pub fn prepare<'a>(&'a self, ticket: &'a Ticket, provenance: &Provenance) -> Result<Start<'a>, Refusal> {
        let digest = WorkDigest::of(ticket).as_hex();
        let claim = Claim {
            request_id: request_id(&provenance.position, &digest),
            digest,
            written_at_ms: provenance.written_at_ms,
            redrive: provenance.redrive,
        };
        if let Some(refusal) = self.retention.and_then(|kept| too_old(claim.written_at_ms, now_ms(), kept)) {
            return Err(refusal);
        }
        let trace = self.spans.place(of_ticket(provenance.trace.clone(), ticket), &claim.request_id);
        let input = self.input(ticket, &claim, provenance, &trace).map_err(|reason| Refusal::Ticket { reason })?;
        Ok(Start { starter: self, ticket, claim, input, trace })
    }

    /// The workflow's input, or why there can be none.
    fn input(
        &self,
        ticket: &Ticket,
        claim: &Claim,
        provenance: &Provenance,
        trace: &TraceContext,
    ) -> Result<Payload, String> {
        let mut ticket = ticket.clone();
        trace::carry(&mut ticket, trace);
        let input = TicketInput {
            ticket,
            digest: claim.digest.clone(),
            source: provenance.position.clone(),
            agent_id: self.agent_id.clone(),
            policy: self.policy.clone(),
            trace: trace.clone(),
        };
        let input = encoded(&input).map_err(|error| format!("the ticket cannot be encoded: {error}"))?;
        // A workflow that cannot read its input has no outcome, ever.
        serde_json::from_slice::<TicketInput>(&input.data)
            .map_err(|error| format!("the ticket cannot be read back as workflow input: {error}"))?;
        if input.data.len() > MAX_INPUT_BYTES {
            return Err(format!(
                "the ticket is {} bytes as workflow input, more than the {MAX_INPUT_BYTES} the server takes; pass data by reference",
                input.data.len()
            ));
        }
        Ok(input)
    }

    async fn call(&self, request: StartWorkflowExecutionRequest) -> Answer {
        also_if_closed(|| self.call_once(request.clone())).await
    }

    async fn call_once(&self, request: StartWorkflowExecutionRequest) -> Answer {
        let mut service = self.client.connection().workflow_service();
        match border("temporal.start", service.start_workflow_execution(bounded(request))).await {
            Ok(response) => Answer::Started { run_id: response.into_inner().run_id },
            Err(status) if status.code() == Code::AlreadyExists => Answer::AlreadyExists {
                first: decode_status_detail::<WorkflowExecutionAlreadyStartedFailure>(status.details())
                    .map(|detail| detail.start_request_id)
                    .unwrap_or_default(),
            },
            Err(status) => Answer::Refused { code: status.code(), message: status.message().to_owned() },
        }
    }

    /// The run that has the ticket's id now. `first` is the request id that the server gave for it.
    async fn existing(&self, ticket: &Ticket, first: String) -> Result<Existing, tonic::Status> {
        let execution =
            WorkflowExecution { workflow_id: workflow_id(ticket.ticket_id.as_str()), run_id: String::new() };
        let request =
            DescribeWorkflowExecutionRequest { namespace: self.client.namespace(), execution: Some(execution) };
        let mut service = self.client.connection().workflow_service();
        let answer = border("temporal.describe", service.describe_workflow_execution(bounded(request))).await?;
        let description = answer.into_inner();
        let info = description
            .workflow_execution_info
            .ok_or_else(|| tonic::Status::unavailable("a description without its execution"))?;
        Ok(existing(info, first))
    }

    fn request(&self, ticket: &Ticket, memo: &StartMemo, input: Payload) -> StartWorkflowExecutionRequest {
        StartWorkflowExecutionRequest {
            namespace: self.client.namespace(),
            workflow_id: workflow_id(ticket.ticket_id.as_str()),
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.to_owned() }),
            task_queue: Some(TaskQueue { name: self.task_queue.clone(), ..TaskQueue::default() }),
            input: Some(Payloads { payloads: vec![input] }),
            identity: self.client.identity(),
            request_id: memo.request_id.clone(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail.into(),
            memo: encoded(memo).ok().map(|memo| Memo { fields: [(START_MEMO.to_owned(), memo)].into() }),
            search_attributes: Some(search_attributes(ticket).into_proto()),
            priority: Some(priority::of(ticket, self.fairness)),
            user_metadata: encoded(&summary(ticket))
                .ok()
                .map(|summary| UserMetadata { summary: Some(summary), details: None }),
            ..StartWorkflowExecutionRequest::default()
        }
    }
}

/// A start that can be asked for, again and again: it is the same one each time.
pub struct Start<'a> {
    starter: &'a Starter,
    ticket: &'a Ticket,
    claim: Claim,
    input: Payload,
    trace: TraceContext,
}

impl Start<'_> {
    /// What the workflow carries of the ticket's trace.
    pub(crate) fn trace(&self) -> &TraceContext {
        &self.trace
    }

    /// Asks the server and decides what its answers mean.
    pub async fn ask(&self) -> Decision {
        let (starter, claim) = (self.starter, &self.claim);
        let dependencies = self.ticket.dependencies.iter().take(MAX_DEPENDENCIES);
        let memo = StartMemo {
            request_id: claim.request_id.clone(),
            earlier: Vec::new(),
            dependencies: dependencies.map(|id| id.as_str().to_owned()).collect(),
        };
        let answer = starter.call(starter.request(self.ticket, &memo, self.input.clone())).await;
        let first = match read(answer, claim) {
            Reading::Decided(decision) => return decision,
            Reading::LookUp { first } => first,
        };
        let existing = match starter.existing(self.ticket, first).await {
            Ok(existing) => existing,
            // One that does not exist any more leaves room for a start, at the next try.
            Err(status) => {
                return Decision::Unavailable { reason: format!("the ticket's run could not be described: {status}") };
            }
        };
        match judge(claim, &existing) {
            Judgement::Decided(decision) => decision,
            Judgement::StartAgain => {
                let mut earlier = existing.earlier.clone();
                earlier.push(existing.request_id.clone());
                earlier.drain(..earlier.len().saturating_sub(MAX_EARLIER));
                let memo = StartMemo { earlier, ..memo };
                let mut request = starter.request(self.ticket, &memo, self.input.clone());
                // Admits failed, timed-out, cancelled and terminated runs; never a completed one.
                request.workflow_id_reuse_policy = WorkflowIdReusePolicy::AllowDuplicateFailedOnly.into();
                read_again(starter.call(request).await, &existing)
            }
        }
    }
}

/// With a time-out and without retries: the partition decides when to ask again, not the client.
fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request.extensions_mut().insert(RetryConfigForCall(RetryOptions::no_retries()));
    request
}

/// Whether a run is one of an operator's re-drive: the ticket had others before.
pub(crate) fn is_redrive(info: &WorkflowExecutionInfo) -> bool {
    memo(info).is_some_and(|memo| !memo.earlier.is_empty())
}

fn memo(info: &WorkflowExecutionInfo) -> Option<StartMemo> {
    decoded(info.memo.as_ref()?.fields.get(START_MEMO)?)
}

fn existing(info: WorkflowExecutionInfo, first: String) -> Existing {
    let state = match info.status() {
        WorkflowExecutionStatus::Completed => RunState::Completed,
        WorkflowExecutionStatus::Failed | WorkflowExecutionStatus::TimedOut => RunState::Failed,
        WorkflowExecutionStatus::Canceled | WorkflowExecutionStatus::Terminated => RunState::Ended,
        // Continued as new is not ours; an unknown state must not be started over.
        _ => RunState::Open,
    };
    let (request_id, earlier) = memo(&info).map_or((first, Vec::new()), |memo| (memo.request_id, memo.earlier));
    Existing {
        run_id: info.execution.map(|execution| execution.run_id).unwrap_or_default(),
        state,
        closed_at_ms: info.close_time.map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000),
        request_id,
        earlier,
    }
}

/// A ticket with dependencies starts parked. Its workflow makes it ready when those it depends on have completed.
pub(crate) fn phase_at_start(ticket: &Ticket) -> TicketPhase {
    if ticket.dependencies.is_empty() { TicketPhase::Ready } else { TicketPhase::Parked }
}

fn search_attributes(ticket: &Ticket) -> SearchAttributes {
    let mut updates = vec![
        TICKET_ID.value_set(ticket.ticket_id.as_str().to_owned()),
        TASK_TYPE.value_set(ticket.task_type.as_str().to_owned()),
        PHASE.value_set(phase_at_start(ticket).as_str().to_owned()),
    ];
    if !ticket.plan_id.is_empty() {
        updates.push(PLAN_ID.value_set(ticket.plan_id.as_str().to_owned()));
    }
    if !ticket.intent_id.is_empty() {
        updates.push(INTENT_ID.value_set(ticket.intent_id.as_str().to_owned()));
    }
    // One that is no name at all is refused when the ticket runs.
    if let Ok(Some(provider)) = requested_provider(ticket) {
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
    parts.extend(requested_provider(ticket).ok().flatten().map(|name| name.replace(char::is_control, " ")));
    let what = if ticket.description.trim().is_empty() { ticket.task_id.as_str() } else { ticket.description.trim() };
    let line: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > MAX_SUMMARY_CHARS {
        parts.push(format!("{}…", line.chars().take(MAX_SUMMARY_CHARS - 1).collect::<String>()));
    } else {
        parts.push(line);
    }
    parts.join(" · ")
}

/// Asks again at once where the connection was closed under the call: the server closes each after five minutes
/// (`frontend.keepAliveMaxConnectionAge`), and is not away for that. The same request starts nothing twice.
async fn also_if_closed<F: Future<Output = Answer>>(ask: impl Fn() -> F) -> Answer {
    match ask().await {
        Answer::Refused { code: Code::Cancelled, .. } => ask().await,
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ticket_schemas::decode_json_ticket;

    use super::*;

    #[tokio::test]
    async fn a_start_whose_connection_was_closed_is_asked_once_more() {
        for (code, calls) in [(Code::Cancelled, 2), (Code::Unavailable, 1)] {
            let called = Cell::new(0);
            let ask = || async {
                called.set(called.get() + 1);
                Answer::Refused { code, message: "operation was canceled".to_owned() }
            };
            assert!(matches!(also_if_closed(ask).await, Answer::Refused { .. }));
            assert_eq!(called.get(), calls, "{code:?}");
        }
    }

    #[test]
    fn a_ticket_with_dependencies_starts_parked_and_any_other_ready() {
        for (dependencies, phase) in [("[]", TicketPhase::Ready), (r#"["a"]"#, TicketPhase::Parked)] {
            let text = format!(
                r#"{{"ticket_id":"t","task_id":"t","task_type":"EXECUTE","status":"PENDING","dependencies":{dependencies}}}"#
            );
            let ticket = decode_json_ticket(text.as_bytes()).expect("a ticket");
            assert_eq!(phase_at_start(&ticket), phase, "{dependencies}");
            let attributes = format!("{:?}", search_attributes(&ticket).into_proto());
            assert!(attributes.contains(PHASE.name()), "{attributes}");
        }
    }
}
