//! What Code Forge's answers mean. An answer that something between it and this worker has made is told from its own.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ticket_activities::execute::code_forge::{Generation, RequestId};
use ticket_activities::external::{Fault, said};
use ticket_activities::{border, code};

use crate::net::{self, BodyError};

/// Largest answer read, in bytes. A preview of the code may be in it, which nobody looks at.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Of an answer that is quoted.
const MAX_QUOTED_BYTES: usize = 4 * 1024;
/// What FastAPI says of a path that it does not serve.
const NO_SUCH_PATH: &str = "Not Found";

/// What the answer to a request for a generation is looked at for.
#[derive(Deserialize)]
struct Taken {
    request_id: RequestId,
}

/// An answer, read whole.
struct Answer {
    status: StatusCode,
    after: Option<Duration>,
    body: Vec<u8>,
    /// The body of an error, where it is JSON.
    error: Option<Value>,
}

/// The request that Code Forge has taken.
pub(super) async fn taken(response: reqwest::Result<reqwest::Response>) -> Result<RequestId, Fault> {
    let answer = Answer::read(response).await?;
    if answer.status.is_success() {
        return answer.json().map(|taken: Taken| taken.request_id);
    }
    Err(match answer.status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if answer.detail().is_some() => {
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: answer.quoted() }
        }
        // Whoever says so has passed on no whole request.
        StatusCode::PAYLOAD_TOO_LARGE => {
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: answer.quoted() }
        }
        // Nobody who says so in JSON to this path has taken a request.
        StatusCode::NOT_FOUND if answer.error.as_ref().is_some_and(Value::is_object) => {
            Fault::SetupRefused { cause: format!("{}; check CODE_FORGE_URL", answer.quoted()) }
        }
        // A gateway says so too of a request that it has passed on.
        StatusCode::SERVICE_UNAVAILABLE if answer.detail().is_none() => Fault::Lost { cause: answer.quoted() },
        _ => answer.fault(),
    })
}

/// How a generation stands.
pub(super) async fn stands(response: reqwest::Result<reqwest::Response>) -> Result<Generation, Fault> {
    let answer = Answer::read(response).await?;
    if answer.status.is_success() {
        return answer.json();
    }
    let unknown = answer.status == StatusCode::NOT_FOUND
        && answer.detail().is_some_and(|detail| detail.as_str().is_some_and(|text| text != NO_SUCH_PATH));
    Err(if unknown { Fault::Vanished { cause: answer.quoted() } } else { answer.fault() })
}

impl Answer {
    async fn read(response: reqwest::Result<reqwest::Response>) -> Result<Self, Fault> {
        let response = response.map_err(|error| unanswered(&error))?;
        let (status, after) = (response.status(), net::retry_after(response.headers()));
        let body = border("code_forge.body", net::body(response, MAX_ANSWER_BYTES)).await;
        let body = body.map_err(|error| match error {
            BodyError::Lost(error) => unanswered(&error),
            BodyError::TooLarge(_) => Fault::Malformed { cause: format!("Code Forge answered {status}, and {error}") },
        })?;
        let error = if status.is_success() { None } else { serde_json::from_slice(&body).ok() };
        Ok(Self { status, after, body, error })
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let status = self.status.as_u16();
            let cause = if self.is_page() {
                format!("{} (a page, not JSON; is CODE_FORGE_URL Code Forge?)", self.quoted())
            } else if error.is_eof() {
                format!("Code Forge answered {status} with JSON that ends too early")
            } else {
                format!("Code Forge answered {status} with what is not its format: {}", said(&error.to_string()))
            };
            Fault::Malformed { cause }
        })
    }

    /// A proxy's words, not Code Forge's.
    fn is_page(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// What an error says, as FastAPI words it. `None`: somebody else has said it.
    fn detail(&self) -> Option<&Value> {
        self.error.as_ref()?.get("detail").filter(|detail| !detail.is_null())
    }

    /// The fault of an answer that is an error, to any call.
    fn fault(&self) -> Fault {
        let cause = self.quoted();
        match self.status.as_u16() {
            300..=399 => Fault::SetupRefused {
                cause: format!("{cause}; no redirect is followed, set CODE_FORGE_URL to where it really is"),
            },
            401 | 403 | 405 | 407 => Fault::SetupRefused { cause },
            404 if self.detail().is_some() => Fault::SetupRefused { cause: format!("{cause}; check CODE_FORGE_URL") },
            429 => Fault::Deferred { cause, after: self.after },
            503 => Fault::Unavailable { cause, after: self.after },
            500 if !self.is_page() => Fault::Errored { cause },
            400..=499 if self.detail().is_some() => Fault::SetupRefused { cause },
            408 => Fault::Lost { cause },
            // Of something in between that minds what was asked for, such as a firewall, or that does not know the path.
            400..=499 => Fault::Errored { cause },
            // Of something in between, or of a service that is not well: it may have been carried out.
            _ => Fault::Lost { cause },
        }
    }

    /// Status and text, for people.
    fn quoted(&self) -> String {
        let start = &self.body[..self.body.len().min(MAX_QUOTED_BYTES)];
        let text = match self.detail() {
            Some(Value::String(detail)) => detail.clone(),
            Some(Value::Array(mistakes)) => mistakes.iter().map(mistake).collect::<Vec<_>>().join("; "),
            Some(detail) => detail.to_string(),
            None => String::from_utf8_lossy(start).into_owned(),
        };
        format!("Code Forge answered {}: {}", self.status.as_u16(), said(&text))
    }
}

/// Where a mistake in a request is, and what it is. FastAPI echoes what was sent beside that, and a ticket's parameters are nobody
/// else's.
fn mistake(entry: &Value) -> String {
    let place = entry["loc"].as_array().into_iter().flatten();
    let place: Vec<_> = place.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect();
    format!("{}: {}", place.join("."), entry["msg"].as_str().unwrap_or("no reason given"))
}

/// A call without an answer. What could not be connected to has heard nothing.
fn unanswered(error: &reqwest::Error) -> Fault {
    let why = said(&net::describe(error));
    if error.is_connect() {
        return Fault::Unavailable { cause: format!("Code Forge cannot be reached: {why}"), after: None };
    }
    Fault::Lost { cause: format!("no answer from Code Forge: {why}") }
}
