//! The execution ticket in its canonical form (`contracts/kafka.md §5`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::DecodeErrorKind;
use crate::ids::{IntentId, PlanId, TaskId, TicketId};
use crate::ticket_object;
use crate::vocabulary::{
    Consistency, DeliveryMode, Durability, Priority, RiskBand, SecurityLevel, TaskType, TicketStatus,
};

/// One unit of work of a plan.
///
/// Both encodings and every known legacy form decode into this form. Its JSON uses the schema's field names, so it can
/// also travel in workflow payloads; reading it back applies the same checks as reading a message. Times are epoch
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Ticket {
    /// Identity for de-duplication and results.
    pub ticket_id: TicketId,
    /// Plan that produced it; empty when the producer left it out.
    pub plan_id: PlanId,
    /// Intent behind the plan; empty when the producer left it out.
    pub intent_id: IntentId,
    /// Decision that approved the plan. Absent for plans without one and for the orchestrator's compensation tickets
    /// (INC-39); an empty text counts as absent.
    pub decision_id: Option<String>,
    /// Correlation id across services.
    pub correlation_id: Option<String>,
    /// OpenTelemetry trace id, unchecked.
    pub trace_id: Option<String>,
    /// OpenTelemetry span id, unchecked.
    pub span_id: Option<String>,
    /// Node of the plan's task graph.
    pub task_id: TaskId,
    /// Kind of work.
    pub task_type: TaskType,
    /// Text for people.
    pub description: String,
    /// Tickets that must reach COMPLETED first, as the producer lists them: order and repetition mean nothing, and the
    /// ticket may even name itself.
    pub dependencies: Vec<TicketId>,
    /// Status when published.
    pub status: TicketStatus,
    /// Scheduling priority.
    pub priority: Priority,
    /// Risk class.
    pub risk_band: RiskBand,
    /// Time and retry limits; absent means the worker's defaults.
    pub sla: Option<Sla>,
    /// Delivery guarantees; absent means the worker's defaults.
    pub qos: Option<Qos>,
    /// Task parameters: strings from Avro, any JSON from JSON. Read them through [`crate::ParameterView`].
    pub parameters: BTreeMap<String, Value>,
    /// Capabilities the scheduler looked for; the worker does not enforce them.
    pub required_capabilities: Vec<String>,
    /// Classification of the data.
    pub security_level: SecurityLevel,
    /// Creation.
    pub created_at: Option<i64>,
    /// Start of execution.
    pub started_at: Option<i64>,
    /// End of execution.
    pub completed_at: Option<i64>,
    /// Planner's estimate in milliseconds.
    pub estimated_duration_ms: Option<i64>,
    /// Measured duration in milliseconds.
    pub actual_duration_ms: Option<i64>,
    /// Attempts so far.
    pub retry_count: i32,
    /// Why the last attempt failed.
    pub error_message: Option<String>,
    /// Ticket that undoes this one.
    pub compensation_ticket_id: Option<String>,
    /// Context; known keys in `contracts/kafka.md §5.2`.
    pub metadata: BTreeMap<String, String>,
    /// Version of the contract.
    pub schema_version: i32,
}

impl Ticket {
    /// The ticket as a JSON object with all 29 fields of the schema; absent ones are null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // Nothing in a ticket can fail here: keys are strings and numbers are finite.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// The key of its record: its plan, as the orchestrator does, else its own id (`contracts/kafka.md §3`).
    #[must_use]
    pub fn record_key(&self) -> &str {
        if self.plan_id.is_empty() { self.ticket_id.as_str() } else { self.plan_id.as_str() }
    }
}

impl TryFrom<Map<String, Value>> for Ticket {
    type Error = DecodeErrorKind;

    fn try_from(mut object: Map<String, Value>) -> Result<Self, Self::Error> {
        ticket_object::read(&mut object)
    }
}

/// Time and retry limits of a ticket. Each may be absent in JSON (INC-39).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sla {
    /// Latest useful end, epoch milliseconds.
    pub deadline: Option<i64>,
    /// Time one attempt may take, milliseconds.
    pub timeout_ms: Option<i64>,
    /// Attempts after the first one.
    pub max_retries: Option<i32>,
}

/// Delivery guarantees of a ticket. The default is what the orchestrator gives tickets of low and medium risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Qos {
    /// How often the work may happen.
    pub delivery_mode: DeliveryMode,
    /// Consistency asked for.
    pub consistency: Consistency,
    /// Durability asked for.
    pub durability: Durability,
}

impl Default for Qos {
    fn default() -> Self {
        Self {
            delivery_mode: DeliveryMode::AtLeastOnce,
            consistency: Consistency::Eventual,
            durability: Durability::Persistent,
        }
    }
}
