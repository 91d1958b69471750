//! What tickets tell each other: how a predecessor stands, who wants to know, and how it ended
//! (`docs/adr/0013-dependencies.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use temporalio_common::data_converters::RawValue;

use crate::payload::decoded;

/// The name under which a ticket, or a waiting list, is told that somebody wants to know how it ends.
pub const SUBSCRIBE_SIGNAL: &str = "subscribe";
/// The name under which a waiting ticket, or a waiting list, is told how a predecessor ended.
pub const OUTCOME_SIGNAL: &str = "dependency_outcome";

/// What a signal says. Anybody can send one, also a version that says it in other words; one that is not understood must not
/// keep the workflow from going on, as a handler's own decoding would.
pub(crate) fn understood<T: DeserializeOwned>(signal: &RawValue) -> Option<T> {
    decoded(signal.payloads.first()?)
}

/// How a predecessor stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DependencyState {
    /// It reached COMPLETED.
    Completed,
    /// It ended otherwise and cannot be waited for.
    Failed {
        /// Its error code.
        code: String,
    },
    /// It is open and will tell.
    Open,
    /// Nobody has heard of it yet; its waiting list will tell.
    Unknown,
}

/// Somebody wants to know how a ticket ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Who is to be told.
    pub workflow_id: String,
}

/// How a ticket ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyOutcome {
    /// The ticket.
    pub ticket_id: String,
    /// [`DependencyState::Completed`] or [`DependencyState::Failed`].
    pub outcome: DependencyState,
}

/// Input of the registration: finds out how predecessors stand and sees to it that those not ended tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The ticket that waits.
    pub ticket_id: String,
    /// The predecessors asked about.
    pub dependencies: Vec<String>,
    /// After this many milliseconds a waiting list that heard nothing looks for its ticket by itself.
    pub look_after_ms: u64,
    /// Whether only workflows count. The ticket service knows a ticket that it has created, and may never publish it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workflows_only: bool,
}

/// What the registration found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Each predecessor asked about.
    pub states: BTreeMap<String, DependencyState>,
    /// A path from the ticket through its predecessors back to itself.
    pub cycle: Option<Vec<String>>,
}

/// Who is to be told how a ticket ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// How it ended.
    pub outcome: DependencyOutcome,
    /// Workflow ids.
    pub subscribers: BTreeSet<String>,
}

/// Outputs that a ticket's parameters refer to: predecessor to keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted(pub BTreeMap<String, BTreeSet<String>>);

/// Those that exist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Predecessor to key to value.
    pub outputs: BTreeMap<String, BTreeMap<String, Value>>,
    /// They are more than parameters may hold; `outputs` has some of them.
    pub too_large: bool,
}

/// The workflow id of a ticket's waiting list: `waiters-<ticket_id>`. No ticket has a workflow id of this form.
#[must_use]
pub fn waiters_id(ticket_id: &str) -> String {
    format!("waiters-{ticket_id}")
}
