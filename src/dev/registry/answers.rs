//! What the registry answers: JSON under the registry's own content type, errors with the registry's own codes.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The registry's content type.
const REGISTRY_JSON: &str = "application/vnd.schemaregistry.v1+json";

/// A good answer.
pub(super) struct Answer(pub(super) Value);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (StatusCode::OK, [(CONTENT_TYPE, REGISTRY_JSON)], self.0.to_string()).into_response()
    }
}

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("HTTP 404 Not Found")]
    UnknownPath,
    #[error("HTTP 405 Method Not Allowed")]
    UnknownMethod,
    #[error("Subject '{subject}' not found.")]
    UnknownSubject { subject: String },
    #[error("Version {version} not found.")]
    UnknownVersion { version: String },
    #[error("Schema not found")]
    UnknownSchema,
    #[error("Schema {id} not found")]
    UnknownId { id: String },
    #[error("the request is no JSON object with a text \"schema\": {reason}")]
    InvalidBody { reason: String },
    #[error("Invalid schema: {reason}")]
    InvalidSchema { reason: String },
    #[error(
        "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion { version: String },
    #[error("the registry was made unavailable")]
    Unavailable,
    #[error("Unauthorized")]
    Unauthorized,
}

impl Refusal {
    /// The registry's error code; its first three digits are the HTTP status.
    fn code(&self) -> u16 {
        match self {
            Self::UnknownPath => 404,
            Self::UnknownMethod => 405,
            Self::UnknownSubject { .. } => 40401,
            Self::UnknownVersion { .. } => 40402,
            Self::UnknownSchema | Self::UnknownId { .. } => 40403,
            Self::InvalidBody { .. } => 422,
            Self::InvalidSchema { .. } => 42201,
            Self::InvalidVersion { .. } => 42202,
            Self::Unavailable => 503,
            Self::Unauthorized => 401,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = if code < 1000 { code } else { code / 100 };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "error_code": code, "message": self.to_string() });
        (status, [(CONTENT_TYPE, REGISTRY_JSON)], body.to_string()).into_response()
    }
}
