//! Reads the streams of a local command.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::border::border;
pub(super) use crate::execute::output::{Captured, Tail};

/// Reads `stream` to its end into `tail`; a read error ends it like its end.
pub(super) async fn drain(mut stream: impl AsyncRead + Unpin, tail: &std::sync::Mutex<Tail>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match border("command.output", stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => return,
            Ok(n) => tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(&buffer[..n]),
        }
    }
}
