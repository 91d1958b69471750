//! Code Forge without one to install. Its answers are the contract's samples, with ids of their own; it makes no code, and a
//! generation goes on until a test ends it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const TAKEN: &str = include_str!("../samples/http/code-forge/generate-202.json");
pub(crate) const COMPLETED: &str = include_str!("../samples/http/code-forge/generate-completed.json");
/// The request of the samples.
const SAMPLE_ID: &str = "1ace7ddd-6254-5e5c-a9ce-6d7b89a8129f";

/// Status and body.
pub(crate) type Said = (u16, String);

/// How a generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    Failed,
}

/// A Code Forge. Clones share what they know.
#[derive(Clone, Default)]
pub(crate) struct CodeForgeStandIn(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    /// By request.
    generations: BTreeMap<String, Option<Ending>>,
    /// Of generations that come.
    end: Option<Ending>,
    /// Bodies of requests that were taken.
    requests: Vec<Value>,
    looks: usize,
}

impl CodeForgeStandIn {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().expect("no test panics with it")
    }

    /// `POST /api/v1/generate`
    pub(crate) fn generate(&self, body: &[u8]) -> Said {
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return detail(422, "the body is not JSON");
        };
        for name in ["ticket_id", "template_id"] {
            if request[name].as_str().is_none_or(str::is_empty) {
                return detail(400, &format!("{name} is required"));
            }
        }
        let id = uuid::Uuid::new_v4().to_string();
        let mut store = self.store();
        let end = store.end;
        store.generations.insert(id.clone(), end);
        store.requests.push(request);
        (202, TAKEN.replace(SAMPLE_ID, &id))
    }

    /// `GET /api/v1/generate/{request_id}`
    pub(crate) fn generation(&self, id: &str) -> Said {
        let mut store = self.store();
        store.looks += 1;
        let Some(end) = store.generations.get(id) else { return detail(404, "Generation request not found") };
        let completed = COMPLETED.replace(SAMPLE_ID, id);
        if *end == Some(Ending::Completed) {
            return (200, completed);
        }
        let mut body: Value = serde_json::from_str(&completed).expect("the sample is JSON");
        body["status"] = json!(if end.is_some() { "failed" } else { "processing" });
        body["error"] = json!(end.map(|_| "the template cannot be rendered"));
        body["artifacts"] = json!([]);
        body["pipeline_id"] = Value::Null;
        (200, body.to_string())
    }

    /// All generations end so, those that come too.
    pub(crate) fn end_all(&self, ending: Ending) {
        let mut store = self.store();
        store.end = Some(ending);
        store.generations.values_mut().for_each(|end| *end = end.or(Some(ending)));
    }

    /// It has lost its memory.
    pub(crate) fn forget_all(&self) {
        self.store().generations.clear();
    }

    /// Bodies of the requests that were taken, oldest first.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.store().requests.clone()
    }

    /// How often each ticket has asked for a generation.
    pub(crate) fn creates(&self) -> BTreeMap<String, usize> {
        let mut creates = BTreeMap::new();
        for request in &self.store().requests {
            *creates.entry(request["ticket_id"].as_str().expect("checked").to_owned()).or_default() += 1;
        }
        creates
    }

    /// Ids of the requests whose generation goes on.
    pub(crate) fn running(&self) -> Vec<String> {
        self.store().generations.iter().filter(|(_, end)| end.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// How often anybody looked how a generation stands.
    pub(crate) fn looks(&self) -> usize {
        self.store().looks
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/health", get(async || respond((200, json!({ "status": "healthy" }).to_string()))))
            .route("/api/v1/generate", post(asked))
            .route("/api/v1/generate/{request_id}", get(looked))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

async fn asked(State(forge): State<CodeForgeStandIn>, body: Bytes) -> Response {
    respond(forge.generate(&body))
}

async fn looked(State(forge): State<CodeForgeStandIn>, Path(id): Path<String>) -> Response {
    respond(forge.generation(&id))
}

fn respond((status, body): Said) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn detail(status: u16, text: &str) -> Said {
    (status, json!({ "detail": text }).to_string())
}
