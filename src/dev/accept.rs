//! Connections of the stand-ins that speak gRPC.

use std::io;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Serves each connection until `stop`, which cuts all of them, as a crash would.
///
/// # Errors
/// When the listener breaks.
pub(super) async fn each<F>(
    listener: TcpListener,
    stop: CancellationToken,
    serve: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (connection, _) = accepted?;
        let (serving, stop) = (serve(connection), stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(serving).await });
    }
    Ok(())
}
