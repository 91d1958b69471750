//! How the API server is called: requests and answers, and no word of what they are about.
//!
//! Calls go through kube's client, which knows kubeconfigs, credentials and TLS. Answers are read here: kube's own reading has
//! no bound, and drops the header that says when to come again.

use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::access::{Access, Connected};
use super::faults::{Error, Refusal};
use crate::external::Fault;

/// For a call and its answer, watches and logs excepted. A rule of the cluster is given 10 s for a call by default.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For credentials, and the wait for somebody who is at that already. With a call it fits in what the driver gives a step.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a connection that could not be made is not tried again: who waits for the same plugin is told the same.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// Most bytes of an answer, or of a line of a watch.
pub(super) const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Most bytes that are read of a refusal.
const MAX_REFUSAL: usize = 64 * 1024;

/// An API server, and who calls it.
pub(super) struct Api {
    access: Access,
    call_timeout: Duration,
    /// Held by whoever connects, for all that wait for it: a plugin for credentials may be slow.
    connection: Mutex<Connection>,
}

/// What connecting came to last.
#[derive(Default)]
enum Connection {
    #[default]
    Untried,
    Made(Connected),
    Failed(Fault, Instant),
}

impl Api {
    /// The API server that `access` leads to. It is not called before it is needed.
    pub(super) fn new(access: Access, call_timeout: Duration) -> Self {
        Self { access, call_timeout, connection: Mutex::default() }
    }

    /// A call that is answered by an object.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        request: http::Result<Request<Body>>,
    ) -> Result<T, Error> {
        // Before the call's own time: what was not called has begun nothing.
        let client = self.client().await?;
        let answer = async { read(self.open(client, request).await?.into_body(), MAX_ANSWER).await };
        let bytes = timeout(self.call_timeout, answer)
            .await
            .unwrap_or_else(|_| Err(Error::NoAnswer(Fault::no_answer(self.call_timeout))))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::malformed(&format!("{what}: {error}")))
    }

    /// A call that is answered piece by piece, the first when there is something to tell.
    pub(super) async fn stream(
        &self,
        path: String,
    ) -> Result<impl Stream<Item = Result<impl AsRef<[u8]>, Error>> + Unpin, Error> {
        let client = self.client().await?;
        Ok(pieces(self.open(client, get(path)).await?.into_body()))
    }

    /// A call whose answer is yes, and not read yet.
    async fn open(&self, client: Client, request: http::Result<Request<Body>>) -> Result<Response<Body>, Error> {
        let request = request.map_err(|error| {
            Error::NoAnswer(Fault::SetupRefused { cause: format!("no request can be made of this: {error}") })
        })?;
        let answer = client.send(request).await.map_err(|error| Error::of_call(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status == http::StatusCode::UNAUTHORIZED {
            // The next call reads the credentials that are there then; somebody may be at that already.
            if let Ok(mut connection) = self.connection.try_lock() {
                *connection = Connection::Untried;
            }
        }
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let words = read(answer.into_body(), MAX_REFUSAL).await?;
        Err(Error::Refused(Refusal::read(status.as_u16(), after.map(Duration::from_secs), &words)))
    }

    async fn client(&self) -> Result<Client, Error> {
        let late = |_| {
            let cause = format!("no credentials for the cluster within {} s", CONNECT_TIMEOUT.as_secs());
            Err(Fault::Unavailable { cause, after: None })
        };
        timeout(CONNECT_TIMEOUT, self.connect()).await.unwrap_or_else(late).map_err(Error::NoAnswer)
    }

    async fn connect(&self) -> Result<Client, Fault> {
        let mut connection = self.connection.lock().await;
        match &*connection {
            Connection::Made(made) if made.is_good() => return Ok(made.client.clone()),
            Connection::Failed(fault, at) if at.elapsed() < FAILED_FOR => return Err(fault.clone()),
            _ => {}
        }
        match self.access.connect().await {
            Ok(made) => {
                let client = made.client.clone();
                *connection = Connection::Made(made);
                Ok(client)
            }
            Err(fault) => {
                *connection = Connection::Failed(fault.clone(), Instant::now());
                Err(fault)
            }
        }
    }
}

pub(super) fn get(path: String) -> http::Result<Request<Body>> {
    Request::get(path).body(Body::empty())
}

pub(super) fn post(path: String, body: &impl Serialize) -> http::Result<Request<Body>> {
    // Plain data; what cannot be written down is refused by whoever gets it.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Body::from(body))
}

/// The bytes of an answer, as they come.
fn pieces(body: Body) -> impl Stream<Item = Result<impl AsRef<[u8]>, Error>> + Unpin {
    body.into_data_stream().map_err(|error| Error::of_call(&error))
}

async fn read(body: Body, most: usize) -> Result<Vec<u8>, Error> {
    let (mut pieces, mut read) = (pieces(body), Vec::new());
    while let Some(bytes) = pieces.try_next().await? {
        if read.len() + bytes.as_ref().len() > most {
            return Err(Error::TooLong(most));
        }
        read.extend_from_slice(bytes.as_ref());
    }
    Ok(read)
}
