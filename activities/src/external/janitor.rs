//! Removes external work whose ticket has ended. Nothing else removes any: a worker that is lost after a removal and before
//! its answer would leave the next one nothing to recognise, and the work would be done twice.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, Fault, Provider};

/// After an attempt has ended here: when its ticket has usually been reported, and when it has after a slow report.
const AFTER_AN_END: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];

/// For one call to the provider; a sweep that hangs at one piece of work would never come to the others.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Who knows which runs of tickets have ended.
pub trait Runs: Send + Sync + 'static {
    /// Whether this run has ended. `false` also when nobody knows it: the work may be another installation's.
    ///
    /// # Errors
    /// A sentence, when the question has no answer now. It is asked again later.
    fn has_ended<'a>(&'a self, ticket_id: &'a str, run_id: &'a str) -> BoxFuture<'a, Result<bool, String>>;
}

/// Sweeps one provider.
pub struct Janitor<P> {
    provider: Arc<P>,
    endpoint: Arc<Endpoint>,
    runs: Arc<dyn Runs>,
    attempt_ended: Arc<Notify>,
    interval: Duration,
}

impl<P: Provider> Janitor<P> {
    pub(super) fn new(
        provider: Arc<P>,
        endpoint: Arc<Endpoint>,
        runs: Arc<dyn Runs>,
        attempt_ended: Arc<Notify>,
        interval: Duration,
    ) -> Self {
        Self { provider, endpoint, runs, attempt_ended, interval }
    }

    /// Sweeps at once, soon after each attempt that ends here, and every interval, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pauses = [].iter();
        loop {
            match stop.run_until_cancelled(self.sweep()).await {
                None => return,
                Some(Ok(0)) => {}
                Some(Ok(removed)) => tracing::info!(provider = P::NAME, removed, "work of ended tickets was removed"),
                Some(Err(fault)) => {
                    tracing::warn!(provider = P::NAME, %fault, "work of ended tickets is looked for again later");
                    let told = tokio::time::sleep(fault.after().unwrap_or_default());
                    if stop.run_until_cancelled(told).await.is_none() {
                        return;
                    }
                }
            }
            let pause = pauses.next().copied().unwrap_or(self.interval).min(self.interval);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.attempt_ended.notified() => {
                    pauses = AFTER_AN_END.iter();
                    let pause = pauses.next().copied().unwrap_or(self.interval).min(self.interval);
                    if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Removes what can be removed now; how much that was. It ends what still runs, and so waits for no turn.
    ///
    /// # Errors
    /// When the provider does not say what is there, or wants to be asked later: then nothing more is asked. What cannot be removed
    /// otherwise is logged, and left for the next sweep.
    pub async fn sweep(&self) -> Result<usize, Fault> {
        let mut removed = 0;
        for leftover in self.call(Box::pin(self.provider.leftovers())).await? {
            let (ticket_id, run_id) = (leftover.ticket_id.as_str(), leftover.run_id.as_str());
            match self.runs.has_ended(ticket_id, run_id).await {
                Ok(false) => {}
                Ok(true) => match self.call(Box::pin(self.provider.clean_up(&leftover.handle))).await {
                    Ok(()) | Err(Fault::Vanished { .. }) => removed += 1,
                    Err(fault) if fault.after().is_some() => return Err(fault),
                    Err(fault) => {
                        tracing::warn!(provider = P::NAME, ticket_id, %fault, "work of an ended ticket was not removed");
                    }
                },
                Err(error) => tracing::warn!(ticket_id, error, "whether the ticket has ended is not known"),
            }
        }
        Ok(removed)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.endpoint.call_within(CALL_TIMEOUT, call).await
    }
}
