//! What the ticket service's answers mean, and those over HTTP.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use ticket_activities::border;

use super::excerpt;
use crate::net::{self, BodyError};

/// Largest answer read, in bytes: a ticket with its parameters, as text within JSON.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// What FastAPI says of a path that it does not serve.
const NO_SUCH_PATH: &str = "Not Found";

/// An answer of the service itself.
#[derive(Debug)]
pub(super) enum Answer {
    /// It did what was asked: the ticket's status, if it says so.
    Good(Option<String>),
    /// It does not know the ticket.
    UnknownTicket,
    /// Another 4xx: asking again does not help.
    Refused(String),
    /// 500: of this call, as far as anybody knows.
    Broken(String),
}

impl Answer {
    /// What spans say of one that is not good.
    pub(super) fn error(&self) -> Option<&'static str> {
        match self {
            Self::Good(_) => None,
            Self::UnknownTicket => Some("unknown_ticket"),
            Self::Refused(_) => Some("refused"),
            Self::Broken(_) => Some("broken"),
        }
    }
}

/// No usable answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) reason: String,
    /// Not before this time.
    pub(super) after: Option<Duration>,
    /// Others would get none either.
    pub(super) silent: bool,
}

impl NoAnswer {
    pub(super) fn of_this(reason: String) -> Self {
        Self { reason, after: None, silent: false }
    }

    pub(super) fn of_any(reason: String) -> Self {
        Self { reason, after: None, silent: true }
    }
}

pub(super) async fn read(response: reqwest::Result<reqwest::Response>) -> Result<Answer, NoAnswer> {
    let lost = |error: &reqwest::Error| NoAnswer::of_any(net::describe(error));
    let response = response.map_err(|error| lost(&error))?;
    let status = response.status();
    let after = net::retry_after(response.headers());
    let body = border("ticket_service.body", net::body(response, MAX_ANSWER_BYTES)).await;
    let body = body.map_err(|error| match error {
        BodyError::Lost(error) => lost(&error),
        BodyError::TooLarge(_) => NoAnswer::of_this(error.to_string()),
    })?;
    let said = || format!("{status}: {}", excerpt(&body));
    if status.is_success() {
        return match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value.is_object() => {
                Ok(Answer::Good(value.get("status").and_then(Value::as_str).map(str::to_owned)))
            }
            Ok(_) => Err(NoAnswer::of_this(format!("{status} without a ticket"))),
            Err(error) => Err(NoAnswer::of_this(format!("{status}, and not the expected JSON: {error}"))),
        };
    }
    match status {
        StatusCode::NOT_FOUND => {
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            // A 404 of a proxy, or of another service, says nothing about the ticket.
            match value.get("detail").and_then(Value::as_str) {
                Some(detail) if detail != NO_SUCH_PATH => Ok(Answer::UnknownTicket),
                _ => Err(NoAnswer::of_this(format!("{}; check EXECUTION_TICKET_SERVICE_URL", said()))),
            }
        }
        StatusCode::INTERNAL_SERVER_ERROR => Ok(Answer::Broken(said())),
        StatusCode::TOO_MANY_REQUESTS => Err(NoAnswer { reason: said(), after, silent: true }),
        // Matters of set-up, which somebody mends.
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::REQUEST_TIMEOUT => Err(NoAnswer::of_this(said())),
        _ if status.is_client_error() => Ok(Answer::Refused(said())),
        _ if status.is_redirection() => Err(NoAnswer::of_this(format!(
            "{status} to another address; set EXECUTION_TICKET_SERVICE_URL to where the service really is"
        ))),
        _ => Err(NoAnswer { reason: said(), after, silent: true }),
    }
}
