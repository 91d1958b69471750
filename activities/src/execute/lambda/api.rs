//! What is asked of AWS Lambda, and what it answers. `worker-agents` makes the calls.

use futures::future::BoxFuture;
use serde::Deserialize;

use super::function::FunctionName;
use crate::external::Fault;

/// Calls to AWS Lambda. Each ends by itself and is made once; whoever makes it decides about another.
pub trait Lambda: Send + Sync + 'static {
    /// Invokes a function. [`InvocationType::RequestResponse`] is answered when the function has ended, 15 minutes later at the
    /// latest. Asked twice, the function runs twice.
    ///
    /// An error is a [`Fault`] of a create: nothing was invoked, or nobody knows whether it was.
    fn invoke<'a>(&'a self, invocation: &'a Invocation) -> BoxFuture<'a, Result<Reply, Fault>>;
}

/// What a function is invoked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The function.
    pub function: FunctionName,
    /// Whether the ticket names it; otherwise the settings do, and it is they that are wrong where there is none.
    pub named_by_ticket: bool,
    /// Whether its end is waited for.
    pub invocation_type: InvocationType,
    /// What it is told, as JSON.
    pub payload: Vec<u8>,
}

/// Whether the end of an invocation is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum InvocationType {
    /// The answer is the function's.
    #[default]
    RequestResponse,
    /// Lambda answers that it will invoke the function, and nobody is told what becomes of it. It delivers at least once, and tries a
    /// function that fails again, twice unless it is set up otherwise.
    Event,
}

impl InvocationType {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestResponse => "RequestResponse",
            Self::Event => "Event",
        }
    }

    /// The status by which Lambda says that it has done so.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::RequestResponse => 200,
            Self::Event => 202,
        }
    }

    /// Most bytes of a payload (AWS, Lambda quotas: 6 MB synchronous, 1 MB asynchronous).
    #[must_use]
    pub fn max_payload_bytes(self) -> usize {
        match self {
            Self::RequestResponse => 6 * 1024 * 1024,
            Self::Event => 1024 * 1024,
        }
    }
}

/// Lambda's answer to an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The invocation's id, by which its log is found.
    pub request_id: String,
    /// The status of the answer: [`InvocationType::status`].
    pub status: u16,
    /// `X-Amz-Function-Error`, `Handled` or `Unhandled`: the function has failed, and `payload` says how.
    pub function_error: Option<String>,
    /// What the function answered.
    pub payload: Vec<u8>,
    /// The last 4 KiB of its log; empty when there is none.
    pub tail: String,
}
