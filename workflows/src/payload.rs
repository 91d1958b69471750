//! Values as the server keeps them: one JSON payload each, in the SDK's own encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;
use temporalio_common::protos::temporal::api::common::v1::Payload;

/// A value as a payload.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn encoded<T: Serialize>(value: &T) -> serde_json::Result<Payload> {
    Ok(Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: serde_json::to_vec(value)?,
        ..Payload::default()
    })
}

/// The value of a payload; `None` when it is another one.
#[must_use]
pub fn decoded<T: DeserializeOwned>(payload: &Payload) -> Option<T> {
    serde_json::from_slice(&payload.data).ok()
}
