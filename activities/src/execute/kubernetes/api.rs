//! How the API server is called: requests and answers, and no word of what they are about.
//!
//! Calls go through kube's client, which knows kubeconfigs, credentials and TLS. Answers are read here: kube's own reading has
//! no bound, and drops the header that says when to come again.

use std::ops::Deref;
use std::time::Duration;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

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
/// How long bytes of a log are gathered. A node sends lines one by one, and whoever follows takes about a millisecond for what
/// they are given, however much it is.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// Bytes after which nothing more is gathered.
const GATHERED: usize = 64 * 1024;

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
    ) -> Result<impl Stream<Item = Result<impl Deref<Target = [u8]>, Error>> + Unpin, Error> {
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
fn pieces(body: Body) -> impl Stream<Item = Result<impl Deref<Target = [u8]>, Error>> + Unpin {
    body.into_data_stream().map_err(|error| Error::of_call(&error))
}

/// Hands on together what comes together.
pub(super) struct Gathering<S> {
    pieces: S,
    /// How they have ended, until that is told: after what came before.
    end: Option<Result<(), Error>>,
}

impl<S, P> Gathering<S>
where
    S: Stream<Item = Result<P, Error>> + Unpin,
    P: Deref<Target = [u8]>,
{
    pub(super) fn of(pieces: S) -> Self {
        Self { pieces, end: None }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The error that the pieces have ended with.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut gathered = Vec::new();
        let mut until = None;
        while self.end.is_none() && gathered.len() < GATHERED {
            let next = self.pieces.next();
            let next = match until {
                None => next.await,
                Some(until) => match timeout_at(until, next).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    gathered.extend_from_slice(&bytes);
                    until.get_or_insert_with(|| Instant::now() + GATHERED_FOR);
                }
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
        if gathered.is_empty() {
            return self.end.take().unwrap_or(Ok(())).map(|()| None);
        }
        Ok(Some(gathered))
    }
}

async fn read(body: Body, most: usize) -> Result<Vec<u8>, Error> {
    let (mut pieces, mut read) = (pieces(body), Vec::new());
    while let Some(bytes) = pieces.try_next().await? {
        if read.len() + bytes.len() > most {
            return Err(Error::TooLong(most));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    type Piece = Result<&'static [u8], Error>;

    async fn next(gathering: &mut Gathering<impl Stream<Item = Piece> + Unpin>) -> Option<String> {
        let bytes = gathering.next().await.expect("no error")?;
        Some(String::from_utf8(bytes).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_one_by_one_are_handed_on_together() {
        let slowly = stream::unfold(0, |sent| async move {
            let pause = Duration::from_millis(if matches!(sent, 1 | 4) { 1000 } else { 1 });
            tokio::time::sleep(pause).await;
            let piece = if sent == 0 { &b""[..] } else { b"line\n" };
            (sent < 6).then_some((Ok(piece), sent + 1))
        });
        let mut gathering = Gathering::of(Box::pin(slowly));
        assert_eq!(next(&mut gathering).await.as_deref(), Some("line\nline\nline\n"), "and none waits for the fourth");
        assert_eq!(next(&mut gathering).await.as_deref(), Some("line\nline\n"));
        assert_eq!(next(&mut gathering).await, None);
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_there_is_room_for_and_nothing_is_lost() {
        const LINES: usize = 100_000;
        let mut gathering = Gathering::of(stream::repeat_with(|| Ok(&b"a line of the log\n"[..])).take(LINES));
        let (mut read, mut times) = (0, 0);
        while let Some(lines) = next(&mut gathering).await {
            assert!(lines.len() < GATHERED + 100, "{}", lines.len());
            (read, times) = (read + lines.lines().count(), times + 1);
        }
        assert_eq!(read, LINES);
        assert!(times < 100, "each handing on is waited for: {times}");
    }

    #[tokio::test]
    async fn what_came_before_a_connection_broke_is_handed_on_first() {
        let broken = Err(Error::NoAnswer(Fault::Lost { cause: "reset".to_owned() }));
        let mut gathering = Gathering::of(stream::iter([Ok(&b"a\n"[..]), Ok(b"b"), broken]));
        assert_eq!(next(&mut gathering).await.as_deref(), Some("a\nb"));
        assert!(matches!(gathering.next().await, Err(Error::NoAnswer(_))));
    }
}
