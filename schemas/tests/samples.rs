//! Every sample message, both ways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::BTreeMap;

use serde_json::Value;
use ticket_schemas::*;

fn avro_round_trip(ticket: &Ticket) -> Ticket {
    let bytes = encode_avro_ticket(ticket, 7).unwrap();
    let Frame::Avro { schema_id: 7, body } = Frame::detect(Some(&bytes)).unwrap() else { panic!("not framed") };
    decode_avro_ticket(body, &WriterSchema::ticket()).unwrap()
}

#[test]
fn all_53_tickets_decode_to_exactly_what_they_say() {
    let files = common::files("tickets", "json");
    assert_eq!(files.len(), 53);
    for (name, bytes) in files {
        let source: Value = serde_json::from_slice(&bytes).unwrap();
        let ticket = decode_json_ticket(&bytes).unwrap();
        assert_eq!(ticket.to_json(), source, "{name}");
        assert_eq!(avro_round_trip(&ticket), ticket, "{name}");
        assert_eq!(decode_json_ticket(&encode_json_ticket(&ticket)).unwrap(), ticket, "{name}");
        assert_eq!(serde_json::from_value::<Ticket>(source).unwrap(), ticket, "{name}");
    }
}

#[test]
fn all_29_native_tickets_are_handled_as_the_contract_says() {
    // The code of the error, or the task type of the ticket.
    let expected: BTreeMap<&str, Result<&str, &str>> = BTreeMap::from([
        ("edge-camel-case-correlation", Ok("EXECUTE")),
        ("edge-self-dependency", Ok("EXECUTE")),
        ("edge-sla-null", Ok("EXECUTE")),
        ("invalid-empty-ticket-id", Err("invalid_ticket_id")),
        ("invalid-missing-dependencies", Err("missing_field")),
        ("legacy-int-priority", Ok("EXECUTE")),
        ("orchestrator-compensation", Ok("COMPENSATE")),
        ("orchestrator-compensation-build-lists", Ok("COMPENSATE")),
        ("orchestrator-extra-keys", Ok("EXECUTE")),
        ("planner-dag-query-no-collection", Ok("QUERY")),
        ("planner-query-decision-path", Ok("QUERY")),
        ("planner-query-direct-path", Ok("QUERY")),
        ("planner-transform-direct-path", Ok("TRANSFORM")),
        ("planner-transform-null-input", Ok("TRANSFORM")),
        ("planner-validate", Ok("VALIDATE")),
        ("planner-validate-monitoring", Ok("VALIDATE")),
        ("redriven-from-dlq", Ok("TEST")),
        ("seed-deploy-argocd", Ok("DEPLOY")),
        ("seed-deploy-flux", Ok("DEPLOY")),
        ("seed-execute-docker", Ok("EXECUTE")),
        ("seed-execute-k8s", Ok("EXECUTE")),
        ("seed-execute-lambda", Ok("EXECUTE")),
        ("seed-execute-local", Ok("EXECUTE")),
        ("seed-test-github-actions", Ok("TEST")),
        ("seed-test-gitlab-ci", Ok("TEST")),
        ("seed-test-jenkins", Ok("TEST")),
        ("seed-test-local", Ok("TEST")),
        ("unsupported-type-create", Err("unknown_task_type")),
        ("validate-policy-object-input", Ok("VALIDATE")),
    ]);
    let files = common::files("tickets-json-native", "json");
    assert_eq!(files.len(), 29);
    for (name, bytes) in files {
        let found = decode_json_ticket(&bytes);
        let summary = found.as_ref().map(|ticket| ticket.task_type.as_str()).map_err(DecodeError::code);
        assert_eq!(summary, expected[name.as_str()], "{name}");
        if let Ok(ticket) = found {
            assert_eq!(decode_json_ticket(&encode_json_ticket(&ticket)).unwrap(), ticket, "{name}");
            let source: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(serde_json::to_value(&ticket.parameters).unwrap(), source["parameters"], "{name}");
        }
    }
}

#[test]
fn what_native_tickets_mean() {
    let read = |name: &str| decode_json_ticket(&common::file(&format!("tickets-json-native/{name}.json"))).unwrap();
    assert_eq!(read("legacy-int-priority").priority, Priority::High);
    assert_eq!(read("edge-sla-null").sla, None);
    let camel = read("edge-camel-case-correlation").correlation_id;
    assert_eq!(camel.as_deref(), Some("9bd4089e-e5c3-5710-85da-cefd795eb570"));
    let cycle = read("edge-self-dependency");
    assert_eq!(cycle.dependencies, [cycle.ticket_id]);
    assert_eq!(read("planner-query-direct-path").decision_id, None);
}

#[test]
fn inc_39_the_orchestrators_compensation_ticket_is_taken_with_its_holes() {
    let ticket = decode_json_ticket(&common::file("tickets-json-native/orchestrator-compensation.json")).unwrap();
    assert_eq!(ticket.decision_id, None);
    assert_eq!(ticket.description, "");
    assert_eq!(ticket.qos, None);
    assert_eq!(ticket.security_level, SecurityLevel::Internal);
    assert_eq!(ticket.sla, Some(Sla { deadline: None, timeout_ms: Some(120_000), max_retries: None }));
    let error = encode_avro_ticket(&ticket, 1).unwrap_err();
    assert_eq!(error.code(), "missing_field");
    assert!(error.to_string().contains("sla.deadline"), "{error}");
}

#[test]
fn inc_89_an_unsupported_type_keeps_its_hints() {
    let error = decode_json_ticket(&common::file("tickets-json-native/unsupported-type-create.json")).unwrap_err();
    assert_eq!(error.ticket_id_hint(), Some("1d181762-46b5-52ac-a8ba-c69608530546"));
    assert_eq!(error.task_type_hint(), Some("create"));
    assert_eq!(error.original().unwrap()["task_id"], "task_2");
}

#[test]
fn all_25_results_decode_to_exactly_what_they_say() {
    let files = common::files("results", "json");
    assert_eq!(files.len(), 25);
    for (name, bytes) in files {
        let source: Value = serde_json::from_slice(&bytes).unwrap();
        let result = decode_json_result(&bytes).unwrap();
        assert_eq!(serde_json::to_value(&result).unwrap(), source, "{name}");
        let again = encode_json_result(&result, &BTreeMap::new());
        assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), source, "{name}");
        let avro = encode_avro_result(&result, 2).unwrap();
        assert_eq!(decode_avro_result(&avro[5..], &WriterSchema::result()).unwrap(), result, "{name}");
    }
}

#[test]
fn native_results() {
    let read = |name: &str| decode_json_result(&common::file(&format!("results-json-native/{name}.json")));
    assert_eq!(read("build-failed-with-extra-keys").unwrap().status, ExecutionStatus::Failed);
    let literals = read("upstream-python-literals").unwrap();
    assert_eq!(literals.result.output["count"], "1");
    let illegal = read("upstream-illegal-preempted").unwrap_err();
    assert_eq!(illegal.code(), "unknown_execution_status");
    assert_eq!(illegal.ticket_id_hint(), Some("c3c351c3-2a1a-55c9-963d-b389f79599d1"));
}
