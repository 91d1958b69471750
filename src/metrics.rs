//! Every metric of the worker: name, type, labels, buckets. Names, labels and buckets of the platform's contract
//! (`contracts/observability.md §2`) are kept; further ones are ours. Label values are bounded, never ticket content
//! (INC-92).

mod attempt;
mod compensate;
mod endpoints;
mod execute;
mod spiffe;
mod vault;

use std::sync::Arc;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::service_registry::Executions;
pub use compensate::CompensateMetrics;
pub use endpoints::{CIRCUIT_STATE, EndpointMetrics};
pub use execute::ExecuteMetrics;
pub use spiffe::SpiffeMetrics;
pub use vault::VaultMetrics;

const TASK_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const PAUSE_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Failures, not seconds.
const RETRY_BUCKETS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
const DLQ_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Workflow starts take milliseconds. The window holds their 99th percentile below 0.15.
const START_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0];

const WAIT_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// From a fast start to a ticket that runs for hours.
const STAGE_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
/// Agents, not seconds.
const AGENTS_BUCKETS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];
const DISCOVERY_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Parts of a deadline, not seconds.
const DEADLINE_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0];

/// The metrics and the registry that serves them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Process starts.
    pub startup: IntCounter,
    /// The attempts that ended here, as the Service Registry is told of them.
    pub executions: Arc<Executions>,
    /// Agents that the Service Registry has taken.
    pub agent_registered: IntCounter,
    /// Heartbeats, by whether the registry took them: success, error.
    pub agent_heartbeat: IntCounterVec,
    /// Agents that the registry was told are gone.
    pub agent_deregistered: IntCounter,
    /// Agents of this worker that the registry knows now, one for each security level.
    pub agent_registrations: IntGauge,
    /// Those of the SPIFFE identity.
    pub spiffe: SpiffeMetrics,
    /// Questions for agents, by success.
    pub discovery_requests: IntCounterVec,
    /// Agents found by a question.
    pub discovery_agents_found: Histogram,
    /// Time from a question for agents to its answer.
    pub discovery_duration: Histogram,
    /// Tickets taken from Kafka, by task type.
    pub tickets_consumed: IntCounterVec,
    /// Tickets whose workflow was started, by task type.
    pub tickets_processing: IntCounterVec,
    /// Tickets that ended COMPLETED, by task type.
    pub tickets_completed: IntCounterVec,
    /// Tickets that ended FAILED, by task type and stable error code.
    pub tickets_failed: IntCounterVec,
    /// Attempts that run on this worker.
    pub active_tasks: IntGauge,
    /// Tickets ready and not finished.
    pub tickets_in_flight: IntGauge,
    /// `MAX_CONCURRENT_TICKETS` times the members of the consumer group.
    pub max_concurrent_tickets: IntGauge,
    /// Members of the consumer group, as last seen.
    pub consumer_group_members: IntGauge,
    /// Pauses of consumption.
    pub consumer_paused: IntCounter,
    /// Ends of pauses.
    pub consumer_resumed: IntCounter,
    /// Length of a pause, observed at its end.
    pub consumer_pause_duration: Histogram,
    /// When the current pause began, in epoch seconds; 0: none (INC-93).
    pub consumer_pause_start_time: Gauge,
    /// Duration of a ticket, waits included.
    pub task_duration: HistogramVec,
    /// Tickets published again, by who noticed.
    pub duplicates_detected: IntCounterVec,
    /// Consumer set up.
    pub kafka_consumer_initialized: IntCounter,
    /// Producer set up.
    pub kafka_producer_initialized: IntCounter,
    /// Consumer errors, by librdkafka's code.
    pub kafka_consumer_errors: IntCounterVec,
    /// Results delivered, by status.
    pub results_published: IntCounterVec,
    /// Failed result publications.
    pub kafka_producer_errors: IntCounter,
    /// Records sent to the DLQ, by error code and task type.
    pub dlq_messages: IntCounterVec,
    /// Time to publish to the DLQ.
    pub dlq_publish_duration: Histogram,
    /// Failed publications to the DLQ.
    pub dlq_publish_errors: IntCounterVec,
    /// How often a record had failed when it was dead-lettered, by task type.
    pub ticket_retry_count: HistogramVec,
    /// Alerts about dead letters that the broker acknowledged, by severity and task type.
    pub dlq_alerts_sent: IntCounterVec,
    /// Failed tries to publish an alert, by librdkafka's code.
    pub dlq_alert_errors: IntCounterVec,
    /// Tickets with dependencies, by how their wait ended: success, failed, timeout.
    pub dependency_checks: IntCounterVec,
    /// How long tickets waited for those they depend on, when all completed.
    pub dependency_wait_duration: Histogram,
    /// Failed attempts, by task type and attempt: 1 to 20, then `more`.
    pub task_retries: IntCounterVec,
    /// Cancelled tickets, by reason: `preemption` or `other` (INC-92).
    pub tasks_cancelled: IntCounterVec,
    /// Tickets cancelled for a more urgent one.
    pub tasks_preempted: IntCounter,
    /// Tickets that ended after their deadline or because of it, by task type.
    pub sla_violations: IntCounterVec,
    /// Where the time of tickets went, by stage: queue, dependency, start, run, `retry_wait`, report.
    pub ticket_stage_duration: HistogramVec,
    /// Part of the time to its deadline that a ticket used; above 1 it was late.
    pub deadline_used: Histogram,
    /// Executors registered at start, by task type.
    pub executors_registered: IntCounterVec,
    /// Those of EXECUTE and its runtimes.
    pub execute: ExecuteMetrics,
    /// Those of COMPENSATE.
    pub compensate: CompensateMetrics,
    /// Those of the endpoints of providers.
    pub endpoints: EndpointMetrics,
    /// Every record read, by what became of it.
    pub records: IntCounterVec,
    /// Time from asking for a workflow start to the answer.
    pub start_duration: Histogram,
    /// Results by the encoding they were sent in.
    pub result_encodings: IntCounterVec,
    /// Results that went out as JSON because Avro could not be had.
    pub result_fallbacks: IntCounter,
    /// Trace headers of records that could not be used, by header.
    pub trace_headers_ignored: IntCounterVec,
    /// Spans that are over, by what became of them: exported, failed, dropped.
    pub trace_spans: IntCounterVec,
    /// Calls to Code Forge, by method and success.
    pub code_forge_calls: IntCounterVec,
    /// Calls to the Execution Ticket Service, by method and success.
    pub ticket_api_calls: IntCounterVec,
    /// Statuses that the Execution Ticket Service has taken.
    pub ticket_status_updates: IntCounterVec,
    /// Statuses that it will not take, by reason: `unknown_ticket`, `refused`, `no_service`.
    pub ticket_status_lost: IntCounterVec,
    /// Failed tries of reports that are owed for too long, by to whom.
    pub report_stuck: IntCounterVec,
    /// Tickets reported COMPLETED that nobody ran, by task type.
    pub tickets_simulated: IntCounterVec,
    /// Those of the Vault client.
    pub vault: VaultMetrics,
    /// Rejections of guard-agents, by what became of them.
    pub rejections: IntCounterVec,
    /// Requests to the HTTP API that were turned away, by reason: `unauthenticated`, `forbidden`, `too_many_requests`.
    pub http_api_refusals: IntCounterVec,
    /// Orders to tickets over the HTTP API, by verb and outcome: `done`, `not_done`.
    pub http_api_orders: IntCounterVec,
    /// 1 for a start-up check in this state, by check and state.
    pub startup_check_failures: IntGaugeVec,
    /// Set-up faults that the bridge met, by fault.
    pub setup_faults: IntCounterVec,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics share a name: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        Ok(Self {
            startup: counter(&r, "worker_agent_startup_total", "process starts")?,
            executions: Arc::default(),
            agent_registered: counter(
                &r,
                "worker_agent_registered_total",
                "agents that the Service Registry has taken",
            )?,
            agent_heartbeat: counters(
                &r,
                "worker_agent_heartbeat_total",
                "heartbeats to the Service Registry",
                &["status"],
            )?,
            agent_deregistered: counter(
                &r,
                "worker_agent_deregistered_total",
                "agents that the Service Registry was told are gone",
            )?,
            agent_registrations: gauge(
                &r,
                "worker_agent_registrations",
                "agents of this worker that the Service Registry knows now",
            )?,
            spiffe: SpiffeMetrics::new(&r)?,
            discovery_requests: counters(
                &r,
                "worker_agent_discovery_requests_total",
                "questions to the Service Registry for agents",
                &["status"],
            )?,
            discovery_agents_found: histogram(
                &r,
                "worker_agent_discovery_agents_found",
                "agents found by a question",
                AGENTS_BUCKETS,
            )?,
            discovery_duration: histogram(
                &r,
                "worker_agent_discovery_duration_seconds",
                "time from a question for agents to its answer",
                DISCOVERY_BUCKETS,
            )?,
            tickets_consumed: counters(
                &r,
                "worker_agent_tickets_consumed_total",
                "tickets taken from Kafka",
                &["task_type"],
            )?,
            tickets_processing: counters(
                &r,
                "worker_agent_tickets_processing_total",
                "tickets whose workflow was started",
                &["task_type"],
            )?,
            tickets_completed: counters(
                &r,
                "worker_agent_tickets_completed_total",
                "tickets that ended COMPLETED",
                &["task_type"],
            )?,
            tickets_failed: counters(
                &r,
                "worker_agent_tickets_failed_total",
                "tickets that ended FAILED",
                &["task_type", "error_type"],
            )?,
            active_tasks: gauge(&r, "worker_agent_active_tasks", "attempts that run on this worker")?,
            tickets_in_flight: gauge(&r, "worker_agent_tickets_in_flight", "tickets ready and not finished")?,
            max_concurrent_tickets: gauge(
                &r,
                "worker_agent_max_concurrent_tickets",
                "MAX_CONCURRENT_TICKETS times the members of the consumer group",
            )?,
            consumer_group_members: gauge(
                &r,
                "worker_agent_consumer_group_members",
                "members of the consumer group, as last seen",
            )?,
            consumer_paused: counter(&r, "worker_agent_consumer_paused_total", "pauses of consumption")?,
            consumer_resumed: counter(&r, "worker_agent_consumer_resumed_total", "ends of pauses of consumption")?,
            consumer_pause_duration: histogram(
                &r,
                "worker_agent_consumer_pause_duration_seconds",
                "length of a pause",
                PAUSE_BUCKETS,
            )?,
            consumer_pause_start_time: float_gauge(
                &r,
                "worker_agent_consumer_pause_start_time_seconds",
                "when the current pause began, in epoch seconds; 0: none",
            )?,
            task_duration: histograms(
                &r,
                "worker_agent_task_duration_seconds",
                "ticket duration including waits",
                TASK_BUCKETS,
                &["task_type"],
            )?,
            duplicates_detected: counters(
                &r,
                "worker_agent_duplicates_detected_total",
                "tickets published again",
                &["component"],
            )?,
            kafka_consumer_initialized: counter(
                &r,
                "worker_agent_kafka_consumer_initialized_total",
                "consumer set up",
            )?,
            kafka_producer_initialized: counter(
                &r,
                "worker_agent_kafka_producer_initialized_total",
                "producer set up",
            )?,
            kafka_consumer_errors: counters(
                &r,
                "worker_agent_kafka_consumer_errors_total",
                "consumer errors",
                &["error_type"],
            )?,
            results_published: counters(&r, "worker_agent_results_published_total", "results delivered", &["status"])?,
            kafka_producer_errors: counter(
                &r,
                "worker_agent_kafka_producer_errors_total",
                "failed result publications",
            )?,
            dlq_messages: counters(
                &r,
                "worker_agent_dlq_messages_total",
                "records sent to the DLQ",
                &["reason", "task_type"],
            )?,
            dlq_publish_duration: histogram(
                &r,
                "worker_agent_dlq_publish_duration_seconds",
                "time to publish to the DLQ",
                DLQ_BUCKETS,
            )?,
            dlq_publish_errors: counters(
                &r,
                "worker_agent_dlq_publish_errors_total",
                "failed publications to the DLQ",
                &["error_type"],
            )?,
            ticket_retry_count: histograms(
                &r,
                "worker_agent_ticket_retry_count",
                "failures of a record when it was dead-lettered",
                RETRY_BUCKETS,
                &["task_type"],
            )?,
            dlq_alerts_sent: counters(
                &r,
                "worker_agent_dlq_alerts_sent_total",
                "alerts about dead letters",
                &["severity", "task_type"],
            )?,
            dlq_alert_errors: counters(
                &r,
                "worker_agent_dlq_alert_errors_total",
                "failed tries to publish an alert about a dead letter",
                &["error_type"],
            )?,
            dependency_checks: counters(
                &r,
                "worker_agent_dependency_checks_total",
                "tickets with dependencies, by how their wait ended",
                &["result"],
            )?,
            dependency_wait_duration: histogram(
                &r,
                "worker_agent_dependency_wait_duration_seconds",
                "how long tickets waited for those they depend on, when all completed",
                WAIT_BUCKETS,
            )?,
            task_retries: counters(
                &r,
                "worker_agent_task_retries_total",
                "failed attempts",
                &["task_type", "attempt"],
            )?,
            tasks_cancelled: counters(&r, "worker_agent_tasks_cancelled_total", "cancelled tickets", &["reason"])?,
            tasks_preempted: counter(
                &r,
                "worker_agent_tasks_preempted_total",
                "tickets cancelled for a more urgent one",
            )?,
            sla_violations: counters(
                &r,
                "worker_agent_sla_violations_total",
                "tickets that ended after their deadline or because of it",
                &["task_type"],
            )?,
            ticket_stage_duration: histograms(
                &r,
                "worker_agent_ticket_stage_duration_seconds",
                "where the time of tickets went",
                STAGE_BUCKETS,
                &["stage"],
            )?,
            deadline_used: histogram(
                &r,
                "worker_agent_deadline_used_ratio",
                "part of the time to its deadline that a ticket used; above 1 it was late",
                DEADLINE_BUCKETS,
            )?,
            executors_registered: counters(
                &r,
                "worker_agent_executors_registered_total",
                "executors registered at start",
                &["task_type"],
            )?,
            execute: ExecuteMetrics::new(&r)?,
            compensate: CompensateMetrics::new(&r)?,
            endpoints: EndpointMetrics::new(&r)?,
            records: counters(
                &r,
                "worker_agent_records_total",
                "records read, by what became of them",
                &["disposition"],
            )?,
            start_duration: histogram(
                &r,
                "worker_agent_workflow_start_duration_seconds",
                "time from asking for a workflow start to the answer",
                START_BUCKETS,
            )?,
            result_encodings: counters(
                &r,
                "worker_agent_result_encodings_total",
                "results by encoding",
                &["encoding"],
            )?,
            result_fallbacks: counter(
                &r,
                "worker_agent_result_fallbacks_total",
                "results sent as JSON because Avro could not be had",
            )?,
            trace_headers_ignored: counters(
                &r,
                "worker_agent_trace_headers_ignored_total",
                "trace headers of records that could not be used",
                &["header"],
            )?,
            trace_spans: counters(
                &r,
                "worker_agent_trace_spans_total",
                "spans that are over, by what became of them",
                &["outcome"],
            )?,
            code_forge_calls: counters(
                &r,
                "worker_agent_code_forge_api_calls_total",
                "calls to Code Forge",
                &["method", "status"],
            )?,
            ticket_api_calls: counters(
                &r,
                "worker_agent_ticket_api_calls_total",
                "calls to the Execution Ticket Service",
                &["method", "status"],
            )?,
            ticket_status_updates: counters(
                &r,
                "worker_agent_ticket_status_updates_total",
                "statuses that the Execution Ticket Service has taken",
                &["status"],
            )?,
            ticket_status_lost: counters(
                &r,
                "worker_agent_ticket_status_lost_total",
                "final statuses that the Execution Ticket Service will not take",
                &["reason"],
            )?,
            report_stuck: counters(
                &r,
                "worker_agent_report_stuck_total",
                "failed tries of reports that are owed for too long",
                &["peer"],
            )?,
            tickets_simulated: counters(
                &r,
                "worker_agent_tickets_simulated_total",
                "tickets reported COMPLETED that nobody ran",
                &["task_type"],
            )?,
            rejections: counters(
                &r,
                "worker_agent_rejections_total",
                "rejections of guard-agents, by what became of them",
                &["outcome"],
            )?,
            http_api_refusals: counters(
                &r,
                "worker_agent_http_api_refusals_total",
                "requests to the HTTP API that were turned away",
                &["reason"],
            )?,
            http_api_orders: counters(
                &r,
                "worker_agent_http_api_orders_total",
                "orders to tickets over the HTTP API",
                &["verb", "outcome"],
            )?,
            vault: VaultMetrics::new(&r)?,
            startup_check_failures: gauges(
                &r,
                "worker_agent_startup_check_failures",
                "1 while a start-up check has failed or could not be made",
                &["check", "state"],
            )?,
            setup_faults: counters(
                &r,
                "worker_agent_setup_faults_total",
                "set-up faults that took readiness away",
                &["fault"],
            )?,
            registry: r,
        })
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What is registered, for the table test.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let metric = IntCounter::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn float_gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    let metric = Gauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
