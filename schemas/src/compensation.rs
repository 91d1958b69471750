//! The ticket that undoes another one (`contracts/execution-ticket-service.md §4`, INC-38, INC-39): a pure function of the
//! failed ticket, of the run in which it failed, and of a time.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::fields::wire_text;
use crate::ids::{TaskId, TicketId};
use crate::parameters::ParameterView;
use crate::ticket::{Qos, Sla, Ticket};
use crate::vocabulary::{Consistency, DeliveryMode, Durability, TaskType, TicketStatus};

/// Time that one attempt at an undo may take, in milliseconds (`contracts/execution-ticket-service.md §4.2`).
pub const COMPENSATION_TIMEOUT_MS: i64 = 120_000;
/// Further attempts of an undo: those that the orchestrator gives every ticket.
pub const COMPENSATION_RETRIES: i32 = 3;
/// From its creation to its deadline, in milliseconds. The contract leaves it open; an undo that comes late is wanted all the
/// same, and an hour holds all its attempts behind a queue.
pub const COMPENSATION_DEADLINE_MS: i64 = 3_600_000;
/// The `reason` of a compensation that a failed ticket asks for.
pub const COMPENSATION_REASON: &str = "task_failed";
/// Characters of the original's id in the task id.
const SHORT_ID: usize = 8;

/// What undoes a task type: the action, and the original's parameters that it needs, with what stands for an absent one.
struct Undo {
    action: &'static str,
    parameters: &'static [(&'static str, &'static str)],
}

/// The table of `contracts/execution-ticket-service.md §4.2`. QUERY and TRANSFORM leave nothing behind that could be undone,
/// and nothing undoes an undo.
fn undo(task_type: TaskType) -> Option<Undo> {
    let (action, parameters): (_, &'static [_]) = match task_type {
        TaskType::Build => {
            ("delete_artifacts", &[("artifact_ids", "[]"), ("registry_url", ""), ("image_tag", ""), ("repository", "")])
        }
        TaskType::Deploy => (
            "rollback_deployment",
            &[
                ("deployment_name", ""),
                ("previous_revision", "HEAD~1"),
                ("namespace", "default"),
                ("provider", "argocd"),
                ("cluster_server", ""),
            ],
        ),
        TaskType::Test => (
            "cleanup_test_env",
            &[("test_id", ""), ("namespace", "default"), ("resources", "[]"), ("cleanup_jobs", "true")],
        ),
        TaskType::Validate => {
            ("revert_approval", &[("approval_id", ""), ("validation_id", ""), ("revert_status", "PENDING")])
        }
        TaskType::Execute => (
            "rollback_execution",
            &[("execution_id", ""), ("rollback_script", ""), ("working_dir", ""), ("cleanup_outputs", "true")],
        ),
        TaskType::Compensate | TaskType::Query | TaskType::Transform => return None,
    };
    Some(Undo { action, parameters })
}

/// The action that undoes tickets of a type; `None` when there is nothing to undo.
#[must_use]
pub fn compensation_action(task_type: TaskType) -> Option<&'static str> {
    undo(task_type).map(|undo| undo.action)
}

/// The id of the ticket that undoes `original` in one run of it: UUIDv5 over original id, action and `epoch`. The epoch is
/// another one for each run and for each time that an operator has the undo tried again, so one epoch has one ticket.
#[must_use]
pub fn compensation_id(original: &TicketId, action: &str, epoch: &str) -> String {
    let name = format!("worker-agents/compensation/{original}/{action}/{epoch}");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}

/// The ticket that undoes `original`; `None` when its type has nothing to undo. `created_at_ms` is epoch milliseconds.
///
/// It conforms in Avro as in JSON: every field that the schema wants is there, and every parameter is a text (INC-39). Copies
/// made at different times differ in their times alone, which the work digest does not cover.
#[must_use]
pub fn compensation_of(original: &Ticket, epoch: &str, created_at_ms: i64) -> Option<Ticket> {
    let undo = undo(original.task_type)?;
    let id = original.ticket_id.as_str();
    let short: String = id.chars().take(SHORT_ID).collect();
    let task_type = original.task_type.as_str();
    let given = ParameterView::new(&original.parameters);
    let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
    let mut set = |key: &str, text: &str| parameters.insert(key.to_owned(), text.into());
    for (key, fallback) in undo.parameters {
        set(key, given.get(key).and_then(wire_text).as_deref().unwrap_or(fallback));
    }
    if original.task_type == TaskType::Validate {
        // The approval service addresses approvals by plan.
        set("plan_id", original.plan_id.as_str());
    }
    set("action", undo.action);
    set("reason", COMPENSATION_REASON);
    set("original_ticket_id", id);
    set("original_task_type", task_type);

    let mut metadata: BTreeMap<String, String> = [
        ("generated_by", "worker-agents"),
        ("compensation_reason", COMPENSATION_REASON),
        ("original_task_type", task_type),
        ("original_status", TicketStatus::Failed.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    if let Some(workflow_id) = original.metadata.get("workflow_id") {
        metadata.insert("workflow_id".to_owned(), workflow_id.clone());
    }
    Some(Ticket {
        ticket_id: TicketId::parse(&compensation_id(&original.ticket_id, undo.action, epoch)).ok()?,
        plan_id: original.plan_id.clone(),
        intent_id: original.intent_id.clone(),
        decision_id: original.decision_id.clone(),
        correlation_id: original.correlation_id.clone(),
        trace_id: original.trace_id.clone(),
        span_id: original.span_id.clone(),
        task_id: TaskId::from(format!("compensate-{short}")),
        task_type: TaskType::Compensate,
        description: format!("Undo {task_type} ticket {short}"),
        dependencies: Vec::new(),
        status: TicketStatus::Pending,
        priority: original.priority,
        risk_band: original.risk_band,
        sla: Some(Sla {
            deadline: Some(created_at_ms.saturating_add(COMPENSATION_DEADLINE_MS)),
            timeout_ms: Some(COMPENSATION_TIMEOUT_MS),
            max_retries: Some(COMPENSATION_RETRIES),
        }),
        qos: Some(Qos {
            delivery_mode: DeliveryMode::ExactlyOnce,
            consistency: Consistency::Strong,
            durability: Durability::Persistent,
        }),
        parameters,
        required_capabilities: Vec::new(),
        security_level: original.security_level,
        created_at: Some(created_at_ms),
        started_at: None,
        completed_at: None,
        estimated_duration_ms: None,
        actual_duration_ms: None,
        retry_count: 0,
        error_message: None,
        compensation_ticket_id: None,
        metadata,
        schema_version: 1,
    })
}
