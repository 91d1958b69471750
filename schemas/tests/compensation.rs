//! The ticket that undoes another: what it holds for each task type, and that one undo has one ticket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use serde_json::{Value, json};
use ticket_schemas::*;

const EPOCH: &str = "0198c0de-run#1";
const NOW: i64 = 1_773_653_400_000;

fn original(task_type: &str, parameters: Value) -> Ticket {
    let ticket = json!({
        "ticket_id": "685392a1-564f-50f6-af92-a6587b4b0cc6", "plan_id": "plan-1", "intent_id": "intent-1",
        "decision_id": "decision-1", "correlation_id": "c-1", "task_id": "deploy", "task_type": task_type,
        "status": "PENDING", "dependencies": ["x"], "priority": "CRITICAL", "risk_band": "high",
        "security_level": "RESTRICTED", "required_capabilities": ["kubernetes"], "parameters": parameters,
        "metadata": {"workflow_id": "orch-1", "webhook_url": "http://not.copied"},
    });
    decode_json_ticket(ticket.to_string().as_bytes()).unwrap()
}

fn made(task_type: &str, parameters: Value) -> Ticket {
    compensation_of(&original(task_type, parameters), EPOCH, NOW).unwrap()
}

#[test]
fn inc_38_each_type_with_an_undo_has_its_action_and_the_originals_parameters() {
    let own = json!({"reason": "task_failed", "original_ticket_id": "685392a1-564f-50f6-af92-a6587b4b0cc6"});
    for (task_type, given, expected) in [
        (
            "BUILD",
            json!({"artifact_ids": ["a", "b"], "registry_url": "https://r", "image_tag": "v1", "repository": "p", "env": {}}),
            json!({"action": "delete_artifacts", "artifact_ids": "[\"a\",\"b\"]", "registry_url": "https://r",
                   "image_tag": "v1", "repository": "p"}),
        ),
        (
            "BUILD",
            json!({}),
            json!({"action": "delete_artifacts", "artifact_ids": "[]", "registry_url": "", "image_tag": "", "repository": ""}),
        ),
        (
            "DEPLOY",
            json!({"deployment_name": "payments", "provider": "flux", "namespace": "prod", "previous_revision": "v1",
                   "cluster_server": "https://k", "image": "x"}),
            json!({"action": "rollback_deployment", "deployment_name": "payments", "previous_revision": "v1",
                   "namespace": "prod", "provider": "flux", "cluster_server": "https://k"}),
        ),
        (
            "DEPLOY",
            json!({"previous_revision": null, "namespace": "None"}),
            json!({"action": "rollback_deployment", "deployment_name": "", "previous_revision": "HEAD~1",
                   "namespace": "default", "provider": "argocd", "cluster_server": ""}),
        ),
        (
            "TEST",
            json!({"test_id": "t", "namespace": "n", "resources": "[\"job/x\"]", "cleanup_jobs": false}),
            json!({"action": "cleanup_test_env", "test_id": "t", "namespace": "n", "resources": "[\"job/x\"]",
                   "cleanup_jobs": "false"}),
        ),
        (
            "TEST",
            json!({}),
            json!({"action": "cleanup_test_env", "test_id": "", "namespace": "default", "resources": "[]",
                   "cleanup_jobs": "true"}),
        ),
        (
            "VALIDATE",
            json!({"approval_id": "a", "validation_id": "v"}),
            json!({"action": "revert_approval", "approval_id": "a", "validation_id": "v", "revert_status": "PENDING",
                   "plan_id": "plan-1"}),
        ),
        (
            "EXECUTE",
            json!({"execution_id": "e", "rollback_script": "undo --all", "working_dir": "/tmp/x", "cleanup_outputs": "no",
                   "command": "sh"}),
            json!({"action": "rollback_execution", "execution_id": "e", "rollback_script": "undo --all",
                   "working_dir": "/tmp/x", "cleanup_outputs": "no"}),
        ),
        (
            "EXECUTE",
            json!({}),
            json!({"action": "rollback_execution", "execution_id": "", "rollback_script": "", "working_dir": "",
                   "cleanup_outputs": "true"}),
        ),
    ] {
        let mut expected = expected.as_object().unwrap().clone();
        expected.extend(own.as_object().unwrap().clone());
        expected.insert("original_task_type".to_owned(), json!(task_type));
        assert_eq!(json!(made(task_type, given).parameters), Value::Object(expected), "{task_type}");
    }
}

#[test]
fn inc_38_types_that_leave_nothing_behind_have_no_undo_and_nothing_undoes_an_undo() {
    for task_type in ["QUERY", "TRANSFORM", "COMPENSATE"] {
        assert_eq!(compensation_of(&original(task_type, json!({})), EPOCH, NOW), None, "{task_type}");
        assert_eq!(compensation_action(task_type.parse().unwrap()), None, "{task_type}");
    }
}

#[test]
fn inc_38_a_retry_makes_the_same_ticket_and_another_epoch_another_one() {
    let original = original("DEPLOY", json!({"deployment_name": "payments"}));
    let first = compensation_of(&original, EPOCH, NOW).unwrap();
    let later = compensation_of(&original, EPOCH, NOW + 86_400_000).unwrap();
    assert_eq!(first.ticket_id, later.ticket_id);
    assert_eq!(WorkDigest::of(&first), WorkDigest::of(&later), "times are not covered");
    assert_eq!(first.ticket_id.as_str(), compensation_id(&original.ticket_id, "rollback_deployment", EPOCH));
    // Never changes: a worker of the next version must name the ticket of this one.
    assert_eq!(compensation_id(&original.ticket_id, "rollback_deployment", EPOCH), PINNED);
    for epoch in ["0198c0de-run#2", "0198c0df-run#1"] {
        assert_ne!(compensation_of(&original, epoch, NOW).unwrap().ticket_id, first.ticket_id, "{epoch}");
    }
    assert_ne!(compensation_id(&original.ticket_id, "delete_artifacts", EPOCH), first.ticket_id.as_str());
}

const PINNED: &str = "4a294381-4e7c-57fd-8d33-e3be64f1c5e2";

#[test]
fn inc_39_the_ticket_conforms_in_both_encodings_with_one_digest() {
    for (task_type, parameters) in [
        ("BUILD", json!({"artifact_ids": ["a", {"b": [1, 2.5]}]})),
        ("DEPLOY", json!({})),
        ("TEST", json!({"cleanup_jobs": true, "resources": ["x"]})),
        ("VALIDATE", json!({})),
        ("EXECUTE", json!({"rollback_script": "a 'b c' \u{e9}\n"})),
    ] {
        let ticket = made(task_type, parameters);
        assert!(ticket.parameters.values().all(Value::is_string), "{task_type}: {:?}", ticket.parameters);
        let avro = encode_avro_ticket(&ticket, 7).unwrap();
        let Frame::Avro { body, .. } = Frame::detect(Some(&avro)).unwrap() else { panic!("not framed") };
        assert_eq!(decode_avro_ticket(body, &WriterSchema::ticket()).unwrap(), ticket, "{task_type}");
        assert_eq!(decode_json_ticket(&encode_json_ticket(&ticket)).unwrap(), ticket, "{task_type}");
    }
}

#[test]
fn inc_39_no_field_is_left_out() {
    let ticket = made("DEPLOY", json!({}));
    assert_eq!(ticket.task_id, "compensate-685392a1");
    assert_eq!(ticket.description, "Undo DEPLOY ticket 685392a1");
    assert_eq!((ticket.task_type, ticket.status), (TaskType::Compensate, TicketStatus::Pending));
    assert_eq!((ticket.plan_id.as_str(), ticket.intent_id.as_str()), ("plan-1", "intent-1"));
    assert_eq!((ticket.decision_id.as_deref(), ticket.correlation_id.as_deref()), (Some("decision-1"), Some("c-1")));
    assert_eq!((ticket.priority, ticket.risk_band), (Priority::Critical, RiskBand::High));
    assert_eq!(ticket.security_level, SecurityLevel::Restricted);
    assert_eq!(ticket.created_at, Some(NOW));
    let sla = ticket.sla.unwrap();
    assert_eq!((sla.timeout_ms, sla.max_retries), (Some(120_000), Some(3)));
    assert_eq!(sla.deadline, Some(NOW + COMPENSATION_DEADLINE_MS));
    let qos = ticket.qos.unwrap();
    assert_eq!(qos.delivery_mode, DeliveryMode::ExactlyOnce);
    assert!(ticket.dependencies.is_empty() && ticket.required_capabilities.is_empty());
    assert_eq!(
        json!(ticket.metadata),
        json!({"workflow_id": "orch-1", "generated_by": "worker-agents", "compensation_reason": "task_failed",
               "original_task_type": "DEPLOY", "original_status": "FAILED"})
    );
}

#[test]
fn inc_39_the_advised_samples_are_what_is_made_of_their_originals() {
    let mut compared = 0;
    for (name, bytes) in common::files("tickets", "json") {
        if !name.starts_with("compensate-") || name == "compensate-generic" {
            continue;
        }
        let sample = decode_json_ticket(&bytes).unwrap();
        let mut original = sample.clone();
        let text = |key: &str| sample.parameters[key].as_str().unwrap();
        original.ticket_id = TicketId::parse(text("original_ticket_id")).unwrap();
        original.task_type = text("original_task_type").parse().unwrap();
        let mut made = compensation_of(&original, EPOCH, sample.created_at.unwrap()).unwrap();
        let values = |ticket: &Ticket| {
            ticket.parameters.iter().map(|(key, value)| (key.clone(), canonical(value))).collect::<Vec<_>>()
        };
        assert_eq!(values(&made), values(&sample), "{name}");
        // Ids are made otherwise, and the sample's deadline leaves no time for a retry.
        made.ticket_id = sample.ticket_id.clone();
        made.sla = sample.sla.clone();
        made.estimated_duration_ms = sample.estimated_duration_ms;
        made.parameters = sample.parameters.clone();
        assert_eq!(made, sample, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 6);
}
