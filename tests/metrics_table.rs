//! Every metric that exists: name, type, labels, buckets. The first part is the platform's contract
//! (`contracts/observability.md §2`), the second is ours.

use std::collections::BTreeSet;

use prometheus::proto::{MetricFamily, MetricType};
use worker_agents::metrics::Metrics;

type Row = (&'static str, MetricType, &'static [&'static str], &'static [f64]);

const TASK: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const PAUSE: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const RETRIES: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
const DLQ: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0];
const WAIT: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const STAGE: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
const DEADLINE: &[f64] = &[0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0];
const AGENTS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];
const DISCOVERY: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const PYTHON: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const FETCH: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const LOCAL: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const EXECUTE: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const LAMBDA: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];
const CALL_WAIT: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];
const START: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0];

const TABLE: &[Row] = &[
    ("worker_agent_startup_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_registered_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_heartbeat_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_deregistered_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_registrations", MetricType::GAUGE, &[], &[]),
    ("worker_agent_discovery_requests_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_discovery_agents_found", MetricType::HISTOGRAM, &[], AGENTS),
    ("worker_agent_discovery_duration_seconds", MetricType::HISTOGRAM, &[], DISCOVERY),
    ("worker_agent_tickets_consumed_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_tickets_processing_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_tickets_completed_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_tickets_failed_total", MetricType::COUNTER, &["task_type", "error_type"], &[]),
    ("worker_agent_active_tasks", MetricType::GAUGE, &[], &[]),
    ("worker_agent_tickets_in_flight", MetricType::GAUGE, &[], &[]),
    ("worker_agent_max_concurrent_tickets", MetricType::GAUGE, &[], &[]),
    ("worker_agent_consumer_group_members", MetricType::GAUGE, &[], &[]),
    ("worker_agent_consumer_paused_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_consumer_resumed_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_consumer_pause_duration_seconds", MetricType::HISTOGRAM, &[], PAUSE),
    ("worker_agent_consumer_pause_start_time_seconds", MetricType::GAUGE, &[], &[]),
    ("worker_agent_task_duration_seconds", MetricType::HISTOGRAM, &["task_type"], TASK),
    ("worker_agent_duplicates_detected_total", MetricType::COUNTER, &["component"], &[]),
    ("worker_agent_kafka_consumer_initialized_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_kafka_producer_initialized_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_kafka_consumer_errors_total", MetricType::COUNTER, &["error_type"], &[]),
    ("worker_agent_results_published_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_kafka_producer_errors_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_dlq_messages_total", MetricType::COUNTER, &["reason", "task_type"], &[]),
    ("worker_agent_dlq_publish_duration_seconds", MetricType::HISTOGRAM, &[], DLQ),
    ("worker_agent_dlq_publish_errors_total", MetricType::COUNTER, &["error_type"], &[]),
    ("worker_agent_ticket_retry_count", MetricType::HISTOGRAM, &["task_type"], RETRIES),
    ("worker_agent_dlq_alerts_sent_total", MetricType::COUNTER, &["severity", "task_type"], &[]),
    ("worker_agent_dlq_alert_errors_total", MetricType::COUNTER, &["error_type"], &[]),
    ("worker_agent_dependency_checks_total", MetricType::COUNTER, &["result"], &[]),
    ("worker_agent_dependency_wait_duration_seconds", MetricType::HISTOGRAM, &[], WAIT),
    ("worker_agent_task_retries_total", MetricType::COUNTER, &["attempt", "task_type"], &[]),
    ("worker_agent_tasks_cancelled_total", MetricType::COUNTER, &["reason"], &[]),
    ("worker_agent_tasks_preempted_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_sla_violations_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_ticket_stage_duration_seconds", MetricType::HISTOGRAM, &["stage"], STAGE),
    ("worker_agent_deadline_used_ratio", MetricType::HISTOGRAM, &[], DEADLINE),
    ("worker_agent_executors_registered_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_execute_tasks_executed_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_execute_duration_seconds", MetricType::HISTOGRAM, &["runtime"], EXECUTE),
    ("worker_agent_local_executions_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_local_execution_duration_seconds", MetricType::HISTOGRAM, &[], LOCAL),
    ("worker_agent_docker_executions_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_docker_execution_duration_seconds", MetricType::HISTOGRAM, &["stage"], TASK),
    ("worker_agent_docker_api_calls_total", MetricType::COUNTER, &["method", "status"], &[]),
    ("worker_agent_lambda_invocations_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_lambda_duration_seconds", MetricType::HISTOGRAM, &[], LAMBDA),
    ("worker_agent_lambda_billed_duration_seconds", MetricType::HISTOGRAM, &[], LAMBDA),
    ("worker_agent_code_forge_api_calls_total", MetricType::COUNTER, &["method", "status"], &[]),
    ("worker_agent_compensation_tasks_executed_total", MetricType::COUNTER, &["action", "status"], &[]),
    ("worker_agent_compensation_duration_seconds", MetricType::HISTOGRAM, &["reason", "status"], TASK),
    ("worker_agent_circuit_breaker_state", MetricType::GAUGE, &["provider"], &[]),
    ("worker_agent_circuit_breaker_opened_total", MetricType::COUNTER, &["provider"], &[]),
    ("worker_agent_circuit_breaker_refused_total", MetricType::COUNTER, &["provider"], &[]),
    ("worker_agent_provider_call_wait_seconds", MetricType::HISTOGRAM, &["provider"], CALL_WAIT),
    ("worker_agent_k8s_jobs_executed_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_k8s_job_duration_seconds", MetricType::HISTOGRAM, &["stage"], TASK),
    ("worker_agent_k8s_api_calls_total", MetricType::COUNTER, &["method", "status"], &[]),
    ("worker_agent_records_total", MetricType::COUNTER, &["disposition"], &[]),
    ("worker_agent_workflow_start_duration_seconds", MetricType::HISTOGRAM, &[], START),
    ("worker_agent_result_encodings_total", MetricType::COUNTER, &["encoding"], &[]),
    ("worker_agent_result_fallbacks_total", MetricType::COUNTER, &[], &[]),
    ("worker_agent_trace_headers_ignored_total", MetricType::COUNTER, &["header"], &[]),
    ("worker_agent_trace_spans_total", MetricType::COUNTER, &["outcome"], &[]),
    ("worker_agent_ticket_api_calls_total", MetricType::COUNTER, &["method", "status"], &[]),
    ("worker_agent_ticket_status_updates_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_ticket_status_lost_total", MetricType::COUNTER, &["reason"], &[]),
    ("worker_agent_report_stuck_total", MetricType::COUNTER, &["peer"], &[]),
    ("worker_agent_tickets_simulated_total", MetricType::COUNTER, &["task_type"], &[]),
    ("worker_agent_execute_runtime_fallbacks_total", MetricType::COUNTER, &["from_runtime", "to_runtime"], &[]),
    ("worker_agent_rejections_total", MetricType::COUNTER, &["outcome"], &[]),
    ("worker_agent_http_api_refusals_total", MetricType::COUNTER, &["reason"], &[]),
    ("worker_agent_http_api_orders_total", MetricType::COUNTER, &["outcome", "verb"], &[]),
    ("spiffe_svid_fetch_total", MetricType::COUNTER, &["svid_type", "status"], &[]),
    ("spiffe_svid_fetch_duration_seconds", MetricType::HISTOGRAM, &["svid_type"], FETCH),
    ("spiffe_svid_ttl_seconds", MetricType::GAUGE, &["svid_type"], &[]),
    ("spiffe_trust_bundle_updates_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_startup_check_failures", MetricType::GAUGE, &["check", "state"], &[]),
    ("vault_requests_total", MetricType::COUNTER, &["operation", "status"], &[]),
    ("vault_request_duration_seconds", MetricType::HISTOGRAM, &["operation"], PYTHON),
    ("vault_token_renewals_total", MetricType::COUNTER, &["status"], &[]),
    ("vault_token_ttl_seconds", MetricType::GAUGE, &[], &[]),
    ("worker_vault_credentials_fetched_total", MetricType::COUNTER, &["credential_type", "status"], &[]),
    ("worker_vault_renewal_task_runs_total", MetricType::COUNTER, &["status"], &[]),
    ("worker_agent_setup_faults_total", MetricType::COUNTER, &["fault"], &[]),
];

/// A metric with labels exists for a scrape only once it was touched.
fn touched() -> Vec<MetricFamily> {
    let metrics = Metrics::new().expect("metrics");
    for one in [
        &metrics.agent_heartbeat,
        &metrics.discovery_requests,
        &metrics.tickets_consumed,
        &metrics.tickets_processing,
        &metrics.tickets_completed,
        &metrics.duplicates_detected,
        &metrics.kafka_consumer_errors,
        &metrics.results_published,
        &metrics.dlq_publish_errors,
        &metrics.dlq_alert_errors,
        &metrics.dependency_checks,
        &metrics.tasks_cancelled,
        &metrics.sla_violations,
        &metrics.executors_registered,
        &metrics.records,
        &metrics.result_encodings,
        &metrics.trace_headers_ignored,
        &metrics.trace_spans,
        &metrics.ticket_status_updates,
        &metrics.ticket_status_lost,
        &metrics.report_stuck,
        &metrics.tickets_simulated,
        &metrics.rejections,
        &metrics.http_api_refusals,
        &metrics.setup_faults,
        &metrics.vault.token_renewals,
        &metrics.vault.looks,
        &metrics.spiffe.trust_bundle_updates,
        &metrics.execute.tasks,
        &metrics.execute.local_executions,
        &metrics.execute.docker_executions,
        &metrics.execute.lambda_invocations,
        &metrics.endpoints.circuit_opened,
        &metrics.endpoints.refused,
        &metrics.execute.k8s_jobs,
    ] {
        one.with_label_values(&["x"]).inc();
    }
    metrics.tickets_failed.with_label_values(&["x", "y"]).inc();
    metrics.execute.fallbacks.with_label_values(&["x", "y"]).inc();
    metrics.spiffe.svid_fetch.with_label_values(&["x", "y"]).inc();
    metrics.spiffe.svid_fetch_duration.with_label_values(&["x"]).observe(1.0);
    metrics.spiffe.svid_ttl.with_label_values(&["x"]).set(1);
    metrics.http_api_orders.with_label_values(&["x", "y"]).inc();
    metrics.ticket_api_calls.with_label_values(&["x", "y"]).inc();
    metrics.dlq_messages.with_label_values(&["x", "y"]).inc();
    metrics.dlq_alerts_sent.with_label_values(&["x", "y"]).inc();
    metrics.vault.requests.with_label_values(&["x", "y"]).inc();
    metrics.vault.request_duration.with_label_values(&["x"]).observe(1.0);
    metrics.vault.secrets_read.with_label_values(&["x", "y"]).inc();
    metrics.ticket_retry_count.with_label_values(&["x"]).observe(1.0);
    metrics.startup_check_failures.with_label_values(&["x", "y"]).set(1);
    metrics.execute.duration.with_label_values(&["x"]).observe(1.0);
    metrics.endpoints.circuit_state.with_label_values(&["x"]).set(1);
    metrics.endpoints.wait.with_label_values(&["x"]).observe(1.0);
    metrics.execute.docker_duration.with_label_values(&["x"]).observe(1.0);
    metrics.execute.docker_calls.with_label_values(&["x", "y"]).inc();
    metrics.code_forge_calls.with_label_values(&["x", "y"]).inc();
    metrics.compensate.tasks.with_label_values(&["x", "y"]).inc();
    metrics.compensate.duration.with_label_values(&["x", "y"]).observe(1.0);
    metrics.execute.k8s_duration.with_label_values(&["x"]).observe(1.0);
    metrics.execute.k8s_calls.with_label_values(&["x", "y"]).inc();
    metrics.task_duration.with_label_values(&["x"]).observe(1.0);
    metrics.task_retries.with_label_values(&["x", "y"]).inc();
    metrics.ticket_stage_duration.with_label_values(&["x"]).observe(1.0);
    metrics.gather()
}

#[test]
fn every_metric_has_the_contracts_name_type_labels_and_buckets() {
    let families = touched();
    let existing: BTreeSet<&str> = families.iter().map(MetricFamily::name).collect();
    let listed: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
    assert_eq!(existing, listed);
    for (name, kind, labels, buckets) in TABLE {
        let family = families.iter().find(|family| family.name() == *name).expect("exists");
        assert_eq!(family.get_field_type(), *kind, "{name}");
        let metric = &family.get_metric()[0];
        let found: BTreeSet<&str> = metric.get_label().iter().map(|label| label.name()).collect();
        assert_eq!(found, labels.iter().copied().collect(), "{name}");
        if *kind == MetricType::HISTOGRAM {
            let bounds: Vec<f64> =
                metric.get_histogram().get_bucket().iter().map(|bucket| bucket.upper_bound()).collect();
            assert_eq!(bounds, *buckets, "{name}");
        }
    }
}

#[test]
fn the_operators_page_lists_every_metric() {
    let page = include_str!("../docs/operations/metrics.md");
    for (name, _, labels, _) in TABLE {
        let row = page
            .lines()
            .find(|line| line.contains(&format!("`{name}`")))
            .unwrap_or_else(|| panic!("{name} is missing"));
        for label in *labels {
            assert!(row.contains(&format!("`{label}`")), "{name}: label {label} is missing in {row}");
        }
    }
}
