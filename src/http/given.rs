//! What a request gives: ids in its path, one JSON object as its body. What is wrong with it is a [`Problem`].

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use ticket_schemas::TicketId;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Kind, Problem};

/// Largest body, in bytes.
pub(super) const MOST_BODY: usize = 16 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);
/// What flow C calls the task of a ticket.
const TASK_PREFIX: &str = "task_";

/// The ticket that the path names.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TicketPath {
    /// The ticket, without the prefix `ticket-` of its workflow.
    #[param(min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9._:-]+$")]
    pub(super) ticket_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for TicketPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = segment(parts, state).await?;
        match TicketId::parse(&text) {
            Ok(id) => Ok(Self { ticket_id: id.as_str().to_owned() }),
            Err(error) => Err(Problem::new(Kind::Invalid, error.to_string())),
        }
    }
}

/// The task that the path names, as flow C names it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// `task_` and the ticket's id.
    #[param(min_length = 6, max_length = 205, pattern = r"^task_[A-Za-z0-9._:-]+$")]
    pub(super) task_id: String,
}

impl TaskPath {
    /// The task's ticket.
    pub(super) fn ticket_id(&self) -> &str {
        self.task_id.strip_prefix(TASK_PREFIX).unwrap_or(&self.task_id)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let task_id = segment(parts, state).await?;
        if task_id.strip_prefix(TASK_PREFIX).is_some_and(TicketId::is_valid) {
            return Ok(Self { task_id });
        }
        Err(Problem::new(Kind::Invalid, format!("{task_id:?} is not a task id: use {TASK_PREFIX} and a ticket id")))
    }
}

/// The one variable segment of the path.
async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    match Path::<String>::from_request_parts(parts, state).await {
        Ok(Path(text)) => Ok(text),
        Err(rejection) => Err(Problem::new(Kind::Invalid, rejection.body_text())),
    }
}

/// A body: one JSON object.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "the Content-Type is not application/json"));
        }
        let bytes = match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(BytesRejection::FailedToBufferBody(rejection))) if rejection.status() == 413 => {
                return Err(Problem::new(Kind::TooLarge, format!("the body has more than {MOST_BODY} bytes")));
            }
            Ok(Err(rejection)) => return Err(Problem::new(Kind::BadRequest, rejection.body_text())),
            Err(_) => {
                let seconds = BODY_TIME.as_secs();
                return Err(Problem::new(Kind::SlowBody, format!("the body was not there within {seconds} s")));
            }
        };
        // To serde an array of a struct's fields is the struct, too.
        if !bytes.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() {
            return Err(Problem::new(Kind::Invalid, "the body is not a JSON object"));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match error.classify() {
            Category::Data => Problem::new(Kind::Invalid, format!("the body is not as described: {error}")),
            Category::Io | Category::Syntax | Category::Eof => {
                Problem::new(Kind::BadRequest, format!("the body is no JSON: {error}"))
            }
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The body of a request for the ticket of its path; what is wrong with it names the ticket.
pub(super) struct OfTicket<T> {
    pub(super) ticket_id: String,
    pub(super) body: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OfTicket<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let TicketPath { ticket_id } = TicketPath::from_request_parts(&mut parts, state).await?;
        match Body::from_request(Request::from_parts(parts, body), state).await {
            Ok(Body(body)) => Ok(Self { ticket_id, body }),
            Err(problem) => Err(problem.of(&ticket_id)),
        }
    }
}

/// Why something is ordered: kept with the ticket, 512 bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 1, pattern = r"[^\s\x00-\x1f\x7f-\x9f]")]
pub(super) struct Reason(String);

impl Reason {
    /// A reason of our own.
    pub(super) fn of(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().all(|c| c.is_control() || c.is_whitespace()) {
            return Err(serde::de::Error::custom(
                "a reason is needed: it is kept with the ticket, for those who ask later",
            ));
        }
        Ok(Self(text))
    }
}

/// A time of 0 to `MOST` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Seconds<const MOST: u64>(pub(super) u64);

impl<const MOST: u64> Seconds<MOST> {
    pub(super) fn as_millis(self) -> u64 {
        self.0 * 1000
    }
}

impl<'de, const MOST: u64> Deserialize<'de> for Seconds<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = whole(deserializer)?;
        let within = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MOST);
        within.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{seconds} s is not between 0 and {MOST} s")))
    }
}

/// A whole number, also when it is written as 30.0: to JSON Schema that is an integer.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    // Larger ones are no whole numbers of a double any more.
    let written = |float: f64| (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64);
    number
        .as_i64()
        .or_else(|| number.as_f64().and_then(written))
        .ok_or_else(|| serde::de::Error::custom(format!("{number} is not a whole number of 64 bits")))
}
