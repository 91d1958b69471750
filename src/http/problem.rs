//! What went wrong with a request, as RFC 9457 says it: which ticket, why, and what to do next.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::dead_letters::shown;

/// The media type of problems.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// What the types of all problems begin with.
const TYPES: &str = "urn:worker-agents:problem:";
/// Longest detail, in characters: it may hold somebody else's text.
const MOST_DETAIL: usize = 1000;

/// Kinds of problems. Their names are stable: programs read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    Unauthenticated,
    Forbidden,
    NoSuchPath,
    UnknownTicket,
    NotActive,
    NoSuchMethod,
    SlowBody,
    Refused,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    Unavailable,
    Unanswered,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::UnknownTicket | Self::NotActive => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Refused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unanswered => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The stable name, the title, and what to do.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", "The body is no JSON", "send one JSON object"),
            Self::Unauthenticated => (
                "unauthenticated",
                "The caller is unknown",
                "send `Authorization: Bearer <token>` with a token of HTTP_API_TOKEN, or a JWT-SVID for HTTP_API_AUDIENCE",
            ),
            Self::Forbidden => {
                ("forbidden", "The caller may not do this", "have HTTP_API_ALLOW name the caller with this verb")
            }
            Self::NoSuchPath => {
                ("no-such-path", "There is nothing here", "look at /api/v1/openapi.json on HTTP_PORT for what there is")
            }
            Self::UnknownTicket => ("unknown-ticket", "There is no such ticket", "check the ticket id"),
            Self::NotActive => {
                ("not-active", "The ticket is not active", "check the ticket id and how the ticket stands")
            }
            Self::NoSuchMethod => ("no-such-method", "This cannot be done here", "use a method of the Allow header"),
            Self::SlowBody => ("slow-body", "The body did not come in time", "send it again, at once"),
            Self::Refused => (
                "refused",
                "The ticket does not take the order",
                "look at how the ticket stands: GET /api/v1/tickets/{ticket_id}",
            ),
            Self::TooLarge => ("too-large", "The body is too large", "send a shorter one"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", "The body is not marked as JSON", "send `Content-Type: application/json`")
            }
            Self::Invalid => ("invalid", "The request is not as it should be", "correct what the detail names"),
            Self::TooManyRequests => {
                ("too-many-requests", "The caller asks too often", "wait a second; HTTP_API_RATE is the limit")
            }
            Self::Unavailable => {
                ("unavailable", "This cannot be answered now", "send it again later, which is harmless")
            }
            Self::Unanswered => {
                ("unanswered", "Nobody answered in time", "send it again, which is harmless; look whether workers run")
            }
        }
    }
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:worker-agents:problem:` and the kind.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The kind, in words.
    pub(super) title: String,
    /// The HTTP status.
    pub(super) status: u16,
    /// Why, in this case.
    pub(super) detail: String,
    /// What to do next.
    pub(super) next_action: String,
    /// The ticket, when the request is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ticket_id: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl AsRef<str>) -> Self {
        let (name, title, next_action) = kind.words();
        Self {
            kind: format!("{TYPES}{name}"),
            title: title.to_owned(),
            status: kind.status().as_u16(),
            detail: shown(detail.as_ref(), MOST_DETAIL),
            next_action: next_action.to_owned(),
            ticket_id: None,
        }
    }

    /// The kind, as a metric's label has it.
    pub(super) fn reason(&self) -> String {
        self.kind.strip_prefix(TYPES).unwrap_or_default().replace('-', "_")
    }

    /// The problem of this ticket.
    pub(super) fn of(self, ticket_id: &str) -> Self {
        Self { ticket_id: Some(ticket_id.to_owned()), ..self }
    }

    /// The problem with something better to do about it.
    pub(super) fn next(self, next_action: impl AsRef<str>) -> Self {
        Self { next_action: shown(next_action.as_ref(), MOST_DETAIL), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"worker-agents\""));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// What every guarded request may be refused with.
const GUARDED: [Kind; 4] = [Kind::Unauthenticated, Kind::Forbidden, Kind::TooManyRequests, Kind::Unavailable];

/// Problems of a guarded request without a ticket or a body.
pub(super) struct GuardedProblems;

impl IntoResponses for GuardedProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        documented(&GUARDED)
    }
}

/// Problems of a request for a ticket.
pub(super) struct TicketProblems;

impl IntoResponses for TicketProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        documented(&[&GUARDED[..], &[Kind::UnknownTicket, Kind::Invalid, Kind::Unanswered]].concat())
    }
}

/// Problems of a request with a body.
pub(super) struct BodyProblems;

impl IntoResponses for BodyProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        documented(&[&GUARDED[..], &BODY].concat())
    }
}

const BODY: [Kind; 5] = [Kind::BadRequest, Kind::SlowBody, Kind::TooLarge, Kind::UnsupportedMediaType, Kind::Invalid];

/// Problems of an order to a ticket.
pub(super) struct OrderProblems;

impl IntoResponses for OrderProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        documented(&[&GUARDED[..], &BODY, &[Kind::UnknownTicket, Kind::Refused, Kind::Unanswered]].concat())
    }
}

fn documented(kinds: &[Kind]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let response = |kind: &Kind| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(kind.words().1).content(MEDIA_TYPE, content).build();
        (kind.status().as_str().to_owned(), response.into())
    };
    kinds.iter().map(response).collect()
}
