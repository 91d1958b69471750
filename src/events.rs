//! One struct per internal event: emitting it writes the log line and moves the metric together, so that they never
//! drift apart. Log lines carry ids and positions; of ticket content only, where a record is
//! refused, a short escaped excerpt of the field that was wrong (INC-95).

mod agents;
mod identity;
mod tickets;
mod traces;
mod vault;

use std::time::{Duration, SystemTime};

use ticket_workflows::{RecordPosition, Report};
use tracing::{debug, error, info, warn};

use crate::metrics::Metrics;

pub use agents::*;
pub use identity::*;
pub use traces::*;
pub use vault::*;

/// Something that happened and is both logged and counted.
pub trait Event {
    /// Writes the log line and moves the metric.
    fn emit(&self, metrics: &Metrics);
}

impl Metrics {
    /// Emits an event.
    #[expect(clippy::needless_pass_by_value, reason = "events are built where they are emitted")]
    pub fn emit(&self, event: impl Event) {
        event.emit(self);
    }
}

/// A ticket's workflow was started.
pub struct TicketStarted<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// Its type.
    pub task_type: &'static str,
    /// Its record.
    pub position: &'a RecordPosition,
    /// The run.
    pub run_id: &'a str,
    /// How long the start took.
    pub took: Duration,
}

impl Event for TicketStarted<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(ticket_id = self.ticket_id, task_type = self.task_type, position = %self.position, run_id = self.run_id, "ticket_started");
        metrics.tickets_consumed.with_label_values(&[self.task_type]).inc();
        metrics.tickets_processing.with_label_values(&[self.task_type]).inc();
        metrics.records.with_label_values(&["started"]).inc();
        metrics.start_duration.observe(self.took.as_secs_f64());
    }
}

/// A ticket that had failed, or was ended by an operator, runs again.
pub struct TicketRedriven<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// Its type.
    pub task_type: &'static str,
    /// The record that asked for it.
    pub position: &'a RecordPosition,
    /// The new run.
    pub run_id: &'a str,
    /// Request id of the record that started the run before.
    pub previous: &'a str,
}

impl Event for TicketRedriven<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(ticket_id = self.ticket_id, task_type = self.task_type, position = %self.position, run_id = self.run_id, previous = self.previous, "ticket_redriven");
        metrics.tickets_consumed.with_label_values(&[self.task_type]).inc();
        metrics.tickets_processing.with_label_values(&[self.task_type]).inc();
        metrics.records.with_label_values(&["redriven"]).inc();
    }
}

/// The same ticket was published again.
pub struct DuplicateRecognised<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// Its type.
    pub task_type: &'static str,
    /// The later record.
    pub position: &'a RecordPosition,
    /// Request id of the record that started it.
    pub first: &'a str,
}

impl Event for DuplicateRecognised<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(ticket_id = self.ticket_id, position = %self.position, first = self.first, "ticket_duplicate");
        metrics.tickets_consumed.with_label_values(&[self.task_type]).inc();
        metrics.duplicates_detected.with_label_values(&["bridge"]).inc();
        metrics.records.with_label_values(&["duplicate"]).inc();
    }
}

/// A record that is not for a worker: its ticket is not PENDING.
pub struct RecordSkipped<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// The record.
    pub position: &'a RecordPosition,
    /// The ticket's status.
    pub status: &'a str,
}

impl Event for RecordSkipped<'_> {
    fn emit(&self, metrics: &Metrics) {
        debug!(ticket_id = self.ticket_id, position = %self.position, status = self.status, "record_skipped");
        metrics.records.with_label_values(&["skipped"]).inc();
    }
}

/// A record that another service takes.
pub struct RecordIgnored<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// The record.
    pub position: &'a RecordPosition,
    /// The ticket's type, one of `BRIDGE_IGNORED_TASK_TYPES`.
    pub task_type: &'static str,
}

impl Event for RecordIgnored<'_> {
    fn emit(&self, metrics: &Metrics) {
        debug!(ticket_id = self.ticket_id, position = %self.position, task_type = self.task_type, "record_ignored");
        metrics.records.with_label_values(&["ignored"]).inc();
    }
}

/// A record went to the DLQ.
pub struct RecordDeadLettered<'a> {
    /// The ticket, when its id is known.
    pub ticket_id: Option<&'a str>,
    /// Its type, or `unknown`.
    pub task_type: &'static str,
    /// The record.
    pub position: &'a RecordPosition,
    /// Stable error code.
    pub code: &'static str,
    /// What is wrong.
    pub error: &'a str,
    /// How often the record has failed: once, and once more for each re-drive.
    pub failures: u32,
    /// How long publishing took.
    pub took: Duration,
}

impl Event for RecordDeadLettered<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(
            ticket_id = self.ticket_id,
            topic = %self.position.topic,
            partition = self.position.partition,
            offset = self.position.offset,
            error_code = self.code,
            error = self.error,
            failures = self.failures,
            "record_dead_lettered"
        );
        metrics.ticket_retry_count.with_label_values(&[self.task_type]).observe(f64::from(self.failures));
        metrics.dlq_messages.with_label_values(&[self.code, self.task_type]).inc();
        metrics.dlq_publish_duration.observe(self.took.as_secs_f64());
        metrics.records.with_label_values(&["dead_lettered"]).inc();
    }
}

/// The DLQ could not be written; the record is kept and tried again.
pub struct DeadLetterFailed<'a> {
    /// The record.
    pub position: &'a RecordPosition,
    /// What the broker said.
    pub error: &'a str,
}

impl Event for DeadLetterFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        error!(position = %self.position, error = self.error, "dlq_publish_failed");
        metrics.dlq_publish_errors.with_label_values(&["delivery_failed"]).inc();
    }
}

/// An alert about a dead letter was acknowledged by the broker.
pub struct DlqAlertSent<'a> {
    /// Equal for copies of one alert.
    pub alert_id: &'a str,
    /// The dead letter.
    pub position: &'a RecordPosition,
    /// Its ticket, or `unknown`.
    pub ticket_id: &'a str,
    /// Its type, or `unknown`.
    pub task_type: &'static str,
    /// How serious it is.
    pub severity: &'static str,
}

impl Event for DlqAlertSent<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(alert_id = self.alert_id, position = %self.position, ticket_id = self.ticket_id, task_type = self.task_type, "dlq_alert_sent");
        metrics.dlq_alerts_sent.with_label_values(&[self.severity, self.task_type]).inc();
    }
}

/// An alert could not be published; the dead letter stays unread and it is tried again.
pub struct DlqAlertFailed<'a> {
    /// The dead letter.
    pub position: &'a RecordPosition,
    /// Topic of alerts.
    pub topic: &'a str,
    /// librdkafka's code.
    pub code: &'a str,
    /// What was said and what to do.
    pub error: &'a str,
    /// When it is tried again.
    pub retry_in: Duration,
}

impl Event for DlqAlertFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(position = %self.position, topic = self.topic, error = self.error, retry_in_ms = self.retry_in.as_millis() as u64, "dlq_alert_failed");
        metrics.dlq_alert_errors.with_label_values(&[self.code]).inc();
    }
}

/// librdkafka reported an error of the consumer of dead letters.
pub struct DlqConsumerError<'a> {
    /// Its code.
    pub code: String,
    /// Its text.
    pub error: &'a str,
}

impl Event for DlqConsumerError<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(code = self.code, error = self.error, "dlq_consumer_error");
        metrics.kafka_consumer_errors.with_label_values(&[&self.code]).inc();
    }
}

/// The consumer of dead letters broke; another replaces it.
pub struct DlqConsumerLost<'a> {
    /// Why.
    pub error: &'a str,
    /// When.
    pub retry_in: Duration,
}

impl Event for DlqConsumerLost<'_> {
    fn emit(&self, metrics: &Metrics) {
        error!(error = self.error, retry_in_ms = self.retry_in.as_millis() as u64, "dlq_consumer_lost");
        metrics.kafka_consumer_errors.with_label_values(&["consumer_lost"]).inc();
    }
}

/// A peer is away; the partition waits and tries again.
pub struct PeerUnavailable<'a> {
    /// `temporal`, `schema_registry`.
    pub peer: &'static str,
    /// The record that waits.
    pub position: &'a RecordPosition,
    /// What was said.
    pub error: &'a str,
    /// When it is tried again.
    pub retry_in: Duration,
}

impl Event for PeerUnavailable<'_> {
    fn emit(&self, _metrics: &Metrics) {
        warn!(peer = self.peer, position = %self.position, error = self.error, retry_in_ms = self.retry_in.as_millis() as u64, "peer_unavailable");
    }
}

/// The set-up is wrong (a missing namespace, permission or search attribute): readiness goes, no ticket is lost.
pub struct SetupFault<'a> {
    /// A stable word for the fault.
    pub fault: &'static str,
    /// What was said and what to do.
    pub error: &'a str,
}

impl Event for SetupFault<'_> {
    fn emit(&self, metrics: &Metrics) {
        error!(fault = self.fault, error = self.error, "setup_fault");
        metrics.setup_faults.with_label_values(&[self.fault]).inc();
    }
}

/// Consumption pauses: too many tickets are ready and not finished.
pub struct ConsumptionPaused {
    /// Tickets in flight.
    pub in_flight: u64,
    /// When.
    pub at: SystemTime,
}

impl Event for ConsumptionPaused {
    fn emit(&self, metrics: &Metrics) {
        info!(in_flight = self.in_flight, "consumer_paused");
        metrics.consumer_paused.inc();
        let since_epoch = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.consumer_pause_start_time.set(since_epoch.as_secs_f64());
    }
}

/// Consumption goes on.
pub struct ConsumptionResumed {
    /// Tickets in flight.
    pub in_flight: u64,
    /// Length of the pause.
    pub paused_for: Duration,
}

impl Event for ConsumptionResumed {
    fn emit(&self, metrics: &Metrics) {
        info!(in_flight = self.in_flight, paused_ms = self.paused_for.as_millis() as u64, "consumer_resumed");
        metrics.consumer_resumed.inc();
        metrics.consumer_pause_start_time.set(0.0);
        metrics.consumer_pause_duration.observe(self.paused_for.as_secs_f64());
    }
}

/// A result was acknowledged by the broker.
pub struct ResultPublished<'a> {
    /// The result.
    pub report: &'a Report,
    /// `avro` or `json`.
    pub encoding: &'static str,
}

impl Event for ResultPublished<'_> {
    fn emit(&self, metrics: &Metrics) {
        let result = &self.report.result;
        info!(
            ticket_id = %result.ticket_id,
            status = result.status.as_str(),
            error_code = self.report.error_code.as_deref(),
            task_duration_ms = self.report.duration_ms,
            result_id = self.report.result_id,
            encoding = self.encoding,
            "kafka_result_published"
        );
        metrics.results_published.with_label_values(&[result.status.as_str()]).inc();
        metrics.result_encodings.with_label_values(&[self.encoding]).inc();
    }
}

/// A result goes out as JSON because its schema could not be had from the registry, or its encoder refused it (INC-07).
pub struct ResultFellBack<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// Why.
    pub error: &'a str,
}

impl Event for ResultFellBack<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(ticket_id = self.ticket_id, error = self.error, "kafka_result_as_json");
        metrics.result_fallbacks.inc();
    }
}

/// Trace headers of a record could not be used and were left out (INC-04).
pub struct TraceHeadersIgnored<'a> {
    /// The record.
    pub position: &'a RecordPosition,
    /// Their names.
    pub headers: &'a [&'static str],
}

impl Event for TraceHeadersIgnored<'_> {
    fn emit(&self, metrics: &Metrics) {
        debug!(position = %self.position, headers = ?self.headers, "trace_headers_ignored");
        for header in self.headers {
            metrics.trace_headers_ignored.with_label_values(&[header]).inc();
        }
    }
}

/// Start-up checks have other results than before (`crate::startup`).
pub struct StartupChecked<'a> {
    /// Every check with its worst state: `ok`, `failed`, `unknown`.
    pub states: &'a [(&'static str, &'static str)],
    /// What is not ok and how to fix it, one sentence each.
    pub sentences: &'a [String],
}

impl Event for StartupChecked<'_> {
    fn emit(&self, metrics: &Metrics) {
        for sentence in self.sentences {
            warn!(check = sentence, "startup_check_not_ok");
        }
        if self.sentences.is_empty() {
            info!("startup_checks_ok");
        }
        for (check, state) in self.states {
            for label in ["failed", "unknown"] {
                metrics.startup_check_failures.with_label_values(&[check, label]).set(i64::from(*state == label));
            }
        }
    }
}

/// A rejection of guard-agents has been followed, or cannot be (INC-02).
pub struct RejectionHandled<'a> {
    /// The ticket, when the record names one.
    pub ticket_id: Option<&'a str>,
    /// The rejection's record.
    pub position: &'a RecordPosition,
    /// `cancelled`, `closed`, `superseded`, `not_started`, `unreadable`.
    pub outcome: &'static str,
    /// What an operator should know.
    pub detail: &'a str,
}

impl Event for RejectionHandled<'_> {
    fn emit(&self, metrics: &Metrics) {
        let (ticket_id, outcome, detail) = (self.ticket_id, self.outcome, self.detail);
        if matches!(outcome, "not_started" | "unreadable") {
            warn!(ticket_id, position = %self.position, outcome, detail, "rejection_not_followed");
        } else {
            info!(ticket_id, position = %self.position, outcome, detail, "rejection_handled");
        }
        metrics.rejections.with_label_values(&[outcome]).inc();
    }
}

/// A result could not be published now; its ticket stays open and it is tried again.
pub struct ResultDelayed<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// What was said.
    pub error: &'a str,
}

impl Event for ResultDelayed<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(ticket_id = self.ticket_id, error = self.error, "kafka_result_delayed");
        metrics.kafka_producer_errors.inc();
    }
}

/// librdkafka reported an error of the consumer.
pub struct ConsumerError<'a> {
    /// Its code.
    pub code: String,
    /// Its text.
    pub error: &'a str,
}

impl Event for ConsumerError<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(code = self.code, error = self.error, "kafka_consumer_error");
        metrics.kafka_consumer_errors.with_label_values(&[&self.code]).inc();
    }
}

/// A broker does not let a client in.
pub struct KafkaRefused<'a> {
    /// Which of this process's clients.
    pub client: &'static str,
    /// The kind of refusal.
    pub fault: &'static str,
    /// What was said, and what to look at.
    pub error: &'a str,
}

impl Event for KafkaRefused<'_> {
    fn emit(&self, metrics: &Metrics) {
        error!(client = self.client, fault = self.fault, error = self.error, "kafka_refused");
        metrics.setup_faults.with_label_values(&[self.fault]).inc();
    }
}

/// The files hold other credentials, brokers take them, and the clients have them.
pub struct KafkaCredentialsRenewed;

impl Event for KafkaCredentialsRenewed {
    fn emit(&self, _: &Metrics) {
        info!("kafka_credentials_renewed");
    }
}

/// The files hold other credentials that cannot be used: those in use stay.
pub struct KafkaCredentialsKept<'a> {
    /// Why.
    pub error: &'a str,
}

impl Event for KafkaCredentialsKept<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(error = self.error, "kafka_credentials_kept");
        metrics.setup_faults.with_label_values(&["kafka_credentials"]).inc();
    }
}

/// The consumer broke; another replaces it.
pub struct ConsumerLost<'a> {
    /// Why.
    pub error: &'a str,
    /// When.
    pub retry_in: Duration,
}

impl Event for ConsumerLost<'_> {
    fn emit(&self, metrics: &Metrics) {
        error!(error = self.error, retry_in_ms = self.retry_in.as_millis() as u64, "kafka_consumer_lost");
        metrics.kafka_consumer_errors.with_label_values(&["consumer_lost"]).inc();
    }
}

/// A request to the API was turned away.
pub struct ApiRefused<'a> {
    /// `unauthenticated`, `forbidden`, `too_many_requests` or `unavailable`.
    pub reason: &'a str,
    /// What was asked for.
    pub verb: &'static str,
    /// Who may not, as far as known.
    pub detail: &'a str,
}

impl Event for ApiRefused<'_> {
    fn emit(&self, metrics: &Metrics) {
        // Whoever reaches the port can cause these.
        debug!(reason = self.reason, verb = self.verb, detail = self.detail, "http_api_refused");
        metrics.http_api_refusals.with_label_values(&[self.reason]).inc();
    }
}

/// Somebody ordered something of a ticket over the API.
pub struct ApiOrder<'a> {
    /// The ticket.
    pub ticket_id: &'a str,
    /// What.
    pub verb: &'static str,
    /// Who.
    pub by: &'a str,
    /// Whether the ticket took it.
    pub done: bool,
}

impl Event for ApiOrder<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(ticket_id = self.ticket_id, verb = self.verb, by = self.by, done = self.done, "http_api_order");
        let outcome = if self.done { "done" } else { "not_done" };
        metrics.http_api_orders.with_label_values(&[self.verb, outcome]).inc();
    }
}
