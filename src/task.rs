//! Waiting for tasks.

use tokio::task::{JoinError, JoinHandle};

/// The end of a task, once; afterwards, and where there is none, it never comes. Cancel-safe.
pub(crate) async fn once<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    let Some(handle) = task else { return std::future::pending().await };
    let ended = handle.await;
    *task = None;
    ended
}
