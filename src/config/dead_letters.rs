//! What is done about dead letters once they are in their topic.

use super::kafka::{KafkaConfig, topic};
use super::reader::Reader;

/// Consumption of the dead-letter topic. Writing to it cannot be turned off.
#[derive(Debug, Clone)]
pub struct DeadLetterConfig {
    /// `KAFKA_DLQ_ENABLED`: whether this worker consumes the dead-letter topic.
    pub consumer_enabled: bool,
    /// `DLQ_ALERT_ENABLED`: whether it publishes an alert for each dead letter. If not, they are consumed silently.
    pub alerts_enabled: bool,
    /// `DLQ_ALERT_KAFKA_TOPIC`.
    pub alert_topic: String,
}

impl DeadLetterConfig {
    pub(super) fn read(reader: &mut Reader<'_>, kafka: &KafkaConfig) -> Self {
        let config = Self {
            consumer_enabled: reader.boolean(
                "KAFKA_DLQ_ENABLED",
                true,
                "consume the dead-letter topic; writing to it is not affected",
            ),
            alerts_enabled: reader.boolean("DLQ_ALERT_ENABLED", true, "publish an alert for each dead letter"),
            alert_topic: topic(reader, "DLQ_ALERT_KAFKA_TOPIC", "sre.alerts", "alerts about dead letters"),
        };
        if [&kafka.tickets_topic, &kafka.results_topic, &kafka.dlq_topic].contains(&&config.alert_topic) {
            reader.error(
                "DLQ_ALERT_KAFKA_TOPIC must differ from the topics of tickets, results and dead letters: alerts are none"
                    .to_owned(),
            );
        }
        config
    }
}
