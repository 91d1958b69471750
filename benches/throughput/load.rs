//! The tickets: realistic in size, half framed Avro and half JSON, for the runtime that does nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;
use rdkafka::producer::FutureRecord;
use rdkafka::util::Timeout;
use serde_json::{Value, json};
use ticket_schemas::{TICKET_SCHEMA_JSON, Ticket, encode_avro_ticket, encode_json_ticket};
use worker_agents::cli::complete;
use worker_agents::config::KafkaConfig;
use worker_agents::kafka::{Clients, Producer};
use worker_agents::registry::{RegistryClient, value_subject};

use crate::stack::PARTITIONS;

/// Publishes tickets.
#[derive(Clone)]
pub(crate) struct Load {
    producer: Producer,
    schema_id: u32,
}

/// A record to publish: key and value.
pub(crate) type Record = (String, Vec<u8>);

impl Load {
    pub(crate) async fn new(config: &KafkaConfig) -> anyhow::Result<Self> {
        let url = config.schema_registry_url.as_deref().unwrap_or_default();
        let subject = value_subject(&config.tickets_topic);
        let schema_id = RegistryClient::new(url)?.register(&subject, TICKET_SCHEMA_JSON).await?;
        Ok(Self { producer: Clients::new(config)?.producer()?, schema_id })
    }

    /// Fresh tickets, encoded.
    pub(crate) fn records(&self, count: usize) -> anyhow::Result<Vec<Record>> {
        (0..count)
            .map(|number| {
                let ticket = ticket(number)?;
                let value = if number % 2 == 0 {
                    encode_avro_ticket(&ticket, self.schema_id)?
                } else {
                    encode_json_ticket(&ticket)
                };
                Ok((ticket.ticket_id.as_str().to_owned(), value))
            })
            .collect()
    }

    /// Publishes all records, as many to each partition; returns when all are acknowledged.
    pub(crate) async fn publish(&self, topic: &str, records: &[Record]) -> anyhow::Result<()> {
        let sent = records.iter().zip((0..PARTITIONS).cycle());
        try_join_all(sent.map(|(record, partition)| self.append(topic, partition, record))).await?;
        Ok(())
    }

    /// Publishes one record; returns when it is acknowledged.
    pub(crate) async fn append(&self, topic: &str, partition: i32, (key, value): &Record) -> anyhow::Result<()> {
        let record = FutureRecord::to(topic).partition(partition).key(key).payload(value);
        let sent = self.producer.send(record, Timeout::After(Duration::from_secs(10))).await;
        sent.map_err(|(error, _)| error)?;
        Ok(())
    }
}

/// A ticket as the orchestrator makes them, with ids of its own.
pub(crate) fn ticket(number: usize) -> anyhow::Result<Ticket> {
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let typed = json!({
        "task_type": "EXECUTE",
        "description": "Run the unit tests of the payments API in a clean working copy",
        "correlation_id": "9bd4089e-e5c3-5710-85da-cefd795eb570",
        "trace_id": "503f41b616cbc5a0c4dd37df1f271b41",
        "span_id": "f2ba236d03d03b6a",
        "parameters": {
            "runtime": "noop",
            "command": "python3",
            "args": "[\"-m\", \"pytest\", \"-q\"]",
            "env_vars": "{\"CI\": \"true\"}",
            "working_dir": "/tmp/neural-hive-execution/payments-api",
        },
        "required_capabilities": ["code", "compute"],
        "sla": { "timeout_ms": 60_000, "max_retries": 2 },
        "metadata": { "generated_by": "orchestrator-dynamic" },
    });
    let Value::Object(typed) = typed else { anyhow::bail!("a ticket is an object") };
    Ok(complete(typed, number, now_ms)?)
}
