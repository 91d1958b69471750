//! One attempt at external work, from its key to its outcome.

mod output;
mod words;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ticket_schemas::DeliveryMode;
use ticket_workflows::{Completed, ExternalState, Failed, FailureClass, Outcome};
use tokio::time::Instant;

use super::circuit::Leave;
use super::patience::Pauses;
use super::record::{self, Phase};
use super::{Endpoint, Fault, Key, Patience, Provider};
use crate::executor::{Job, Recognition};
use words::Before;

/// Most creates under one key, each after a look that found nothing.
const MAX_CREATES: u32 = 3;
/// Longer than any attempt, and short enough to be added to now.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An attempt.
pub(super) struct Run<'a, P: Provider> {
    provider: &'a P,
    endpoint: &'a Arc<Endpoint>,
    patience: &'a Patience,
    job: &'a Job,
    key: Key,
    limit: Duration,
    started: Instant,
}

/// Why an attempt ends before its work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    TimeOut,
    Stop,
    Detach,
}

/// What a watch came to.
enum Watched<E> {
    Ended(E),
    /// There is no such work, or it will never start.
    Lost(Fault),
    /// With the fault that the watch was last broken by, if it was not mended.
    Interrupted(Cause, Option<Fault>),
}

impl<'a, P: Provider> Run<'a, P> {
    pub(super) fn new(
        provider: &'a P,
        endpoint: &'a Arc<Endpoint>,
        patience: &'a Patience,
        job: &'a Job,
        limit: Duration,
    ) -> Self {
        let limit = limit.min(job.time_left).min(LONGEST);
        Self { provider, endpoint, patience, job, key: Key::of(job), limit, started: Instant::now() }
    }

    /// From the ticket's specification to its outcome. Work that may run only once, or whose end nobody else is told, is not begun
    /// again by anybody when nobody knows whether it runs: the result of another attempt would not say that it may have run twice.
    pub(super) async fn attempt(&self, spec: P::Spec) -> Outcome {
        let mut outcome = self.run(spec).await;
        let once = self.job.ticket.qos.as_ref().is_some_and(|qos| qos.delivery_mode == DeliveryMode::AtMostOnce);
        if let Outcome::Failed(failed) = &mut outcome
            && failed.external_state == Some(ExternalState::Unknown)
            && (once || P::ONE_CALL)
            && failed.class != FailureClass::Permanent
        {
            failed.class = FailureClass::Permanent;
            failed.report.logs.push("nobody knows whether the work runs, so there is no other attempt".to_owned());
        }
        self.redact(&mut outcome).await;
        outcome
    }

    async fn run(&self, mut spec: P::Spec) -> Outcome {
        let handle = match self.begin(&mut spec).await {
            Ok(handle) => handle,
            Err(outcome) => return outcome,
        };
        self.record(Phase::Watching, &handle);
        match self.followed(&handle, self.watch(&handle)).await {
            Watched::Ended(end) => self.finish(&spec, &handle, &end).await,
            Watched::Lost(fault) => self.lost(&spec, &handle, fault).await.into(),
            Watched::Interrupted(Cause::Detach, _) => self.leave(&spec, &handle).await,
            Watched::Interrupted(cause, fault) => self.end(&spec, &handle, cause, fault).await,
        }
    }

    /// The attempt's work: the one that a lost worker has created, or a new one.
    async fn begin(&self, spec: &mut P::Spec) -> Result<P::Handle, Outcome> {
        if let Some(handle) = record::handle(&self.job.recorded, P::NAME, &self.key) {
            tracing::info!(provider = P::NAME, key = %self.key, "attached to the work that a lost worker recorded");
            return Ok(handle);
        }
        if P::RECOGNITION == Recognition::None && record::is_recorded(&self.job.recorded) {
            return Err(self.unreadable().into());
        }
        if self.job.lost_workers > 0
            && P::RECOGNITION == Recognition::Lookup
            && let Some(handle) = self.find(spec, None).await?
        {
            tracing::info!(provider = P::NAME, key = %self.key, "attached to the work that was found under its key");
            return Ok(handle);
        }
        self.note(Phase::Preparing);
        if !P::ONE_CALL {
            let leave = self.unless_interrupted(Before::Waiting, self.enter()).await?;
            self.unless_interrupted(Before::Preparing, self.prepare(spec, leave)).await?;
        }
        self.create(spec).await
    }

    /// What comes before a create, if the attempt goes on so long.
    async fn unless_interrupted<T>(
        &self,
        before: Before,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Outcome> {
        tokio::select! {
            biased;
            cause = self.interrupted() => Err(self.never_began(cause, self.inherited_doubt(), before)),
            done = step => done.map_err(|fault| fault.into_failed(P::NAME, self.inherited_doubt()).into()),
        }
    }

    /// What is known of the work before this attempt creates any: what a lost worker may have created is found only by creating it
    /// again.
    fn inherited_doubt(&self) -> Option<ExternalState> {
        (P::RECOGNITION == Recognition::ClientToken && self.job.lost_workers > 0).then_some(ExternalState::Unknown)
    }

    /// Prepares what is created next. Only a fault of the endpoint says something of it: there may have been nothing to prepare,
    /// and a refusal may be this worker's own.
    async fn prepare(&self, spec: &mut P::Spec, leave: Option<Leave>) -> Result<(), Fault> {
        let prepared = self.endpoint.call(Box::pin(self.provider.prepare(spec))).await;
        if let Some(leave) = leave
            && prepared.as_ref().is_err_and(Fault::blames_endpoint)
        {
            self.endpoint.heard(leave, &prepared);
        }
        prepared
    }

    /// Leave and a turn for a call by which work begins. `None`: leave is not asked for, since what a lost worker may have created
    /// is found by creating it again.
    async fn enter(&self) -> Result<Option<Leave>, Fault> {
        if self.inherited_doubt().is_some() {
            self.turn().await;
            return Ok(None);
        }
        self.endpoint.enter(self.job.ticket.ticket_id.as_str(), self.time_left()).await.map(Some)
    }

    /// The work of the key, if there is any. Asks for as long as the attempt has time; one that is stopped meanwhile ends
    /// the work that it finds. `doubt`: what is known of a create without answer, which may still be carried out.
    async fn find(&self, spec: &P::Spec, doubt: Option<ExternalState>) -> Result<Option<P::Handle>, Outcome> {
        self.note(Phase::LookingUp);
        let look_up = || self.ask(Box::pin(self.provider.look_up(&self.key, spec)));
        let cause = tokio::select! {
            biased;
            cause = self.interrupted() => cause,
            found = self.persist(self.time_left(), look_up) => {
                return found.map_err(|fault| fault.into_failed(P::NAME, Some(ExternalState::Unknown)).into());
            }
        };
        if cause == Cause::Detach {
            return Err(self.detached());
        }
        // What ends work waits for no turn.
        let look_up = || self.call(Box::pin(self.provider.look_up(&self.key, spec)));
        match self.persist(self.patience.stop, look_up).await {
            Ok(Some(handle)) => Err(self.end(spec, &handle, cause, None).await),
            Ok(None) => Err(self.never_began(cause, doubt, Before::LookingUp)),
            Err(fault) => Err(self.interruption(cause, Some(ExternalState::Unknown), Some(&fault)).into()),
        }
    }

    /// Creates the work. A create whose answer is lost is not given up before it is known what became of it, for the next
    /// attempt has another key; nor is one that is under way dropped.
    async fn create(&self, spec: &P::Spec) -> Result<P::Handle, Outcome> {
        let mut pauses = Pauses::new(self.patience);
        let (mut doubt, mut creates) = (self.inherited_doubt(), 0);
        let before = if P::ONE_CALL { Before::Waiting } else { Before::Preparing };
        // A preparation may have taken long. Once there is a doubt, nobody is asked.
        let mut leave = self.unless_interrupted(before, self.enter()).await?;
        loop {
            if let Some(cause) = self.is_interrupted() {
                return Err(self.never_began(cause, doubt, before));
            }
            self.note(Phase::Creating);
            let created = self.call(Box::pin(self.provider.create(&self.key, spec))).await;
            let has_answered = created.as_ref().map_or(true, |handle| self.provider.has_answered(handle));
            if let Some(leave) = leave.take().filter(|_| has_answered) {
                self.endpoint.heard(leave, &created);
            }
            let fault = match created {
                Ok(handle) => return Ok(handle),
                Err(fault) => fault,
            };
            if !fault.is_ambiguous() {
                return Err(fault.into_failed(P::NAME, doubt).into());
            }
            tracing::warn!(provider = P::NAME, key = %self.key, %fault, "it is not known whether the work was created");
            doubt = Some(ExternalState::Unknown);
            match P::RECOGNITION {
                Recognition::None => return Err(self.doubtful(doubt, fault)),
                Recognition::ClientToken => {}
                Recognition::Lookup => {
                    if let Some(handle) = self.find(spec, doubt).await? {
                        return Ok(handle);
                    }
                }
            }
            creates += 1;
            if creates == MAX_CREATES {
                return Err(fault.into_failed(P::NAME, doubt).into());
            }
            let pause = pauses.next(fault.after());
            tokio::select! {
                _ = self.interrupted() => {}
                () = async {
                    tokio::time::sleep(pause).await;
                    self.turn().await;
                } => {}
            }
        }
    }

    /// Waits for the end of the work. While it is not told that, it asks again.
    async fn watch(&self, handle: &P::Handle) -> Watched<P::End> {
        let mut pauses = Pauses::new(self.patience);
        let mut last = None;
        loop {
            tokio::select! {
                biased;
                cause = self.interrupted() => return Watched::Interrupted(cause, last),
                () = self.turn() => {}
            }
            let begun = Instant::now();
            let watch = self.endpoint.call(Box::pin(self.provider.watch(handle)));
            let watched = tokio::select! {
                biased;
                cause = self.interrupted() => return Watched::Interrupted(cause, last),
                watched = tokio::time::timeout(self.patience.watch, watch) => watched,
            };
            let fault = match watched {
                Ok(Ok(end)) => return Watched::Ended(end),
                Ok(Err(fault)) if !fault.passes() => return Watched::Lost(fault),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    last = None;
                    continue;
                }
            };
            if begun.elapsed() > self.patience.longest_pause {
                pauses = Pauses::new(self.patience);
            }
            let pause = pauses.next(fault.after()).min(self.patience.watch);
            tracing::warn!(provider = P::NAME, key = %self.key, %fault, ?pause, "the work is watched again after a pause");
            last = Some(fault);
            tokio::select! {
                biased;
                cause = self.interrupted() => return Watched::Interrupted(cause, last),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Work that ended by itself: its output, and what its end means. Nobody's stop matters to it any more.
    async fn finish(&self, spec: &P::Spec, handle: &P::Handle, end: &P::End) -> Outcome {
        self.record(Phase::Collecting, handle);
        let Some((collected, followed)) = self.all_words(handle).await else { return self.detached() };
        let (output, fault) = self.output(handle, collected);
        let verdict = self.provider.verdict(handle, end, output.as_ref());
        let report = self.report(self.provider.report(spec, handle, Some(end), output), fault, followed);
        match verdict {
            Ok(evidence) => Outcome::Completed(Completed { evidence, report }),
            Err(failed) => Failed { report, ..failed }.into(),
        }
    }

    /// Hands the work back; what is one call only while it has no answer, which would be lost.
    async fn leave(&self, spec: &P::Spec, handle: &P::Handle) -> Outcome {
        if P::ONE_CALL
            && let Ok(Some(end)) = Box::pin(self.provider.stop(handle)).await
        {
            return self.finish(spec, handle, &end).await;
        }
        self.detached()
    }

    /// Ends the work, has that confirmed, and keeps what it had said until then. Work that is found to have ended by itself is
    /// finished.
    async fn end(&self, spec: &P::Spec, handle: &P::Handle, cause: Cause, fault: Option<Fault>) -> Outcome {
        let stopped = self.followed(handle, self.end_work(handle)).await;
        if let Ok(Some(end)) = &stopped {
            return self.finish(spec, handle, end).await;
        }
        let (collected, followed) = self.last_words(handle).await;
        let (output, missing) = self.output(handle, collected);
        let report = self.report(self.provider.report(spec, handle, None, output), missing, followed);
        let goes_on = matches!(stopped, Err(Fault::Unsupported { .. }));
        let (state, fault) = (state_after(&stopped), stopped.err().or(fault));
        let mut failed = Failed { report, ..self.interruption(cause, Some(state), fault.as_ref()) };
        if goes_on {
            // Another attempt would begin the same work beside it.
            failed.class = FailureClass::Permanent;
        }
        failed.into()
    }

    /// Stops the work; its end, if it had ended by itself. An error: nobody confirmed the stop.
    async fn end_work(&self, handle: &P::Handle) -> Result<Option<P::End>, Fault> {
        self.record(Phase::Stopping, handle);
        let stop = || self.endpoint.call(Box::pin(self.provider.stop(handle)));
        match self.persist(self.patience.stop, stop).await {
            Ok(end) => Ok(end),
            Err(Fault::Vanished { .. }) => Ok(None),
            Err(fault) => {
                tracing::warn!(provider = P::NAME, key = %self.key, %fault, "nobody confirmed that the work has stopped");
                Err(fault)
            }
        }
    }

    /// Work that is not there any more, or whose watch is refused for good: then it is stopped, whatever it does.
    async fn lost(&self, spec: &P::Spec, handle: &P::Handle, fault: Fault) -> Failed {
        let state = match fault {
            Fault::Vanished { .. } => ExternalState::Unknown,
            _ => state_after(&self.end_work(handle).await),
        };
        let kept = self.provider.kept(handle, &fault);
        let report = self.report(self.provider.report(spec, handle, None, kept), None, Ok(()));
        Failed { report, ..fault.into_failed(P::NAME, Some(state)) }
    }

    async fn interrupted(&self) -> Cause {
        tokio::select! {
            biased;
            () = self.job.stop.cancelled() => self.stopped(),
            () = tokio::time::sleep_until(self.started + self.limit) => Cause::TimeOut,
        }
    }

    fn is_interrupted(&self) -> Option<Cause> {
        if self.job.stop.is_cancelled() {
            return Some(self.stopped());
        }
        self.time_left().is_zero().then_some(Cause::TimeOut)
    }

    /// Whether the end of the work is left to the next worker.
    fn leaves_it(cause: Cause) -> bool {
        cause == Cause::Detach && !P::ONE_CALL
    }

    /// Whoever cancels both cancels `detach` first.
    fn stopped(&self) -> Cause {
        if self.job.detach.is_cancelled() { Cause::Detach } else { Cause::Stop }
    }

    fn time_left(&self) -> Duration {
        self.limit.saturating_sub(self.started.elapsed())
    }

    /// A call about work that has begun, or may have, in its turn.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.turn().await;
        self.call(call).await
    }

    /// A turn for work that has begun, or may have: what becomes of that is not left unseen for long, whatever the rate. Of work that
    /// is one call nothing is called any more.
    async fn turn(&self) {
        if !P::ONE_CALL {
            self.endpoint.turn(self.patience.longest_pause).await;
        }
    }

    /// A call that has its time.
    async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.endpoint.call_within(self.patience.call, call).await
    }

    /// Makes a call until it is answered, cannot be answered, or no time is left: then the last fault.
    async fn persist<T, C>(&self, longest: Duration, call: impl Fn() -> C) -> Result<T, Fault>
    where
        C: Future<Output = Result<T, Fault>>,
    {
        let until = Instant::now() + longest;
        let (mut pauses, mut last) = (Pauses::new(self.patience), None);
        loop {
            let fault = match tokio::time::timeout_at(until, call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => fault,
                // What was heard before says more than that the time is over.
                Err(_) => return Err(last.unwrap_or_else(|| Fault::no_answer(longest))),
            };
            let pause = pauses.next(fault.after());
            if !fault.passes() || Instant::now() + pause >= until {
                return Err(fault);
            }
            tracing::debug!(provider = P::NAME, key = %self.key, %fault, ?pause, "asked again after a pause");
            last = Some(fault);
            tokio::time::sleep(pause).await;
        }
    }

    fn note(&self, at: Phase) {
        self.job.progress.set(record::phase(P::NAME, &self.key, at));
    }

    fn record(&self, at: Phase, handle: &P::Handle) {
        // A handle that cannot be written down is found by its key, or by nobody.
        let handle = serde_json::to_value(handle).unwrap_or(Value::Null);
        self.job.progress.set(record::work(P::NAME, &self.key, at, &handle));
    }
}

fn state_after<E>(stopped: &Result<Option<E>, Fault>) -> ExternalState {
    if stopped.is_ok() { ExternalState::ConfirmedStopped } else { ExternalState::Unknown }
}
