//! What an alert about a dead letter says (`contracts/kafka.md §9.3`).

use serde::Serialize;
use ticket_schemas::{TaskType, UNKNOWN};
use ticket_workflows::workflow_id;
use uuid::Uuid;

use super::instant::format_instant;
use super::letter::Letter;
use super::text::shown;

const RUNBOOK: &str = "https://docs.neural-hive.io/runbooks/dlq-ticket-recovery";
/// The contract knows no other.
const SEVERITY: &str = "warning";
/// Longest error text, in characters: an alert is read on a telephone, the whole is in the dead letter.
const MAX_ERROR_CHARS: usize = 500;
/// Longest other text that comes from the ticket.
const MAX_SHORT_CHARS: usize = 200;

/// An alert. Its fields are the contract's, all of them and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DlqAlert {
    /// Made of the dead letter's position: copies of an alert are recognised by it.
    pub alert_id: String,
    event_type: &'static str,
    /// How serious it is.
    pub severity: &'static str,
    component: &'static str,
    alert_type: &'static str,
    /// The ticket, or `unknown`.
    pub ticket_id: String,
    task_type: String,
    retry_count: i64,
    error: String,
    message: String,
    runbook_url: &'static str,
    timestamp: Option<String>,
    metadata: AlertMetadata,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct AlertMetadata {
    plan_id: Option<String>,
    workflow_id: Option<String>,
    error_type: Option<String>,
}

impl DlqAlert {
    /// The alert about a dead letter. Equal for one dead letter, whoever makes it and whenever.
    #[must_use]
    pub fn about(letter: &Letter) -> Self {
        let record = letter.content.as_ref().ok();
        let position = &letter.position;
        let ticket_id = letter.ticket_id();
        let retry_count = record.and_then(|record| record.retry_count()).unwrap_or(0);
        let plan_id = record.and_then(|record| record.object().get("plan_id")?.as_str());
        Self {
            alert_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("dlq-alert:{position}").as_bytes()).to_string(),
            event_type: "DLQ_ALERT",
            severity: SEVERITY,
            component: "worker-agents",
            alert_type: "dlq_message",
            ticket_id: ticket_id.to_owned(),
            task_type: shown(letter.task_type(), MAX_SHORT_CHARS),
            retry_count,
            error: shown(&letter.error(), MAX_ERROR_CHARS),
            message: format!(
                "Ticket moved to the dead-letter queue after {retry_count} {}; look at it with: worker-agents dlq show {}/{}",
                if retry_count == 1 { "failure" } else { "failures" },
                position.partition,
                position.offset
            ),
            runbook_url: RUNBOOK,
            timestamp: letter.written_at_ms.and_then(format_instant),
            metadata: AlertMetadata {
                plan_id: plan_id.filter(|id| !id.is_empty()).map(|id| shown(id, MAX_SHORT_CHARS)),
                workflow_id: (ticket_id != UNKNOWN).then(|| workflow_id(ticket_id)),
                error_type: record
                    .map_or(Some(letter.code()), |record| record.error_type())
                    .map(|class| shown(class, MAX_SHORT_CHARS)),
            },
        }
    }

    /// A bounded label: a task type of ours, or `unknown` (INC-92).
    #[must_use]
    pub fn task_type_label(&self) -> &'static str {
        self.task_type.parse::<TaskType>().map_or(UNKNOWN, TaskType::as_str)
    }

    /// The alert as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers only: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::letter::tests::{NORMAL, UNDECODABLE, letter};
    use super::*;

    fn body(offset: i64, value: &[u8]) -> Value {
        serde_json::from_str(&DlqAlert::about(&letter(offset, value)).to_json()).expect("JSON")
    }

    #[test]
    fn inc_20_an_alert_has_the_contracts_fields_with_the_metadata_filled() {
        let sample: Value = serde_json::from_str(include_str!("../../tests/samples/dlq-alert.json")).expect("JSON");
        let alert = body(17, NORMAL);
        let keys = |value: &Value| value.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&alert), keys(&sample));
        assert_eq!(keys(&alert["metadata"]), keys(&sample["metadata"]));
        for key in [
            "event_type",
            "severity",
            "component",
            "alert_type",
            "ticket_id",
            "task_type",
            "retry_count",
            "error",
            "runbook_url",
        ] {
            assert_eq!(alert[key], sample[key], "{key}");
        }
        let message = alert["message"].as_str().expect("text");
        assert!(
            message.starts_with(sample["message"].as_str().expect("text")) && message.ends_with(" 0/17"),
            "{message}"
        );
        assert_eq!(alert["timestamp"], "2026-03-16T10:00:01.000Z");
        assert_eq!(
            alert["metadata"],
            json!({
                "plan_id": "600c4c05-a6b3-5f76-8e1c-a62d098035ec",
                "workflow_id": "ticket-b48b8f01-cdc1-506e-81c1-0be644e6096e",
                "error_type": "TimeoutError",
            })
        );
    }

    #[test]
    fn copies_of_an_alert_are_equal_and_other_dead_letters_have_others() {
        assert_eq!(body(17, NORMAL), body(17, NORMAL));
        assert_ne!(body(17, NORMAL)["alert_id"], body(18, NORMAL)["alert_id"]);
        let id = Uuid::parse_str(body(17, NORMAL)["alert_id"].as_str().expect("text")).expect("a UUID");
        assert_eq!(id.get_version_num(), 5);
    }

    #[test]
    fn every_record_of_the_topic_is_worth_an_alert() {
        let undecodable = body(1, UNDECODABLE);
        assert_eq!((&undecodable["ticket_id"], &undecodable["task_type"]), (&json!("unknown"), &json!("unknown")));
        assert_eq!(
            undecodable["metadata"],
            json!({"plan_id": null, "workflow_id": null, "error_type": "JSONDecodeError"})
        );
        let garbage = body(1, b"garbage");
        assert_eq!(garbage["metadata"]["error_type"], "dlq_unreadable");
        assert!(garbage["error"].as_str().expect("text").contains("unreadable"), "{garbage}");
    }

    #[test]
    fn ticket_content_is_bounded_and_escaped() {
        let hostile = json!({
            "ticket_id": "a\n", "task_type": "\u{1b}[2J".repeat(1000), "plan_id": "p\r\n".repeat(1000),
            "dlq_metadata": { "original_error": "<b>\u{202e}\n".repeat(100_000), "error_type": "x\0".repeat(1000), "retry_count": 1 },
        });
        let alert = DlqAlert::about(&letter(1, hostile.to_string().as_bytes()));
        let json = alert.to_json();
        assert!(json.len() < 4096, "{}", json.len());
        let body: Value = serde_json::from_str(&json).expect("JSON");
        let mut texts = vec![&body["error"], &body["task_type"], &body["metadata"]["plan_id"]];
        texts.push(&body["metadata"]["error_type"]);
        for text in texts {
            let text = text.as_str().expect("text");
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text}");
        }
        assert_eq!((body["ticket_id"].as_str(), alert.task_type_label()), (Some("unknown"), "unknown"));
    }
}
