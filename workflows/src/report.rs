//! What is published when a ticket ends. Built from workflow state alone, so every copy has equal bytes
//! (`design` invariant: one outcome, copies of it are recognisable by their result id).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ticket_schemas::{ExecutionResult, ExecutionResultPayload, ExecutionStatus};

use crate::dependencies::Tell;
use crate::input::TicketInput;
use crate::machine::{Machine, Times, Verdict};
use crate::ticket_service::{ServiceStatus, StatusEnd, StatusUpdate};
use crate::trace::TraceContext;

/// A result on its way to `execution.results`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Equal for all copies of one outcome, different for another run of the same ticket.
    pub result_id: String,
    /// The result itself.
    pub result: ExecutionResult,
    /// Further top-level keys of the JSON form, for readers that expect them (INC-12).
    pub extra: BTreeMap<String, Value>,
    /// `BUILD`, `DEPLOY`, …: a bounded metric label.
    pub task_type: String,
    /// The error code of a ticket that did not complete.
    pub error_code: Option<String>,
    /// Whole duration of the ticket, in milliseconds.
    pub duration_ms: i64,
    /// The trace that the ticket belongs to: headers of the result's record (INC-04).
    #[serde(default, skip_serializing_if = "TraceContext::is_empty")]
    pub trace: TraceContext,
    /// How the ticket waited for others; absent when it depends on none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<DependencyWait>,
    /// Where the time went.
    #[serde(default)]
    pub sla: SlaLedger,
}

/// Where a ticket's time went, in milliseconds, and how much of its deadline it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SlaLedger {
    /// From `created_at` to the start of the workflow; absent without `created_at`.
    pub queue_ms: Option<u64>,
    /// It waited for tickets it depends on.
    pub dependency_ms: u64,
    /// Its attempts.
    #[serde(flatten)]
    pub times: Times,
    /// Part of the time from `created_at` (or the workflow's start) to the deadline in force that was used when it ended:
    /// above 1 it was late. Absent without a deadline.
    pub deadline_used: Option<f64>,
}

/// How a ticket waited for those it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyWait {
    /// Whether all of them completed. Otherwise the ticket never counted against `MAX_CONCURRENT_TICKETS`.
    pub satisfied: bool,
    /// How long the wait took, in milliseconds.
    pub waited_ms: i64,
}

/// A ticket that ended: its result, and who is to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// The result.
    pub report: Report,
    /// Who depends on it.
    pub tell: Tell,
    /// What the ticket service is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusUpdate>,
}

/// What was done of a [`Finish`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The result is published.
    pub published: bool,
    /// All were told.
    pub told: bool,
    /// What became of the status, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusEnd>,
}

impl Report {
    /// What the ticket service is told of it.
    pub(crate) fn status_update(&self, unknown_after_ms: u64) -> StatusUpdate {
        let status = match self.result.status {
            ExecutionStatus::Completed => ServiceStatus::Completed,
            _ => ServiceStatus::Failed,
        };
        StatusUpdate {
            ticket_id: self.result.ticket_id.as_str().to_owned(),
            status,
            error_message: self.result.error_message.clone(),
            actual_duration_ms: self.result.actual_duration_ms,
            since_ms: self.result.timestamp,
            unknown_after_ms,
        }
    }
}

/// The result id of a run: SHA-256 over ticket id and run id, shortened to 32 hex digits.
#[must_use]
pub fn result_id(ticket_id: &str, run_id: &str) -> String {
    let digest = Sha256::new().chain_update(ticket_id).chain_update([0]).chain_update(run_id).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Builds the report of a machine that has concluded. `started_ms` is the workflow's start.
pub(crate) fn report(input: &TicketInput, machine: &Machine, run_id: &str, started_ms: i64) -> Option<Report> {
    let ticket = &input.ticket;
    let verdict = machine.verdict()?;
    let ended_ms = machine.concluded()?.at_ms;
    let (status, body) = match verdict {
        Verdict::Completed(completed) => (ExecutionStatus::Completed, completed.report.clone()),
        Verdict::Failed(failed) | Verdict::Cancelled(failed) => (ExecutionStatus::Failed, failed.report.clone()),
    };
    let result_id = result_id(ticket.ticket_id.as_str(), run_id);
    let duration_ms = (ended_ms - started_ms).max(0);
    let ledger = machine.ledger();
    let agent_id =
        ledger.attempts.last().and_then(|last| last.worker.clone()).unwrap_or_else(|| input.agent_id.clone());

    let mut metadata = body.metadata;
    let mut set = |key: &str, value: Value| {
        metadata.insert(key.to_owned(), value);
    };
    set("result_id", json!(result_id));
    set("workflow_run_id", json!(run_id));
    set("attempts", json!(ledger.attempts));
    set("attempt_count", json!(ledger.count));
    for (key, value) in extra_keys(input, machine, duration_ms) {
        set(&key, value);
    }
    let evidence = match verdict {
        Verdict::Completed(completed) => Some(&completed.evidence),
        Verdict::Failed(failed) | Verdict::Cancelled(failed) => failed.evidence.as_ref(),
    };
    if let Some(evidence) = evidence {
        set("evidence", json!(evidence));
    }
    if let Some(failed) = verdict.failure() {
        set("error_code", json!(failed.code));
        if let Some(state) = failed.external_state {
            set("external_state", json!(state.as_str()));
        }
    }
    let dependencies = machine.depends().then(|| DependencyWait {
        satisfied: machine.released_ms().is_some(),
        waited_ms: (machine.released_ms().unwrap_or(ended_ms) - started_ms).max(0),
    });
    let sla = sla(input, machine, dependencies.as_ref(), started_ms, ended_ms);
    set("sla", json!(sla));
    if !machine.orders().is_empty() {
        set("orders", json!(machine.orders()));
    }
    // The deadline in force, and with a policy that ends nothing the ticket's own.
    let deadline_ms = machine.enforced_deadline_ms().or(machine.deadline_ms());
    if deadline_ms.is_some_and(|deadline_ms| ended_ms > deadline_ms) {
        set("late", json!(true));
    }

    Some(Report {
        result: ExecutionResult {
            ticket_id: ticket.ticket_id.clone(),
            status,
            result: ExecutionResultPayload {
                success: status == ExecutionStatus::Completed,
                output: body.output,
                metadata,
                logs: body.logs,
            },
            error_message: verdict.failure().map(|failed| failed.message.clone()),
            actual_duration_ms: Some(duration_ms),
            agent_id,
            timestamp: ended_ms,
            schema_version: 1,
        },
        extra: extra_keys(input, machine, duration_ms),
        result_id,
        task_type: ticket.task_type.as_str().to_owned(),
        error_code: verdict.failure().map(|failed| failed.code.clone()),
        duration_ms,
        trace: input.trace.clone(),
        dependencies,
        sla,
    })
}

fn sla(
    input: &TicketInput,
    machine: &Machine,
    wait: Option<&DependencyWait>,
    started_ms: i64,
    ended_ms: i64,
) -> SlaLedger {
    let created_ms = input.ticket.created_at;
    let from_ms = created_ms.unwrap_or(started_ms);
    SlaLedger {
        queue_ms: created_ms.map(|created_ms| u64::try_from(started_ms - created_ms).unwrap_or(0)),
        dependency_ms: wait.map_or(0, |wait| u64::try_from(wait.waited_ms).unwrap_or(0)),
        times: machine.ledger().times,
        deadline_used: machine.enforced_deadline_ms().or(machine.deadline_ms()).map(|deadline_ms| {
            let (used, all) = ((ended_ms - from_ms).max(0) as f64, (deadline_ms - from_ms).max(1) as f64);
            (used / all * 1000.0).round() / 1000.0
        }),
    }
}

/// The keys that readers of the JSON form look for; Avro readers find them in `result.metadata`.
fn extra_keys(input: &TicketInput, machine: &Machine, duration_ms: i64) -> BTreeMap<String, Value> {
    let ticket = &input.ticket;
    let mut extra = BTreeMap::from([
        ("execution_time_ms".to_owned(), json!(duration_ms)),
        ("retry_count".to_owned(), json!(machine.ledger().count.saturating_sub(1))),
        ("plan_id".to_owned(), json!(ticket.plan_id)),
        ("intent_id".to_owned(), json!(ticket.intent_id)),
        ("task_type".to_owned(), json!(ticket.task_type)),
    ]);
    if let Some(deadline) = machine.deadline_ms() {
        extra.insert("sla_deadline".to_owned(), json!(deadline));
    }
    if let Some(correlation_id) = &ticket.correlation_id {
        extra.insert("correlation_id".to_owned(), json!(correlation_id));
    }
    extra
}
