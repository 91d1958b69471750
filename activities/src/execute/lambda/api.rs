//! What is asked of AWS Lambda, and what it answers. `worker-agents` makes the calls.

use std::fmt;

use futures::future::BoxFuture;
use serde::Deserialize;

use crate::external::Fault;

/// Most characters of a function's name, its account, region and alias included (AWS, `Invoke`, `FunctionName`).
const MAX_NAME: usize = 170;

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
    /// Lambda answers that it will invoke the function, and nobody is told what becomes of it.
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

    /// Most bytes of a payload (AWS, Lambda quotas: 6 MB synchronous, 1 MB asynchronous).
    #[must_use]
    pub fn max_payload_bytes(self) -> usize {
        match self {
            Self::RequestResponse => 6 * 1024 * 1024,
            Self::Event => 1024 * 1024,
        }
    }
}

/// The name of a function, or its ARN, with or without a version or alias. It stands in a path: `A-Z a-z 0-9 - _ . : $`, at most
/// 170 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName(String);

/// A text is no name of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a function's name or ARN: 1 to {} of A-Z, a-z, 0-9 and, after the first, `-_.:$`", MAX_NAME)]
pub struct InvalidFunctionName;

impl FunctionName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FunctionName {
    type Error = InvalidFunctionName;

    fn try_from(text: String) -> Result<Self, InvalidFunctionName> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '$');
        let good =
            text.len() <= MAX_NAME && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(known);
        if good { Ok(Self(text)) } else { Err(InvalidFunctionName) }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lambda's answer to an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The invocation's id, by which its log is found.
    pub request_id: String,
    /// The status of the answer: 200, or 202 of [`InvocationType::Event`].
    pub status: u16,
    /// `X-Amz-Function-Error`, `Handled` or `Unhandled`: the function has failed, and `payload` says how.
    pub function_error: Option<String>,
    /// What the function answered.
    pub payload: Vec<u8>,
    /// The last 4 KiB of its log; empty when there is none.
    pub tail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_name_can_stand_in_a_path_and_leads_nowhere_else() {
        for good in [
            "neural-hive-executor",
            "f",
            "f:$LATEST",
            "my.function_1:live",
            "arn:aws:lambda:eu-central-1:123456789012:function:f:7",
        ] {
            assert_eq!(FunctionName::try_from(good.to_owned()).map(|name| name.0).as_deref(), Ok(good));
        }
        for wrong in ["", ".", "..", "../f", "a/b", "a b", "a?b", "a%2Fb", "-a", ":a", "é", &"a".repeat(MAX_NAME + 1)]
        {
            assert_eq!(FunctionName::try_from(wrong.to_owned()), Err(InvalidFunctionName), "{wrong:?}");
        }
    }
}
