//! Tickets that undo failed ones, published to the topic that this worker takes tickets from.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use ticket_activities::{CompensationError, TicketSink, border};
use ticket_schemas::{SOURCE_HEADER, TICKET_SCHEMA_JSON, Ticket, encode_avro_ticket, encode_json_ticket};
use ticket_workflows::TraceContext;

use crate::config::KafkaConfig;
use crate::kafka::Producer;
use crate::registry::{RegistryClient, value_subject};

/// How long one try of a publication may take. The activity that waits for it has 30 s.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Publishes tickets to Kafka: as Avro where a registry is configured, for other readers of the topic decode nothing else
/// then (`contracts/execution-ticket-service.md §6`), as JSON where none is.
pub struct KafkaTicketSink {
    producer: Producer,
    topic: String,
    registry: Option<Arc<RegistryClient>>,
}

impl KafkaTicketSink {
    /// A sink that sends through `producer`.
    #[must_use]
    pub fn new(producer: Producer, config: &KafkaConfig, registry: Option<Arc<RegistryClient>>) -> Self {
        Self { producer, topic: config.tickets_topic.clone(), registry }
    }

    async fn encode(&self, ticket: &Ticket) -> Result<Vec<u8>, String> {
        let Some(registry) = &self.registry else { return Ok(encode_json_ticket(ticket)) };
        let id = registry
            .register(&value_subject(&self.topic), TICKET_SCHEMA_JSON)
            .await
            .map_err(|error| error.to_string())?;
        encode_avro_ticket(ticket, id).map_err(|error| error.to_string())
    }

    async fn send(&self, ticket: &Ticket, trace: &TraceContext) -> Result<(), String> {
        let payload = self.encode(ticket).await?;
        let own = [
            (SOURCE_HEADER, "worker-agents"),
            ("x-neural-hive-plan-id", ticket.plan_id.as_str()),
            ("x-neural-hive-intent-id", ticket.intent_id.as_str()),
        ];
        let headers = own.into_iter().chain(trace.headers()).filter(|(_, value)| !value.is_empty());
        let headers = headers
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let record = FutureRecord::to(&self.topic).key(ticket.record_key()).payload(&payload).headers(headers);
        let producer = &self.producer;
        match border("kafka.compensation", producer.send(record, Timeout::After(DELIVERY_TIMEOUT))).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(format!("topic {} does not take it: {error}", self.topic)),
        }
    }
}

impl TicketSink for KafkaTicketSink {
    fn publish<'a>(
        &'a self,
        ticket: &'a Ticket,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), CompensationError>> {
        async move {
            self.send(ticket, trace).await.map_err(|cause| {
                let ticket_id = ticket.ticket_id.as_str().to_owned();
                tracing::warn!(ticket_id, cause, "a compensation ticket is not published yet");
                CompensationError { ticket_id, cause }
            })
        }
        .boxed()
    }
}
