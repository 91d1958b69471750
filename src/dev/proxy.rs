//! A fixed port in front of the embedded Kafka, whose brokers pick their own. Clients bootstrap here and are then told
//! the brokers' addresses.

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Forwards connections to `target` until stopped.
pub(super) async fn forward(listener: TcpListener, target: String, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((mut client, _)) = accepted else { continue };
        let (target, stop) = (target.clone(), stop.clone());
        tokio::spawn(async move {
            let Ok(mut broker) = TcpStream::connect(&target).await else { return };
            // Either side may end the connection at any time.
            let _ = stop.run_until_cancelled(tokio::io::copy_bidirectional(&mut client, &mut broker)).await;
        });
    }
}
