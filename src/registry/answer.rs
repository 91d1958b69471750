//! What the registry's answers mean.

use reqwest::StatusCode;
use reqwest::header::LOCATION;
use serde::Deserialize;
use ticket_activities::border;
use ticket_schemas::SchemaError;

use crate::net::{self, BodyError};

/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// Subject, version, schema not found (Confluent REST API).
const NOT_FOUND_CODES: [u32; 3] = [40401, 40402, 40403];

/// What a call to the registry came to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry answered: there is no such schema.
    #[error("the schema registry knows no schema {0}; the producer wrote with an id of another registry")]
    NotFound(u32),
    /// The registry has it, and it cannot be used.
    #[error("schema {id} of the schema registry cannot be used: {source}")]
    Unusable {
        /// Schema id.
        id: u32,
        /// Why.
        source: SchemaError,
    },
    /// The registry does not let this worker in: a matter of settings. Asking again helps once they are right.
    #[error(
        "the schema registry refused this worker ({0}); check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, or SCHEMA_REGISTRY_TOKEN, and the rights of that user"
    )]
    Refused(String),
    /// The registry's certificate is not trusted: a matter of settings.
    #[error(
        "the schema registry's certificate is not trusted ({0}); set SCHEMA_REGISTRY_CA_BUNDLE to a PEM file with its authority"
    )]
    Untrusted(String),
    /// No usable answer; asking again may help.
    #[error("the schema registry gave no usable answer: {0}")]
    Unavailable(String),
}

impl RegistryError {
    /// Whether asking again later may help. What does not help goes to the DLQ.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::NotFound(_) | Self::Unusable { .. })
    }

    /// The set-up fault that this is, if it is one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_) => Some("schema_registry_access"),
            Self::Untrusted(_) => Some("schema_registry_tls"),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
}

/// The answer as JSON; `None` when the registry itself says that there is no such thing. A 404 without its error code comes
/// from something else: a wrong base path, a proxy.
pub(super) async fn read<T: for<'de> Deserialize<'de>>(
    response: Result<reqwest::Response, reqwest::Error>,
) -> Result<Option<T>, RegistryError> {
    let unavailable = |what: String| RegistryError::Unavailable(what);
    let response = response.map_err(|error| unanswered(&error))?;
    let status = response.status();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(origin);
    let body = border("registry.body", net::body(response, MAX_ANSWER_BYTES)).await;
    let body = body.map_err(|error| match error {
        BodyError::Lost(error) => unanswered(&error),
        BodyError::TooLarge(_) => unavailable(error.to_string()),
    })?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| unavailable(format!("not the expected JSON: {error}")));
    }
    let code = serde_json::from_slice::<ErrorAnswer>(&body).ok().map(|answer| answer.error_code);
    if status == StatusCode::NOT_FOUND && code.is_some_and(|code| NOT_FOUND_CODES.contains(&code)) {
        return Ok(None);
    }
    let text: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Refused(status.to_string()),
        StatusCode::NOT_FOUND => unavailable(format!(
            "{status} without a registry's error code: {text}; check the base path of KAFKA_SCHEMA_REGISTRY_URL (Apicurio: /apis/ccompat/v6)"
        )),
        // Not followed: it would carry credentials to an address that nobody configured.
        _ if status.is_redirection() => unavailable(format!(
            "{status} to {}; set KAFKA_SCHEMA_REGISTRY_URL to where the registry really is",
            location.unwrap_or_default()
        )),
        _ => unavailable(format!("{status}: {text}")),
    })
}

/// Scheme, host and port of an address: the rest may hold what is not for a log.
fn origin(address: &str) -> String {
    match reqwest::Url::parse(address) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "another path".to_owned(),
    }
}

fn unanswered(error: &reqwest::Error) -> RegistryError {
    let text = net::describe(error);
    if net::is_untrusted(error) { RegistryError::Untrusted(text) } else { RegistryError::Unavailable(text) }
}
