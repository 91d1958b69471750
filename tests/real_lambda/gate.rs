//! A way to the stand-in that holds its answers back: its functions take no time, and those of these tests are to be under way.

use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Passes on what is asked. What is answered waits for [`Gate::open`].
pub(crate) struct Gate {
    /// `http://127.0.0.1:1234`
    pub(crate) url: String,
    is_open: watch::Sender<bool>,
    _accepting: AbortOnDropHandle<()>,
}

impl Gate {
    /// A closed gate to the server at `address` (`127.0.0.1:1234`).
    pub(crate) async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (is_open, address) = (watch::Sender::new(false), address.to_owned());
        let opened = is_open.subscribe();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(&address).await.expect("the stand-in");
                tokio::spawn(pass(client, server, opened.clone()));
            }
        });
        Self { url, is_open, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Lets answers through: those that wait, and all that come.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

/// Whoever hangs up, both ends do.
async fn pass(client: TcpStream, server: TcpStream, mut opened: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
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
