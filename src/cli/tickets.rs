//! Tickets as people type them: parsed, completed, published.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use serde_json::{Map, Value, json};
use ticket_schemas::{TICKET_SCHEMA_JSON, Ticket, decode_json_ticket, encode_avro_ticket, encode_json_ticket};
use uuid::Uuid;

use super::UsageError;
use crate::config::KafkaConfig;
use crate::kafka::{Clients, Producer};
use crate::registry::{RegistryClient, value_subject};

/// How a ticket goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// Confluent-framed Avro
    Avro,
    /// Plain JSON
    Json,
}

/// An hour, in milliseconds: the deadline of a ticket that names none.
const DEADLINE_MS: i64 = 3_600_000;
/// How long publishing one ticket may take.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);

/// Tickets from text: one JSON object, an array of objects, or JSON lines.
///
/// # Errors
/// [`UsageError`] that names the source and the place.
pub fn parse_tickets(text: &str, source: &str) -> Result<Vec<Map<String, Value>>, UsageError> {
    let mut tickets = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.map_err(|error| UsageError(format!("{source}: not JSON: {error}")))? {
            Value::Object(ticket) => tickets.push(ticket),
            Value::Array(items) => {
                for item in items {
                    let Value::Object(ticket) = item else {
                        return Err(UsageError(format!(
                            "{source}: an array of tickets holds something that is no object"
                        )));
                    };
                    tickets.push(ticket);
                }
            }
            _ => {
                return Err(UsageError(format!("{source}: expected a ticket object, an array of them, or JSON lines")));
            }
        }
    }
    if tickets.is_empty() {
        return Err(UsageError(format!("{source}: holds no ticket")));
    }
    Ok(tickets)
}

/// Fills what a person would not type: ids, times, an hour's deadline. What is there is kept. The result is checked as
/// the worker would check it.
///
/// # Errors
/// [`UsageError`] that names what is wrong.
pub fn complete(mut ticket: Map<String, Value>, number: usize, now_ms: i64) -> Result<Ticket, UsageError> {
    let ticket_id = match ticket.get("ticket_id").and_then(Value::as_str) {
        Some(given) => given.to_owned(),
        None => Uuid::new_v4().to_string(),
    };
    // Derived from the ticket's id, so that a ticket submitted twice under an id of its own is recognised as a duplicate.
    let derived =
        |name: &str| json!(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name}:{ticket_id}").as_bytes()).to_string());
    for (name, value) in [
        ("ticket_id", json!(ticket_id)),
        ("plan_id", derived("plan")),
        ("intent_id", derived("intent")),
        ("decision_id", derived("decision")),
        ("task_id", json!(format!("task-{number}"))),
        ("description", json!("")),
        ("status", json!("PENDING")),
        ("dependencies", json!([])),
        ("created_at", json!(now_ms)),
        ("sla", json!({})),
    ] {
        if ticket.get(name).is_none_or(Value::is_null) {
            ticket.insert(name.to_owned(), value);
        }
    }
    if let Some(Value::Object(sla)) = ticket.get_mut("sla") {
        for (name, value) in
            [("deadline", json!(now_ms + DEADLINE_MS)), ("timeout_ms", json!(60_000)), ("max_retries", json!(0))]
        {
            if sla.get(name).is_none_or(Value::is_null) {
                sla.insert(name.to_owned(), value);
            }
        }
    }
    let bytes = serde_json::to_vec(&ticket).map_err(|error| UsageError(format!("ticket {number}: {error}")))?;
    decode_json_ticket(&bytes).map_err(|error| UsageError(format!("ticket {number}: {error}")))
}

/// Publishes to the tickets topic.
pub struct TicketPublisher {
    producer: Producer,
    topic: String,
    registry: Option<Arc<RegistryClient>>,
}

impl TicketPublisher {
    /// A publisher with the settings of the worker.
    ///
    /// # Errors
    /// When librdkafka or the HTTP client refuses them.
    pub fn new(config: &KafkaConfig) -> anyhow::Result<Self> {
        let registry = RegistryClient::of(config)?.map(Arc::new);
        Ok(Self { producer: Clients::new(config)?.producer()?, topic: config.tickets_topic.clone(), registry })
    }

    /// Publishes a ticket, keyed by its plan as the orchestrator does; answers with partition and offset.
    ///
    /// # Errors
    /// When the registry or the brokers do not answer.
    pub async fn publish(&self, ticket: &Ticket, encoding: Encoding) -> anyhow::Result<(i32, i64)> {
        let payload = match encoding {
            Encoding::Json => encode_json_ticket(ticket),
            Encoding::Avro => {
                let registry = self.registry.as_ref().ok_or_else(|| {
                    UsageError(
                        "--encoding avro needs KAFKA_SCHEMA_REGISTRY_URL; set it or use --encoding json".to_owned(),
                    )
                })?;
                let id = registry.register(&value_subject(&self.topic), TICKET_SCHEMA_JSON).await?;
                encode_avro_ticket(ticket, id).map_err(|error| UsageError(error.to_string()))?
            }
        };
        self.publish_raw(Some(ticket.record_key()), Some(&payload)).await
    }

    /// Publishes any bytes; answers with partition and offset.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn publish_raw(&self, key: Option<&str>, value: Option<&[u8]>) -> anyhow::Result<(i32, i64)> {
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(&self.topic);
        record.key = key;
        record.payload = value;
        self.producer
            .send(record, Timeout::After(PUBLISH_TIMEOUT))
            .await
            .map(|delivery| (delivery.partition, delivery.offset))
            .map_err(|(error, _)| error)
            .with_context(|| format!("topic {} could not be written; check KAFKA_BOOTSTRAP_SERVERS", self.topic))
    }
}

#[cfg(test)]
mod tests {
    use ticket_schemas::WorkDigest;

    use super::*;

    #[test]
    fn an_object_an_array_and_lines_are_tickets() {
        for (text, count) in [(r#"{"a":1}"#, 1), (r#"[{"a":1},{"a":2}]"#, 2), ("{\"a\":1}\n{\"a\":2}\n\n{\"a\":3}", 3)]
        {
            assert_eq!(parse_tickets(text, "test").expect(text).len(), count);
        }
        for text in ["", "[]", "3", "[1]", "{", "nonsense"] {
            let error = parse_tickets(text, "file.json").expect_err(text);
            assert!(error.0.starts_with("file.json: "), "{error}");
        }
    }

    #[test]
    fn what_a_person_would_not_type_is_filled_and_what_is_there_is_kept() {
        let typed =
            parse_tickets(r#"{"task_type":"execute","parameters":{"command":"true"},"sla":{"max_retries":2}}"#, "t")
                .expect("parsed")
                .remove(0);
        let ticket = complete(typed, 1, 1_773_653_400_000).expect("complete");
        let sla = ticket.sla.expect("sla");
        assert_eq!((sla.deadline, sla.max_retries), (Some(1_773_657_000_000), Some(2)));
        assert_eq!(ticket.task_id.as_str(), "task-1");
        assert!(Uuid::parse_str(ticket.ticket_id.as_str()).is_ok());
    }

    #[test]
    fn a_ticket_typed_twice_under_one_id_is_the_same_work() {
        let digest = |now_ms| {
            let typed =
                parse_tickets(r#"{"ticket_id":"mine","task_id":"a","task_type":"EXECUTE","parameters":{}}"#, "t");
            WorkDigest::of(&complete(typed.expect("parsed").remove(0), 1, now_ms).expect("complete"))
        };
        assert_eq!(digest(1_773_653_400_000), digest(1_773_653_499_999));
    }

    #[test]
    fn an_invalid_ticket_is_refused_before_it_is_sent() {
        for text in [r#"{"parameters":{}}"#, r#"{"task_type":"dance"}"#, r#"{"task_type":"EXECUTE","ticket_id":"a b"}"#]
        {
            let typed = parse_tickets(text, "t").expect("parsed").remove(0);
            assert!(complete(typed, 1, 1).is_err(), "{text}");
        }
    }
}
