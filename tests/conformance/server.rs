//! An HTTP server in front of a fake, which loses, delays, cuts and replaces answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::candidate::{Peer, Step};

/// Longest that a fake needs to hear of a request.
const HEARD: Duration = Duration::from_millis(50);

/// A request, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        let body = body.to_string().into_bytes();
        Self { status, content_type: "application/json", headers: Vec::new(), body }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, content_type: "text/plain", headers: Vec::new(), body: Vec::new() }
    }

    fn html(status: u16) -> Self {
        let body = b"<html><head><title>Bad Gateway</title></head><body>nginx</body></html>".to_vec();
        Self { status, content_type: "text/html", headers: Vec::new(), body }
    }
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Damage {
    /// The connection is reset.
    Reset,
    /// Another answer: this status, an error in the API's words.
    Status(u16),
    /// 429 with this `Retry-After`, in seconds.
    Throttled(u64),
    /// A proxy's page with this status.
    Html(u16),
    /// The head, and half of the body.
    Truncated,
    /// It comes after this time.
    Slow(Duration),
    /// It never comes, and the connection stays.
    Never,
}

/// Whether the fake hears of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    No,
    Yes,
}

#[derive(Default)]
struct State {
    script: BTreeMap<Step, VecDeque<(Heard, Damage)>>,
    /// Requests whose fault has come into effect, by step.
    damaged: BTreeMap<Step, usize>,
    seen: BTreeMap<Step, usize>,
}

/// The server of one test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) async fn start(peer: Arc<dyn Peer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(serve(stream, Arc::clone(&peer), Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, _accepting: AbortOnDropHandle::new(accepting) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// The next request of this step meets with this.
    pub(crate) fn script(&self, step: Step, heard: Heard, damage: Damage) {
        self.state().script.entry(step).or_default().push_back((heard, damage));
    }

    /// Requests of this step whose fault has come into effect.
    pub(crate) fn damaged(&self, step: Step) -> usize {
        self.state().damaged.get(&step).copied().unwrap_or_default()
    }

    /// Requests of this step.
    pub(crate) fn seen(&self, step: Step) -> usize {
        self.state().seen.get(&step).copied().unwrap_or_default()
    }
}

/// One request, one connection.
async fn serve(mut stream: TcpStream, peer: Arc<dyn Peer>, state: Arc<Mutex<State>>) {
    let Some(request) = read(&mut stream).await else { return };
    let step = peer.step(&request);
    let scripted = step.and_then(|step| {
        let mut state = state.lock().expect("no test panics with it");
        *state.seen.entry(step).or_default() += 1;
        state.script.get_mut(&step).and_then(VecDeque::pop_front)
    });
    let Some((heard, damage)) = scripted else {
        let answer = Arc::clone(&peer).answer(request).await;
        return write(&mut stream, &answer, usize::MAX).await;
    };
    let answer = match heard {
        // One that never comes may be one that takes as long as the work: that it is heard is enough.
        Heard::Yes if damage == Damage::Never => {
            let _ = tokio::time::timeout(HEARD, tokio::spawn(Arc::clone(&peer).answer(request))).await;
            None
        }
        Heard::Yes => Some(Arc::clone(&peer).answer(request).await),
        Heard::No => None,
    };
    if let Some(step) = step {
        *state.lock().expect("no test panics with it").damaged.entry(step).or_default() += 1;
    }
    match damage {
        Damage::Reset => stream.set_zero_linger().expect("a socket"),
        Damage::Status(status) => write(&mut stream, &peer.error(status), usize::MAX).await,
        Damage::Throttled(seconds) => {
            let mut answer = Answer::json(429, &serde_json::json!({ "message": "too many requests" }));
            answer.headers.push(("Retry-After", seconds.to_string()));
            write(&mut stream, &answer, usize::MAX).await;
        }
        Damage::Html(status) => write(&mut stream, &Answer::html(status), usize::MAX).await,
        Damage::Truncated => {
            let answer = answer.unwrap_or_else(|| Answer::json(200, &serde_json::json!({ "Id": "0123456789" })));
            let half = answer.body.len() / 2;
            write(&mut stream, &answer, half).await;
        }
        Damage::Slow(time) => {
            tokio::time::sleep(time).await;
            // Nobody may listen any more.
            if let Some(answer) = answer {
                write(&mut stream, &answer, usize::MAX).await;
            }
        }
        Damage::Never => std::future::pending().await,
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse::<usize>().expect("a length"));
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let url = reqwest::Url::parse(&format!("http://fake{target}")).expect("a target");
    Some(Request {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        body: bytes[head_end..].to_vec(),
    })
}

/// Writes the head, and so much of the body; then the connection is over.
async fn write(stream: &mut TcpStream, answer: &Answer, most: usize) {
    let mut head = format!(
        "HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = &answer.body[..answer.body.len().min(most)];
    // Whoever asked may be gone; that is what these tests are about.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.shutdown().await;
}
