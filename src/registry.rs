//! Schema Registry client (Confluent REST API): writer schemas by id, registration of our own.
//!
//! Small on purpose: one request at a time, positive cache, a time-out on every call, and errors that say whether asking
//! again can help (`docs/adr/0005-own-registry-client.md`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use serde::Deserialize;
use ticket_schemas::{SchemaError, WriterSchema};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// How long publishing does not ask again after the registry gave no answer: results then go out as JSON at once instead
/// of waiting for the time-out each.
const QUIET: Duration = Duration::from_secs(5);
/// Most schemas kept; the cache starts anew beyond. A platform has tens.
const MAX_CACHED: usize = 1000;

/// What a call to the registry came to.
#[derive(Debug, thiserror::Error)]
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
    /// No usable answer; asking again may help.
    #[error("the schema registry gave no usable answer: {0}")]
    Unavailable(String),
}

/// The client. Holds everything it was told by the registry.
pub struct RegistryClient {
    http: reqwest::Client,
    base: String,
    schemas: Mutex<BTreeMap<u32, WriterSchema>>,
    ids: Mutex<BTreeMap<String, u32>>,
    flight: tokio::sync::Mutex<()>,
    quiet_until: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
}

/// Subject, version, schema not found (Confluent REST API).
const NOT_FOUND_CODES: [u32; 3] = [40401, 40402, 40403];

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct CompatibilityAnswer {
    is_compatible: bool,
}

impl RegistryClient {
    /// A client of the registry at `base`, with or without a path such as `/apis/ccompat/v6` (INC-05).
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: crate::net::client(TIMEOUT)?,
            base: base.trim_end_matches('/').to_owned(),
            schemas: Mutex::default(),
            ids: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
            quiet_until: Mutex::default(),
        })
    }

    /// The writer schema with this id.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn writer_schema(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let _flight = self.flight.lock().await;
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let response = self.http.get(format!("{}/schemas/ids/{id}", self.base)).send().await;
        let answer: SchemaAnswer = match read(response).await? {
            Some(answer) => answer,
            None => return Err(RegistryError::NotFound(id)),
        };
        let schema = WriterSchema::parse(&answer.schema).map_err(|source| RegistryError::Unusable { id, source })?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if schemas.len() >= MAX_CACHED {
            schemas.clear();
        }
        schemas.insert(id, schema.clone());
        Ok(schema)
    }

    /// Whether the answer for this id is known.
    #[must_use]
    pub fn knows(&self, id: u32) -> bool {
        self.cached(id).is_some()
    }

    /// The id of `schema` under `subject`, registering it when the registry does not have it yet.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let known = |ids: &Mutex<BTreeMap<String, u32>>| {
            ids.lock().unwrap_or_else(PoisonError::into_inner).get(subject).copied()
        };
        if let Some(id) = known(&self.ids) {
            return Ok(id);
        }
        let _flight = self.flight.lock().await;
        if let Some(id) = known(&self.ids) {
            return Ok(id);
        }
        if self.quiet().is_some_and(|until| Instant::now() < until) {
            return Err(RegistryError::Unavailable("it gave no answer a moment ago".to_owned()));
        }
        let registered = self.ask_for_id(subject, schema).await;
        *self.quiet() = registered.is_err().then(|| Instant::now() + QUIET);
        let id = registered?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.to_owned(), id);
        Ok(id)
    }

    async fn ask_for_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let response = self
            .http
            .post(format!("{}/subjects/{subject}/versions", self.base))
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .json(&serde_json::json!({ "schema": schema }))
            .send()
            .await;
        let answer: IdAnswer = read(response).await?.ok_or_else(|| {
            RegistryError::Unavailable(format!("subject {subject} is not served; check KAFKA_SCHEMA_REGISTRY_URL"))
        })?;
        Ok(answer.id)
    }

    /// Whether the registry answers, and its time when it tells it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn greet(&self) -> Result<Option<SystemTime>, RegistryError> {
        let response = self.http.get(format!("{}/subjects", self.base)).send().await;
        let date = response.as_ref().ok().and_then(|response| response.headers().get("date"));
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        read::<Vec<String>>(response)
            .await?
            .map(|_| date)
            .ok_or_else(|| RegistryError::Unavailable("it serves no subjects".to_owned()))
    }

    /// The newest schema of a subject; `None` when the subject does not exist.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn latest(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let response = self.http.get(format!("{}/subjects/{subject}/versions/latest", self.base)).send().await;
        Ok(read::<SchemaAnswer>(response).await?.map(|answer| answer.schema))
    }

    /// Whether the subject has this schema, or would take it as its next version.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn accepts(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        let ask = |path: String| {
            self.http
                .post(format!("{}/{path}", self.base))
                .header("content-type", "application/vnd.schemaregistry.v1+json")
                .json(&serde_json::json!({ "schema": schema }))
                .send()
        };
        if read::<IdAnswer>(ask(format!("subjects/{subject}")).await).await?.is_some() {
            return Ok(true);
        }
        let response = ask(format!("compatibility/subjects/{subject}/versions/latest")).await;
        // A subject that does not exist takes any schema.
        Ok(read::<CompatibilityAnswer>(response).await?.is_none_or(|answer| answer.is_compatible))
    }

    fn quiet(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, id: u32) -> Option<WriterSchema> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// The answer as JSON; `None` when the registry itself says that there is no such thing. A 404 without its error code comes
/// from something else: a wrong base path, a proxy.
async fn read<T: for<'de> Deserialize<'de>>(
    response: Result<reqwest::Response, reqwest::Error>,
) -> Result<Option<T>, RegistryError> {
    let unavailable = |what: String| RegistryError::Unavailable(what);
    let mut response = response.map_err(|error| unavailable(crate::net::describe(&error)))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(crate::net::describe(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(unavailable(format!("the answer is larger than {MAX_ANSWER_BYTES} bytes")));
        }
    }
    if status == StatusCode::NOT_FOUND
        && serde_json::from_slice::<ErrorAnswer>(&body).is_ok_and(|answer| NOT_FOUND_CODES.contains(&answer.error_code))
    {
        return Ok(None);
    }
    if !status.is_success() {
        let text: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(unavailable(format!("{status}: {text}")));
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| unavailable(format!("not the expected JSON: {error}")))
}
