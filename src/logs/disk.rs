//! A thread of its own for calls to a file system that may hang: however many logs there are, it holds up no more than this one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

/// Calls that wait. A log has one at a time, of a quarter of a mebibyte at most.
const MOST_WAITING: usize = 64;

type Call = Box<dyn FnOnce() + Send>;

/// Makes calls, one after the other. Clones share the thread, which ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    calls: mpsc::Sender<Call>,
    /// Since when the present call has gone on.
    since: Arc<Mutex<Option<Instant>>>,
    patience: Duration,
}

impl Disk {
    /// `patience` is how long a call takes at most as long as the file system answers.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new(patience: Duration) -> io::Result<Self> {
        let (calls, mut waiting) = mpsc::channel::<Call>(MOST_WAITING);
        let since = Arc::new(Mutex::new(None));
        let present = Arc::clone(&since);
        std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            while let Some(call) = waiting.blocking_recv() {
                *present.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                call();
                *present.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        })?;
        Ok(Self { calls, since, patience })
    }

    /// What the call answers. Once its turn may come it is made, also when nobody waits for that any more.
    ///
    /// # Errors
    /// Those of the call.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let call: Call = Box::new(move || {
            // Whoever asked may be gone.
            let _ = tell.send(call());
        });
        let ended = || io::Error::other("the thread that asks the file system has ended; restart the worker");
        self.calls.send(call).await.map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }

    /// As [`Disk::call`], for what may as well be left: refused while the file system does not answer, and given up when it does
    /// not answer to this.
    ///
    /// # Errors
    /// Those of the call, and [`io::ErrorKind::TimedOut`].
    pub(super) async fn try_call<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let silent = |time: Duration| {
            let text = format!("the file system has not answered for {} s", time.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = since.map(|since| since.elapsed()).filter(|time| *time > self.patience) {
            return Err(silent(time));
        }
        tokio::time::timeout(self.patience, self.call(call)).await.unwrap_or_else(|_| Err(silent(self.patience)))
    }
}
