//! Deliveries of results, by result id. A delivery goes on when nobody waits for it any more, and whoever asks for the
//! same result again waits for the one under way: a broker that is away gets no copies, and holds up nothing else.
//!
//! Nothing rests on what is remembered here: after a restart, or on another worker, the result is sent again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use ticket_activities::border;
use ticket_workflows::Report;
use tokio::sync::watch;
use tokio::time::Instant;

use super::encoding::{Encoded, headers};
use crate::events::ResultPublished;
use crate::kafka::{DELIVERY_TIMEOUT, Producer};
use crate::metrics::Metrics;
use crate::spans::Spans;

/// How long one call waits for the broker. Below the 3 s that a report gets within a workflow task; a call that waits
/// holds one of `MAX_CONCURRENT_TASKS`.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same while another delivery is overdue: enough for a partition that works, and little of a slot for one that does not.
/// For a delivery that is overdue itself nobody waits; whoever asks comes again.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// How long the end of a delivery is remembered that nobody has asked for: its ticket is reported by another worker.
const KEPT: Duration = Duration::from_secs(600);

/// Why a result is not delivered, as far as one call saw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undelivered {
    /// It is still under way.
    #[error("topic {topic} has not acknowledged it for {seconds} s; it stays in the queue")]
    Pending { topic: String, seconds: u64 },
    /// The topic takes no record of this size.
    #[error("topic {topic} takes no record of {bytes} bytes; raise its max.message.bytes")]
    TooLarge { topic: String, bytes: usize },
    /// It has ended without an acknowledgement.
    #[error("{0}")]
    Failed(String),
}

impl Undelivered {
    /// What spans say of it.
    fn code(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::TooLarge { .. } => "too_large",
            Self::Failed(_) => "delivery_failed",
        }
    }
}

type Ended = Option<Result<(), Undelivered>>;

#[derive(Debug, Clone)]
struct Delivery {
    since: Instant,
    ended: watch::Receiver<Ended>,
}

/// The deliveries of this process.
pub(super) struct Deliveries {
    producer: Producer,
    topic: String,
    metrics: Arc<Metrics>,
    spans: Spans,
    open: Mutex<BTreeMap<String, Delivery>>,
}

impl Deliveries {
    pub(super) fn new(producer: Producer, topic: String, metrics: Arc<Metrics>, spans: Spans) -> Self {
        Self { producer, topic, metrics, spans, open: Mutex::default() }
    }

    /// What the delivery under way comes to; `None` when there is none.
    pub(super) async fn wait(&self, id: &str) -> Option<Result<(), Undelivered>> {
        let (mut delivery, patience) = {
            let open = self.open();
            let delivery = open.get(id)?.clone();
            let overdue = |one: &Delivery| one.ended.borrow().is_none() && one.since.elapsed() > PATIENCE;
            let patience = match (overdue(&delivery), open.values().any(overdue)) {
                (true, _) => Duration::ZERO,
                (false, true) => SHORT_PATIENCE,
                (false, false) => PATIENCE,
            };
            (delivery, patience)
        };
        let ended = tokio::time::timeout(patience, delivery.ended.wait_for(Option::is_some)).await;
        let ended = match ended {
            Err(_) => {
                let seconds = delivery.since.elapsed().as_secs();
                return Some(Err(Undelivered::Pending { topic: self.topic.clone(), seconds }));
            }
            Ok(Ok(ended)) => ended.clone(),
            // The task that waited for the broker is gone: its runtime ends.
            Ok(Err(_)) => None,
        };
        self.open().remove(id);
        Some(ended.unwrap_or_else(|| Err(Undelivered::Failed("the delivery was given up".to_owned()))))
    }

    /// Sends a result and waits for what comes of it.
    pub(super) async fn send(&self, report: &Report, encoded: Encoded) -> Result<(), Undelivered> {
        self.begin(report, encoded);
        let ended = self.wait(&report.result_id).await;
        ended.unwrap_or_else(|| Err(Undelivered::Failed("another call took its end".to_owned())))
    }

    /// Begins a delivery, unless one of this result is under way.
    fn begin(&self, report: &Report, encoded: Encoded) {
        let mut open = self.open();
        open.retain(|_, one| one.ended.borrow().is_none() || one.since.elapsed() < KEPT);
        if open.contains_key(&report.result_id) {
            return;
        }
        let (tell, ended) = watch::channel(None);
        open.insert(report.result_id.clone(), Delivery { since: Instant::now(), ended });
        drop(open);
        let (producer, metrics, topic) = (self.producer.clone(), Arc::clone(&self.metrics), self.topic.clone());
        let (spans, began) = (self.spans.clone(), SystemTime::now());
        let span = spans.begin(&report.trace);
        let headers = headers(report, &span);
        let mut report = report.clone();
        // The bytes are in the payload; for the event ids and status are enough.
        report.extra.clear();
        report.result.result.output.clear();
        report.result.result.metadata.clear();
        report.result.result.logs.clear();
        tokio::spawn(async move {
            let record = FutureRecord::to(&topic)
                .key(report.result.ticket_id.as_str())
                .payload(&encoded.payload)
                .headers(headers);
            let ended = match border("kafka.result", producer.send(record, Timeout::After(DELIVERY_TIMEOUT))).await {
                Ok(_) => {
                    metrics.emit(ResultPublished { report: &report, encoding: encoded.encoding });
                    Ok(())
                }
                Err((error, _)) => Err(undelivered(&error, &topic, encoded.payload.len())),
            };
            spans.produced(&report, &topic, &span, began, ended.as_ref().err().map(Undelivered::code));
            // Nobody may be waiting.
            tell.send_replace(Some(ended));
        });
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Delivery>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn undelivered(error: &KafkaError, topic: &str, bytes: usize) -> Undelivered {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            Undelivered::TooLarge { topic: topic.to_owned(), bytes }
        }
        _ => Undelivered::Failed(error.to_string()),
    }
}
