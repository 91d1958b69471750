//! A way to the stand-in that holds its answers back: its functions take no time, and those of these tests are to be under way. It
//! remembers what was asked for, which the stand-in's log does not tell.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Passes on what is asked. What is answered waits for [`Gate::open`].
pub(crate) struct Gate {
    /// `http://127.0.0.1:1234`
    pub(crate) url: String,
    is_open: watch::Sender<bool>,
    asked: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Gate {
    /// A closed gate to the server at `address` (`127.0.0.1:1234`).
    pub(crate) async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (is_open, address) = (watch::Sender::new(false), address.to_owned());
        let opened = is_open.subscribe();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(&address).await.expect("the stand-in");
                tokio::spawn(pass(client, server, opened.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, is_open, asked, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Lets answers through: those that wait, and all that come.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// The types of the invocations that were asked for, in their order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

/// The head of a request, and what came with it.
async fn head(client: &mut OwnedReadHalf) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    bytes
}

/// The type of the invocation that a request asks for.
fn invocation_type(request: &[u8]) -> Option<String> {
    let request = String::from_utf8_lossy(request);
    let mut headers = request.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(name, _)| name.eq_ignore_ascii_case("x-amz-invocation-type")).map(|(_, value)| value.to_owned())
}

/// One request, one connection. Whoever hangs up, both ends do.
async fn pass(client: TcpStream, server: TcpStream, mut opened: watch::Receiver<bool>, asked: Arc<Mutex<Vec<String>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        let head = head(&mut from_client).await;
        asked.lock().expect("no test panics with it").extend(invocation_type(&head));
        let _ = to_server.write_all(&head).await;
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
        std::future::pending::<()>().await;
    };
    let answering = async {
        let _ = opened.wait_for(|open| *open).await;
        let _ = copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
