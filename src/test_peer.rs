//! What tests share: an HTTP service whose answer a test decides, to the byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A service that gives every connection the same bytes and hangs up, and what it was asked.
pub(crate) struct Peer {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Closed,
    Reset,
}

impl Peer {
    pub(crate) async fn answering(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}");
        Self::saying(answer, End::Closed).await
    }

    /// Says this, whatever it is.
    pub(crate) async fn saying(answer: String, end: End) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = String::new();
                while !is_whole(&request) {
                    let mut piece = [0; 4096];
                    let read = stream.read(&mut piece).await.expect("a request");
                    assert!(read > 0, "the request ends early: {request}");
                    request.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
                }
                heard.lock().expect("lock").push(request);
                // Who has heard enough hangs up.
                let _ = stream.write_all(answer.as_bytes()).await;
                if end == End::Reset {
                    stream.set_zero_linger().expect("a socket");
                }
            }
        });
        Self { address, asked }
    }

    /// What it was asked until now, a text for each request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
