//! Schema Registry client (Confluent REST API): writer schemas by id, registration of our own.
//!
//! Small on purpose: one request at a time for each id, a cache of answers (a 404 is forgotten after a while), a time-out on
//! every call, and errors that say whether asking again can help (`docs/adr/0005-own-registry-client.md`).

mod answer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use ticket_activities::border;
use ticket_schemas::WriterSchema;
use tokio::time::Instant;

pub use answer::RegistryError;

use crate::config::{KafkaConfig, RegistryAccess, RegistryLogin, SecretSource};
use answer::read;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long publishing does not ask again after the registry gave no answer: results then go out as JSON at once instead
/// of waiting for the time-out each.
const QUIET: Duration = Duration::from_secs(5);
/// How long a 404 holds. A schema that is registered afterwards is seen then; records with its id are dead letters until.
pub const NOT_FOUND_HOLDS: Duration = Duration::from_secs(30);
/// Most schemas kept, and most ids known to be unknown; each cache starts anew beyond. A platform has tens.
const MAX_CACHED: usize = 1000;

type Found = Result<WriterSchema, RegistryError>;
type Asking = BoxFuture<'static, Found>;

/// The subject of a topic's values, as every client of the platform names it.
#[must_use]
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// The client. Holds everything it was told by the registry.
pub struct RegistryClient(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    base: String,
    login: RegistryLogin,
    schemas: Mutex<BTreeMap<u32, Known>>,
    /// The calls that are under way. Weak: one that everybody has left is made anew.
    flights: Mutex<BTreeMap<u32, WeakShared<Asking>>>,
    ids: Mutex<BTreeMap<String, u32>>,
    registering: tokio::sync::Mutex<()>,
    quiet_until: Mutex<Option<Instant>>,
}

/// What the registry said about an id.
enum Known {
    Schema(WriterSchema),
    /// It had none; that holds until then.
    Nothing(Instant),
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct CompatibilityAnswer {
    is_compatible: bool,
}

impl RegistryClient {
    /// A client of the registry at `base`, with or without a path such as `/apis/ccompat/v6` (INC-05), that asks for no
    /// credentials.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Self::with(base, &RegistryAccess::default())
    }

    /// The client that the settings ask for; `None` when they name no registry.
    ///
    /// # Errors
    /// When the HTTP client cannot be built, or the CA bundle cannot be used.
    pub fn of(config: &KafkaConfig) -> anyhow::Result<Option<Self>> {
        config.schema_registry_url.as_deref().map(|base| Self::with(base, &config.schema_registry)).transpose()
    }

    fn with(base: &str, access: &RegistryAccess) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            http: crate::net::peer_client(TIMEOUT, &access.peer)
                .context("the schema registry's client cannot be made; check SCHEMA_REGISTRY_CA_BUNDLE")?,
            base: base.trim_end_matches('/').to_owned(),
            login: access.login.clone(),
            schemas: Mutex::default(),
            flights: Mutex::default(),
            ids: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            quiet_until: Mutex::default(),
        })))
    }

    /// The writer schema with this id. Callers that ask for the same id at once share one request and its answer.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn writer_schema(&self, id: u32) -> Result<WriterSchema, RegistryError> {
        if let Some(known) = self.0.known(id) {
            return known;
        }
        self.flight(id).await
    }

    /// Whether the answer for this id is known.
    #[must_use]
    pub fn knows(&self, id: u32) -> bool {
        self.0.known(id).is_some()
    }

    /// Whether the registry answers, and its time when it tells it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn greet(&self) -> Result<Option<SystemTime>, RegistryError> {
        let response = self.0.ask(self.0.request(Method::GET, "/subjects")?).await;
        let date = response.as_ref().ok().and_then(|response| response.headers().get("date"));
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        read::<Vec<String>>(response)
            .await?
            .map(|_| date)
            .ok_or_else(|| RegistryError::Unavailable("it does not list its subjects".to_owned()))
    }

    /// The newest schema of a subject; `None` when the subject does not exist.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn latest(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let answer: Option<SchemaAnswer> = self.0.get(&format!("/subjects/{subject}/versions/latest")).await?;
        Ok(answer.map(|answer| answer.schema))
    }

    /// Whether the subject has this schema, or would take it as its next version.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn accepts(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        let ask = async |path: String| Ok(self.0.ask(self.0.schema_request(&path, schema)?).await);
        if read::<IdAnswer>(ask(format!("/subjects/{subject}")).await?).await?.is_some() {
            return Ok(true);
        }
        let response = ask(format!("/compatibility/subjects/{subject}/versions/latest")).await?;
        // A subject that does not exist takes any schema.
        Ok(read::<CompatibilityAnswer>(response).await?.is_none_or(|answer| answer.is_compatible))
    }

    /// The id of `schema` under `subject`, registering it when the registry does not have it yet.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let known = || lock(&self.0.ids).get(subject).copied();
        if let Some(id) = known() {
            return Ok(id);
        }
        let _flight = self.0.registering.lock().await;
        if let Some(id) = known() {
            return Ok(id);
        }
        if lock(&self.0.quiet_until).is_some_and(|until| Instant::now() < until) {
            return Err(RegistryError::Unavailable("it gave no answer a moment ago".to_owned()));
        }
        let registered = self.0.ask_for_id(subject, schema).await;
        *lock(&self.0.quiet_until) = registered.is_err().then(|| Instant::now() + QUIET);
        let id = registered?;
        lock(&self.0.ids).insert(subject.to_owned(), id);
        Ok(id)
    }

    /// The request for this id that is under way, or a new one.
    fn flight(&self, id: u32) -> Shared<Asking> {
        let mut flights = lock(&self.0.flights);
        if let Some(flight) = flights.get(&id).and_then(WeakShared::upgrade) {
            return flight;
        }
        let inner = Arc::clone(&self.0);
        let flight = async move {
            let found = inner.ask_for_schema(id).await;
            lock(&inner.flights).remove(&id);
            found
        };
        let flight = flight.boxed().shared();
        flights.retain(|_, flight| flight.upgrade().is_some());
        if let Some(weak) = flight.downgrade() {
            flights.insert(id, weak);
        }
        flight
    }
}

impl Inner {
    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, RegistryError> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        // Read for each request: it may have changed.
        let secret = |source: &SecretSource| source.read().map_err(RegistryError::Unavailable);
        Ok(match &self.login {
            RegistryLogin::None => request,
            RegistryLogin::Basic { username, password } => {
                request.basic_auth(username, Some(secret(password)?.expose()))
            }
            RegistryLogin::Bearer(token) => request.bearer_auth(secret(token)?.expose()),
        })
    }

    /// A request that carries a schema.
    fn schema_request(&self, path: &str, schema: &str) -> Result<RequestBuilder, RegistryError> {
        let request = self.request(Method::POST, path)?;
        let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
        Ok(request.json(&serde_json::json!({ "schema": schema })))
    }

    async fn ask(&self, request: RequestBuilder) -> reqwest::Result<reqwest::Response> {
        border("registry.ask", request.send()).await
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<Option<T>, RegistryError> {
        read(self.ask(self.request(Method::GET, path)?).await).await
    }

    async fn ask_for_schema(&self, id: u32) -> Found {
        let Some(SchemaAnswer { schema }) = self.get(&format!("/schemas/ids/{id}")).await? else {
            self.remember(id, Known::Nothing(Instant::now() + NOT_FOUND_HOLDS));
            return Err(RegistryError::NotFound(id));
        };
        let schema = WriterSchema::parse(&schema).map_err(|source| RegistryError::Unusable { id, source })?;
        self.remember(id, Known::Schema(schema.clone()));
        Ok(schema)
    }

    async fn ask_for_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let request = self.schema_request(&format!("/subjects/{subject}/versions"), schema)?;
        let answer: IdAnswer = read(border("registry.register", request.send()).await).await?.ok_or_else(|| {
            RegistryError::Unavailable(format!("subject {subject} is not served; check KAFKA_SCHEMA_REGISTRY_URL"))
        })?;
        Ok(answer.id)
    }

    fn known(&self, id: u32) -> Option<Found> {
        match lock(&self.schemas).get(&id)? {
            Known::Schema(schema) => Some(Ok(schema.clone())),
            Known::Nothing(until) => (Instant::now() < *until).then_some(Err(RegistryError::NotFound(id))),
        }
    }

    fn remember(&self, id: u32, known: Known) {
        let mut schemas = lock(&self.schemas);
        if schemas.len() >= MAX_CACHED {
            // A flood of unknown ids must not throw out the schemas in use.
            schemas.retain(|_, known| matches!(known, Known::Schema(_)));
            if schemas.len() >= MAX_CACHED {
                schemas.clear();
            }
        }
        schemas.insert(id, known);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
