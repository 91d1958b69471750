//! What the work of an attempt writes: followed while it runs, collected at its end, and in the result.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use ticket_workflows::{ExecutionReport, Outcome};
use tokio::time::Instant;

use super::Run;
use crate::executor::report_of;
use crate::external::patience::Pauses;
use crate::external::{Fault, Provider};

/// Longest pause before output is followed again that was read to its present end: its last line is no older when it is seen.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

impl<P: Provider> Run<'_, P> {
    /// Does `work`; what the handle's work writes meanwhile is followed.
    pub(super) async fn followed<T>(&self, handle: &P::Handle, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.follow(handle) => match never {},
        }
    }

    /// Follows what the work writes, for as long as it is polled. A connection that has said nothing for long is made anew: it may
    /// have died.
    async fn follow(&self, handle: &P::Handle) -> Infallible {
        let log = self.job.progress.log();
        let lines = || log.last_seq();
        let mut pauses = Pauses::new(self.patience);
        loop {
            let (begun, before) = (Instant::now(), lines());
            let mut seen = before;
            let mut following = pin!(self.read_log(handle));
            let followed = loop {
                let followed = tokio::time::timeout(self.patience.watch, following.as_mut()).await;
                match followed {
                    Err(_) if lines() != seen => seen = lines(),
                    followed => break followed.unwrap_or(Ok(())),
                }
            };
            if begun.elapsed() > self.patience.longest_pause || lines() != before {
                pauses = Pauses::new(self.patience);
            }
            let pause = match followed {
                Ok(()) => pauses.next(None).min(FOLLOW_AGAIN),
                Err(fault) => {
                    tracing::debug!(provider = P::NAME, key = %self.key, %fault, "the output is followed again after a pause");
                    pauses.next(fault.after())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The output of work that nobody waits for any more, and the end of its log.
    pub(super) async fn last_words(&self, handle: &P::Handle) -> (Result<P::Output, Fault>, Result<(), Fault>) {
        let longest = self.patience.last_words;
        tokio::join!(
            self.persist(longest, || self.call(Box::pin(self.provider.collect(handle)))),
            self.persist(longest, || self.read_log(handle))
        )
    }

    /// The output of work that has ended, and the end of its log. Whatever keeps the output away is waited for; the log, which nothing
    /// rests on, is not waited for much longer than that. `None`: this worker goes away, and the next one sees to it.
    pub(super) async fn all_words(&self, handle: &P::Handle) -> Option<(Result<P::Output, Fault>, Result<(), Fault>)> {
        let collect = || self.ask(Box::pin(self.provider.collect(handle)));
        let collected = tokio::select! {
            biased;
            cause = self.interrupted() => {
                return if Self::leaves_it(cause) { None } else { Some(self.last_words(handle).await) };
            }
            collected = self.persist(self.time_left(), collect) => collected,
        };
        let read_log = || self.read_log(handle);
        let followed = tokio::select! {
            biased;
            cause = self.interrupted() => {
                if Self::leaves_it(cause) {
                    return None;
                }
                self.persist(self.patience.last_words, read_log).await
            }
            followed = self.persist(self.time_left().min(self.patience.call), read_log) => followed,
        };
        Some((collected, followed))
    }

    /// Reads what the work writes. It waits for no turn: for as long as the work runs, one call is to read all of it.
    async fn read_log(&self, handle: &P::Handle) -> Result<(), Fault> {
        self.endpoint.call(Box::pin(self.provider.follow(handle, self.job.progress.log()))).await
    }

    /// The output, or what the provider had of it before; or why there is none.
    pub(super) fn output(
        &self,
        handle: &P::Handle,
        collected: Result<P::Output, Fault>,
    ) -> (Option<P::Output>, Option<Fault>) {
        match collected {
            Ok(output) => (Some(output), None),
            Err(fault) => match self.provider.kept(handle, &fault) {
                Some(kept) => (Some(kept), None),
                None => (None, Some(fault)),
            },
        }
    }

    pub(super) fn report(
        &self,
        mut report: ExecutionReport,
        missing: Option<Fault>,
        followed: Result<(), Fault>,
    ) -> ExecutionReport {
        report.metadata.insert("simulated".to_owned(), json!(false));
        let millis = self.started.elapsed().as_millis() as f64;
        report.metadata.insert("duration_seconds".to_owned(), json!(millis / 1000.0));
        if let Some(fault) = missing {
            report.metadata.insert("output_missing".to_owned(), json!(true));
            report.logs.push(format!("the output could not be read: {fault}"));
        }
        if let Err(fault) = followed {
            self.job.progress.log().lacks(format!("the output was not read to its end: {fault}"));
            report.logs.push(format!("the log was not read to its end: {fault}"));
        }
        report
    }

    /// Whatever a provider makes of the output, the worker's secrets are not in it.
    pub(super) async fn redact(&self, outcome: &mut Outcome) {
        let redactor = self.job.progress.log().result_redactor().await;
        if let Outcome::Failed(failed) = outcome {
            redactor.clean(&mut failed.message);
        }
        report_of(outcome).output.values_mut().for_each(|value| redactor.clean_value(value));
    }
}
