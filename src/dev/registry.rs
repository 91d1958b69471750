//! A Schema Registry without one to install: the Confluent REST API, in this process, in memory.
//!
//! Serves what producers and consumers of Avro use (`contracts/kafka.md §4`): registering, looking up and reading
//! schemas, at `/` and below Apicurio's compatibility paths. It does not check compatibility (`GET /config` says so),
//! deletes nothing, takes no schema references, and knows no other format than Avro. A development and test tool.
//!
//! Schemas are the same when their Avro parsing canonical forms are: they get one id, which answers with the text
//! registered first.

mod answers;
mod store;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use ticket_schemas::{MAX_SCHEMA_BYTES, WriterSchema};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use answers::{Answer, Refusal};
use store::{Entry, Store};

/// Paths below which the same API is served: Apicurio's (INC-05).
const COMPATIBILITY_PATHS: [&str; 2] = ["/apis/ccompat/v6", "/apis/ccompat/v7"];
/// A schema as a JSON text inside JSON may double in length, and comes with a frame.
const BODY_LIMIT: usize = 2 * MAX_SCHEMA_BYTES + 4096;
/// What open requests may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// An in-process Schema Registry. Clones share one store and one set of faults, so a clone kept aside is the handle
/// that a test switches faults with.
#[derive(Debug, Clone, Default)]
pub struct SchemaRegistry {
    store: Arc<Store>,
    unavailable: Arc<AtomicBool>,
    refusing: Arc<AtomicBool>,
}

impl SchemaRegistry {
    /// An empty registry. Ids start at 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fault: while set, every call answers 503.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Fault: while set, every call answers 401, as to a client that is not let in.
    pub fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Relaxed);
    }

    /// The HTTP API.
    pub fn router(&self) -> Router {
        let mut router = self.routes();
        for path in COMPATIBILITY_PATHS {
            router = router.nest(path, self.routes());
        }
        router
            .fallback(async || Refusal::UnknownPath)
            .method_not_allowed_fallback(async || Refusal::UnknownMethod)
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(middleware::from_fn_with_state(self.clone(), faults))
    }

    /// Serves the API until `stop`; open requests then have 2 s to end.
    ///
    /// # Errors
    ///
    /// When the listener breaks.
    pub fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let router = self.router();
        async move {
            let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
            tokio::select! {
                served = async { server.await } => served,
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
            }
        }
    }

    fn routes(&self) -> Router {
        Router::new()
            .route("/subjects", get(subjects))
            .route("/subjects/{subject}", post(look_up))
            .route("/subjects/{subject}/versions", get(versions).post(register))
            .route("/subjects/{subject}/versions/{version}", get(version))
            .route("/compatibility/subjects/{subject}/versions/{version}", post(compatibility))
            .route("/schemas/ids/{id}", get(schema))
            .route("/config", get(config))
            .with_state(Arc::clone(&self.store))
    }
}

async fn faults(State(registry): State<SchemaRegistry>, request: Request, next: Next) -> Result<Response, Refusal> {
    if registry.unavailable.load(Ordering::Relaxed) {
        return Err(Refusal::Unavailable);
    }
    if registry.refusing.load(Ordering::Relaxed) {
        return Err(Refusal::Unauthorized);
    }
    Ok(next.run(request).await)
}

async fn subjects(State(store): State<Arc<Store>>) -> Answer {
    Answer(json!(store.subjects()))
}

async fn register(
    State(store): State<Arc<Store>>,
    Path(subject): Path<String>,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let (text, canonical) = sent_schema(&body)?;
    Ok(Answer(json!({ "id": store.register(&subject, text, canonical) })))
}

async fn look_up(State(store): State<Arc<Store>>, Path(subject): Path<String>, body: Bytes) -> Result<Answer, Refusal> {
    let (_, canonical) = sent_schema(&body)?;
    let versions = store.versions(&subject).ok_or(Refusal::UnknownSubject { subject: subject.clone() })?;
    let found = versions.iter().zip(1..).find(|(entry, _)| entry.canonical == canonical);
    found.map(|(entry, version)| described(&subject, version, entry)).ok_or(Refusal::UnknownSchema)
}

async fn versions(State(store): State<Arc<Store>>, Path(subject): Path<String>) -> Result<Answer, Refusal> {
    let versions = store.versions(&subject).ok_or(Refusal::UnknownSubject { subject })?;
    Ok(Answer(json!((1..=versions.len()).collect::<Vec<_>>())))
}

async fn version(
    State(store): State<Arc<Store>>,
    Path((subject, version)): Path<(String, String)>,
) -> Result<Answer, Refusal> {
    let versions = store.versions(&subject).ok_or(Refusal::UnknownSubject { subject: subject.clone() })?;
    let number = match version.as_str() {
        // Confluent's other spelling of it.
        "latest" | "-1" => versions.len(),
        text => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or(Refusal::InvalidVersion { version: version.clone() })?,
    };
    let entry = versions.get(number - 1).ok_or(Refusal::UnknownVersion { version })?;
    Ok(described(&subject, number, entry))
}

/// What a registry answers whose compatibility level is NONE.
async fn compatibility(
    State(store): State<Arc<Store>>,
    Path((subject, _)): Path<(String, String)>,
    body: Bytes,
) -> Result<Answer, Refusal> {
    sent_schema(&body)?;
    store.versions(&subject).ok_or(Refusal::UnknownSubject { subject })?;
    Ok(Answer(json!({ "is_compatible": true })))
}

async fn schema(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Result<Answer, Refusal> {
    let entry = id.parse().ok().and_then(|id| store.schema(id)).ok_or(Refusal::UnknownId { id })?;
    Ok(Answer(json!({ "schema": entry.text })))
}

async fn config() -> Answer {
    Answer(json!({ "compatibilityLevel": "NONE" }))
}

fn described(subject: &str, version: usize, entry: &Entry) -> Answer {
    Answer(json!({ "subject": subject, "version": version, "id": entry.id, "schema": entry.text }))
}

/// What a producer sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Value>,
}

/// The text sent and its canonical form. The request's content type does not matter: clients differ in it.
fn sent_schema(body: &[u8]) -> Result<(String, String), Refusal> {
    let invalid = |reason: String| Refusal::InvalidSchema { reason };
    let sent: Sent =
        serde_json::from_slice(body).map_err(|error| Refusal::InvalidBody { reason: error.to_string() })?;
    if let Some(kind) = sent.schema_type.filter(|kind| kind != "AVRO") {
        return Err(invalid(format!("schema type {kind} is not served, only AVRO")));
    }
    if !sent.references.is_empty() {
        return Err(invalid("references are not served; send the whole schema".into()));
    }
    let parsed = WriterSchema::parse(&sent.schema).map_err(|error| invalid(error.to_string()))?;
    Ok((sent.schema, parsed.canonical_form()))
}

#[cfg(test)]
mod tests;
