//! Connections: how many, how long, how slow. A client that sends or reads slowly, or nothing at all, holds a place for a
//! bounded time, and no client holds all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::svids::Proved;
use crate::spiffe::{WorkloadIdentity, spiffe_id};

/// Connections at once.
const MOST: usize = 256;
/// Connections at once from one address.
const MOST_OF_ONE: usize = 64;
/// From the connection's beginning to the first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// What a connection begins with that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;
/// From there to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the end of one request, or from the first byte, to the end of the next one's headers.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes, and most headers.
const MOST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// A connection's life; after it the client opens another.
const LIFE: Duration = Duration::from_secs(60);
/// What a request under way gets after that, or when the worker ends.
const LAST_REQUEST: Duration = Duration::from_secs(12);
/// How long connections get when the worker ends.
const PARTING: Duration = Duration::from_secs(2);

/// Where a request comes from: in its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves until stopped, then for two seconds what is under way. With an `identity` that has an X.509-SVID, connections that
/// begin as TLS does are mutually authenticated; the others are plain.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    identity: Option<Arc<WorkloadIdentity>>,
    stop: CancellationToken,
) {
    let (places, guests) = (Arc::new(Semaphore::new(MOST)), Guests::default());
    let conversations = TaskTracker::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let Some((place, accepted)) = stop.run_until_cancelled(next).await else { break };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(guest) = guests.come(peer.ip()) {
                    let (router, identity, stop) = (router.clone(), identity.clone(), stop.clone());
                    conversations.spawn(async move {
                        converse(stream, router, identity.as_deref(), guest.peer, stop).await;
                        drop((place, guest));
                    });
                }
            }
            Err(error) => {
                // Out of file descriptors, or a client that went again: the listener itself does not break.
                tracing::warn!(%error, "http_accept_failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    conversations.close();
    let _ = timeout(PARTING, conversations.wait()).await;
}

/// One connection, to its end.
async fn converse(
    stream: TcpStream,
    router: Router,
    identity: Option<&WorkloadIdentity>,
    peer: IpAddr,
    stop: CancellationToken,
) {
    // Whoever connects has something to ask.
    let mut byte = [0];
    let speaks = timeout(FIRST_BYTE, stream.peek(&mut byte));
    if !matches!(stop.run_until_cancelled(speaks).await, Some(Ok(Ok(1..)))) {
        return;
    }
    let Some(identity) = identity.filter(|_| byte[0] == TLS_HANDSHAKE) else {
        return answer(stream, router, peer, None, stop).await;
    };
    match stop.run_until_cancelled(timeout(HANDSHAKE, shake_hands(stream, identity))).await {
        Some(Ok(Ok((stream, caller)))) => answer(stream, router, peer, Some(Proved(caller)), stop).await,
        Some(Ok(Err(reason))) => tracing::debug!(reason, %peer, "http_caller_not_trusted"),
        Some(Err(_)) | None => {}
    }
}

/// Mutual TLS: the connection, and who its caller has proved to be.
async fn shake_hands(
    stream: TcpStream,
    identity: &WorkloadIdentity,
) -> Result<(TlsStream<TcpStream>, SpiffeId), String> {
    let tls = identity.server_tls().map_err(|error| error.to_string())?;
    let stream = TlsAcceptor::from(tls).accept(stream).await.map_err(|error| error.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = certificate.and_then(spiffe_id).ok_or("its certificate has no SPIFFE id")?;
    Ok((stream, caller))
}

/// Answers the requests of a connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    peer: IpAddr,
    caller: Option<Proved>,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if let Some(caller) = caller.clone() {
            request.extensions_mut().insert(caller);
        }
        router.clone().oneshot(request.map(Body::new))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MOST_HEAD)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = sleep(LIFE) => {} } } => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_REQUEST, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "http_connection_ended");
    }
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts, until it is dropped.
struct Guest {
    guests: Guests,
    peer: IpAddr,
}

impl Guests {
    /// `None`: this address has enough of them.
    fn come(&self, peer: IpAddr) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Guest { guests: self.clone(), peer })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const LARGE: usize = 64 * 1024 * 1024;

    /// A port that answers `ok`, and 64 MiB at `/large`.
    async fn port(stop: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/large", get(async || vec![b'x'; LARGE]))
            .route("/slow", get(async || sleep(Duration::from_secs(1)).await));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        (address, tokio::spawn(serve(listener, router, None, stop.clone())))
    }

    /// A connection from an address of its own.
    async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind((Ipv4Addr::from(from), 0).into()).expect("bound");
        socket.connect(to).await.expect("connected")
    }

    /// What comes until the other side closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn an_address_with_too_many_connections_gets_no_more_and_another_one_is_served() {
        let stop = CancellationToken::new();
        let (address, _serving) = port(&stop).await;
        let mut idle = Vec::new();
        for _ in 0..MOST_OF_ONE {
            idle.push(connect([127, 0, 0, 2], address).await);
        }
        let mut one_more = connect([127, 0, 0, 2], address).await;
        let _ = one_more.write_all(REQUEST).await;
        assert_eq!(rest(one_more).await, "");
        let mut other = connect([127, 0, 0, 3], address).await;
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        assert!(rest(other).await.ends_with("ok"));
        // A place that is left is another's.
        drop(idle);
        let served = async {
            loop {
                let mut again = connect([127, 0, 0, 2], address).await;
                let _ = again.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
                if rest(again).await.ends_with("ok") {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(10), served).await.expect("served again");
    }

    #[tokio::test]
    async fn a_port_without_a_place_leaves_the_other_port_its_own() {
        let stop = CancellationToken::new();
        let ((crowded, _serving), (other, _serving_other)) = (port(&stop).await, port(&stop).await);
        let mut idle = Vec::new();
        for at in 0..MOST {
            let from = [127, 0, 1, u8::try_from(at / MOST_OF_ONE).expect("few addresses")];
            idle.push(connect(from, crowded).await);
        }
        let ask = async |port: SocketAddr| {
            let mut stream = connect([127, 0, 0, 2], port).await;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
            timeout(FIRST_BYTE / 5, rest(stream)).await.ok()
        };
        assert_eq!(ask(crowded).await, None);
        assert!(ask(other).await.is_some_and(|answer| answer.ends_with("ok")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_and_an_answer_that_is_not_read_end_the_connection() {
        let stop = CancellationToken::new();
        let (address, _serving) = port(&stop).await;
        let begun = Instant::now();
        let mut slow = connect([127, 0, 0, 1], address).await;
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("sent");
        let _ = rest(slow).await;
        assert!(begun.elapsed() <= HEAD_TIME + Duration::from_secs(1), "{:?}", begun.elapsed());

        let mut deaf = connect([127, 0, 0, 1], address).await;
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        sleep(LIFE + LAST_REQUEST + Duration::from_secs(1)).await;
        assert!(rest(deaf).await.len() < LARGE, "the connection was given up before all was read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_is_ended_sooner() {
        let stop = CancellationToken::new();
        let (address, _serving) = port(&stop).await;
        let begun = Instant::now();
        assert_eq!(rest(connect([127, 0, 0, 1], address).await).await, "");
        assert!(begun.elapsed() <= FIRST_BYTE + Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let stop = CancellationToken::new();
        let (address, _serving) = port(&stop).await;
        for head in [
            format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(MOST_HEAD)),
            format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(MOST_HEADERS + 1)),
        ] {
            let mut stream = connect([127, 0, 0, 1], address).await;
            let _ = stream.write_all(head.as_bytes()).await;
            assert!(rest(stream).await.starts_with("HTTP/1.1 431"));
        }
    }

    #[tokio::test]
    async fn what_is_under_way_is_answered_when_the_worker_ends_and_idle_connections_do_not_hold_it() {
        let stop = CancellationToken::new();
        let (address, serving) = port(&stop).await;
        let _idle = connect([127, 0, 0, 1], address).await;
        let mut asking = connect([127, 0, 0, 1], address).await;
        asking.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        sleep(Duration::from_millis(300)).await;
        stop.cancel();
        assert!(rest(asking).await.starts_with("HTTP/1.1 200"));
        timeout(PARTING + Duration::from_secs(1), serving).await.expect("it ends").expect("without a panic");
    }
}
