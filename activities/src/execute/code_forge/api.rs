//! What is asked of Code Forge, and what it answers. `worker-agents` makes the calls.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::external::{Fault, said};

/// Most characters of a request's id.
const MAX_ID: usize = 128;

/// Calls to Code Forge. Each ends by itself and is made once; whoever makes it decides about another.
pub trait CodeForge: Send + Sync + 'static {
    /// Asks for a generation, which then goes on by itself. Asked twice, Code Forge makes two.
    ///
    /// An error is a [`Fault`] of a create: nothing was asked for, or nobody knows whether it was.
    fn generate<'a>(&'a self, request: &'a GenerationRequest) -> BoxFuture<'a, Result<RequestId, Fault>>;

    /// How a generation stands. [`Fault::Vanished`]: Code Forge itself says that it has no such request.
    fn generation<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<Generation, Fault>>;
}

/// The body of `POST /api/v1/generate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerationRequest {
    /// The ticket that asks.
    pub ticket_id: String,
    /// The template.
    pub template_id: String,
    /// All parameters of the ticket, as they arrived.
    pub parameters: BTreeMap<String, Value>,
    /// Where the code goes; empty: nowhere.
    pub target_repo: String,
    /// Branch of that repository.
    pub branch: String,
}

/// What Code Forge calls a request. It stands in a path: a letter or digit, then also `._:-`, at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// A text is no id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request_id is not 1 to {} of A-Z, a-z, 0-9 and, after the first, `._:-`", MAX_ID)]
pub struct InvalidRequestId;

impl TryFrom<String> for RequestId {
    type Error = InvalidRequestId;

    fn try_from(text: String) -> Result<Self, InvalidRequestId> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        let good =
            text.len() <= MAX_ID && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(known);
        if good { Ok(Self(text)) } else { Err(InvalidRequestId) }
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What Code Forge calls the pipeline that made something. It is only told, so any text is one: a line of at most 300
/// characters is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct PipelineId(String);

impl From<String> for PipelineId {
    fn from(text: String) -> Self {
        Self(said(&text))
    }
}

/// The answer of `GET /api/v1/generate/{request_id}`, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Generation {
    /// The request.
    pub request_id: RequestId,
    /// How far it is.
    pub status: Stage,
    /// What was made, one object for each; null as long as nothing was.
    #[serde(default)]
    pub artifacts: Option<Vec<Value>>,
    /// The pipeline that made it.
    #[serde(default)]
    pub pipeline_id: Option<PipelineId>,
    /// Why it failed: a text, or something that says more.
    #[serde(default)]
    pub error: Option<Value>,
}

/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nobody works on it yet.
    Queued,
    /// Somebody does.
    Processing,
    /// It ended and has made something.
    Completed,
    /// It ended otherwise.
    Failed,
}

impl Stage {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    /// As Code Forge writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_can_stand_in_a_path_and_leads_nowhere_else() {
        for good in ["1ace7ddd-6254-5e5c-a9ce-6d7b89a8129f", "7", "a:b_c.d"] {
            assert_eq!(RequestId::try_from(good.to_owned()).map(String::from).as_deref(), Ok(good));
        }
        for wrong in ["", ".", "..", "../x", "a/b", "a b", "a?b", "a%2Fb", "-a", "é", &"a".repeat(MAX_ID + 1)] {
            assert_eq!(RequestId::try_from(wrong.to_owned()), Err(InvalidRequestId), "{wrong:?}");
        }
    }

    #[test]
    fn a_pipelines_id_is_one_bounded_line_whatever_is_sent() {
        let read = |id: &str| {
            let body = json!({ "request_id": "r", "status": "completed", "pipeline_id": id });
            json!(serde_json::from_value::<Generation>(body).expect("a generation").pipeline_id)
        };
        assert_eq!(read("f48c9452"), "f48c9452");
        assert_eq!(read("a\n\u{1b}b"), "a  b");
        assert!(read(&"x".repeat(1_000_000)).as_str().expect("text").len() < 1000);
    }

    #[test]
    fn every_status_of_the_contract_is_known_and_no_other() {
        let read = |status: &str| serde_json::from_value::<Generation>(json!({ "request_id": "r", "status": status }));
        for (status, ends) in [("queued", false), ("processing", false), ("completed", true), ("failed", true)] {
            let generation = read(status).expect(status);
            assert_eq!((generation.status.as_str(), generation.status.is_end()), (status, ends));
        }
        assert!(read("cancelled").is_err() && read("COMPLETED").is_err());
    }
}
