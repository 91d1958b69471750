//! The executor's protocol: typed parameters in, an [`Outcome`] out.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ticket_schemas::Ticket;
use ticket_workflows::{ExecutionReport, Outcome};
use tokio_util::sync::CancellationToken;

use crate::logs::Log;

/// How a provider lets work be recognised that was begun before a worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// A key derived from ticket and attempt finds it.
    Lookup,
    /// Creating it again with the same token is harmless.
    ClientToken,
    /// It cannot be recognised: after a lost worker the result says `external_state: unknown`.
    None,
}

/// Runs one kind of work on one provider.
///
/// An executor never publishes, never sleeps between retries and never decides about deadlines. It ends its work when
/// [`Job::stop`] is cancelled or [`Job::time_left`] is over, and then says whether the work has stopped. One whose work
/// outlives its worker is [`crate::external::External`], and leaves it alone when [`Job::detach`] is cancelled too.
///
/// Its failure of the class [`Unavailable`](ticket_workflows::FailureClass::Unavailable) without evidence and without an external
/// state says that nothing was begun, and lets another provider begin. An answer that was lost is no such failure: what may have
/// begun has an external state.
pub trait Executor: Send + Sync + 'static {
    /// The ticket's `parameters`, typed. Unknown ones are ignored.
    type Params: DeserializeOwned + Send;

    /// How its work can be recognised again.
    const RECOGNITION: Recognition;

    /// Whether its work runs outside of the worker and keeps to the protocol of [`crate::external`].
    const EXTERNAL: bool = false;

    /// Does the work.
    fn execute(&self, params: Self::Params, job: Job) -> impl Future<Output = Outcome> + Send;
}

/// One executor that stands in several places.
impl<E: Executor> Executor for Arc<E> {
    type Params = E::Params;

    const EXTERNAL: bool = E::EXTERNAL;
    const RECOGNITION: Recognition = E::RECOGNITION;

    async fn execute(&self, params: E::Params, job: Job) -> Outcome {
        E::execute(self, params, job).await
    }
}

/// One attempt, as an executor sees it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The ticket.
    pub ticket: Arc<Ticket>,
    /// The run of its workflow. A re-drive of the ticket is another run.
    pub run_id: String,
    /// Attempt as the workflow counts it, from 1.
    pub attempt: u32,
    /// Workers lost during this attempt: above zero, the work may have been begun before.
    pub lost_workers: u32,
    /// Time the work may take from now.
    pub time_left: Duration,
    /// What the lost worker's last heartbeat told of this attempt, as [`Progress`] had it; null when nothing is known.
    pub recorded: Value,
    /// Cancelled when the work must stop.
    pub stop: CancellationToken,
    /// Cancelled before [`Job::stop`] when nobody wants the work ended and only this worker cannot go on with it: it drains,
    /// or the server gave the attempt to another one.
    pub detach: CancellationToken,
    /// What the heartbeat tells the server, and the attempt's log.
    pub progress: Progress,
}

#[cfg(test)]
impl Job {
    /// A first attempt at a ticket, with a minute of time.
    pub(crate) fn first(ticket: Ticket) -> Self {
        Self {
            ticket: Arc::new(ticket),
            run_id: "run".to_owned(),
            attempt: 1,
            lost_workers: 0,
            time_left: Duration::from_secs(60),
            recorded: Value::Null,
            stop: CancellationToken::new(),
            detach: CancellationToken::new(),
            progress: Progress::default(),
        }
    }
}

/// What an attempt is doing and what it writes, for heartbeats. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    told: Arc<Mutex<Value>>,
    log: Log,
}

impl Progress {
    /// Of an attempt that writes to this log.
    #[must_use]
    pub fn of(log: Log) -> Self {
        Self { told: Arc::default(), log }
    }

    /// Replaces the progress; keep it small, it goes out every second.
    pub fn set(&self, progress: Value) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// The last progress set.
    #[must_use]
    pub fn get(&self) -> Value {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What takes the output of the work.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }
}

/// What an outcome reports, whatever it is.
pub(crate) fn report_of(outcome: &mut Outcome) -> &mut ExecutionReport {
    match outcome {
        Outcome::Completed(completed) => &mut completed.report,
        Outcome::Failed(failed) => &mut failed.report,
    }
}
