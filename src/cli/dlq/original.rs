//! The original of a dead letter: fetched when the dead letter does not hold all of it, and decoded for people.

use serde_json::Value;
use ticket_schemas::{Frame, decode_avro_ticket};

use crate::config::KafkaConfig;
use crate::dead_letters::{Body, Letter, Original, RedriveError, fetch, from_source, original, shown};
use crate::registry::RegistryClient;

/// Longest text shown of a value that cannot be decoded, in characters.
const MAX_SHOWN_CHARS: usize = 1000;

/// The record that the dead letter is about.
///
/// # Errors
/// The outer one: the brokers do not answer. The inner one: there is none that could be published.
pub(super) async fn find(kafka: &KafkaConfig, letter: &Letter) -> anyhow::Result<Result<Body, RedriveError>> {
    let (position, missing) = match original(letter) {
        Ok(Original::Here(body)) => return Ok(Ok(body)),
        Ok(Original::At { position, missing }) => (position, missing),
        Err(error) => return Ok(Err(error)),
    };
    match fetch(kafka, &position.topic, position.partition, position.offset).await {
        Ok(found) => Ok(from_source(letter, &position, missing, found.as_ref())),
        Err(error) => {
            Ok(Err(RedriveError::OriginalGone { missing, place: format!("{position} cannot be read ({error:#})") }))
        }
    }
}

/// A value as JSON, with what is wrong with it, or as escaped text.
pub(super) async fn decoded(kafka: &KafkaConfig, value: &[u8]) -> String {
    match try_decode(kafka, value).await {
        Ok(json) => format!("{json:#}").lines().map(|line| shown(line, usize::MAX)).collect::<Vec<_>>().join("\n"),
        Err(reason) => {
            let text = shown(&String::from_utf8_lossy(value), MAX_SHOWN_CHARS);
            format!("not decoded: {}\n{text}", shown(&reason, MAX_SHOWN_CHARS))
        }
    }
}

async fn try_decode(kafka: &KafkaConfig, value: &[u8]) -> Result<Value, String> {
    match Frame::detect(Some(value)).map_err(|error| error.to_string())? {
        Frame::Json(text) => serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}")),
        Frame::Avro { schema_id, body } => {
            let registry = RegistryClient::of(kafka).map_err(|error| format!("{error:#}"))?;
            let registry =
                registry.ok_or_else(|| format!("Avro with schema id {schema_id}; set KAFKA_SCHEMA_REGISTRY_URL"))?;
            let writer = registry.writer_schema(schema_id).await.map_err(|error| error.to_string())?;
            match decode_avro_ticket(body, &writer) {
                Ok(ticket) => Ok(ticket.to_json()),
                Err(error) => error.original().cloned().ok_or_else(|| error.to_string()),
            }
        }
    }
}
