//! One attempt: find the executor, run it under heartbeats, tell a stop from a shutdown.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::Value;
use temporalio_common::error::ApplicationFailure;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use ticket_schemas::{DeliveryMode, ParameterView, Ticket};
use ticket_workflows::{ExecuteRequest, ExecuteResponse, ExternalState, Failed, FailureClass, Outcome, code};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::now_ms;
use crate::executor::{Job, Progress, Recognition, report_of};
use crate::external::is_recorded;
use crate::fallback::{self, Fallback, Told};
use crate::ports::{AttemptEnd, LogName, ProviderChange};
use crate::registry::{Choice, Choices, ErasedExecutor};
use crate::stop::stop_is_wanted;
use crate::ticket_activities::Activities;
use crate::ticket_service::Running;
use crate::trace;

/// Workers that one attempt may lose, roll-outs included. Work that ends its worker each time (it runs as the same user)
/// would otherwise take down one worker after the other for as long as its deadline is away.
const MAX_LOST_WORKERS: u32 = 20;
/// Why the provider that a ticket asks for is passed over.
const NOT_HERE: &str = "it is not available on this worker";
/// How often a running attempt tells the server that it lives; a cancel request arrives on the answer.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

impl Activities {
    pub(crate) async fn attempt(
        &self,
        ctx: ActivityContext,
        request: ExecuteRequest,
    ) -> Result<ExecuteResponse, ActivityError> {
        let (started, started_at_ms) = (Instant::now(), now_ms());
        let lost_workers = ctx.info().attempt.saturating_sub(1);
        let ticket = Arc::new(request.ticket);
        let task_type = ticket.task_type.as_str();
        self.0.observer.attempt_started(ticket.ticket_id.as_str(), task_type, request.attempt);

        let time_left = time_left(request.timeout_ms, request.deadline_ms, started_at_ms);
        let job = Job {
            ticket: Arc::clone(&ticket),
            run_id: ctx.info().workflow_run_id.clone().unwrap_or_default(),
            attempt: request.attempt,
            lost_workers,
            time_left,
            recorded: Value::Null,
            stop: CancellationToken::new(),
            detach: CancellationToken::new(),
            progress: Progress::default(),
        };
        let mut provider = None;
        let answer = match self.0.registry.find(&ticket) {
            Err(failed) => Ok(failed.into()),
            Ok(_) if lost_workers > MAX_LOST_WORKERS => Ok(too_many_lost(lost_workers).into()),
            Ok(choices) => {
                let running = self.running(&ticket, request.status_unknown_after_ms);
                let answer = self.run(&ctx, choices, job, &mut provider).await;
                if let Some(running) = running {
                    running.end().await;
                }
                answer
            }
        };
        let answer = answer.map(|mut outcome| {
            if let Some(id) = self.0.registrations.registry_id(ticket.security_level) {
                report_of(&mut outcome).metadata.insert("registry_agent_id".to_owned(), id.into());
            }
            outcome
        });

        let end = match &answer {
            Ok(Outcome::Completed(_)) => "completed",
            Ok(Outcome::Failed(failed)) => failed.code.as_str(),
            Err(_) => "handed_back",
        };
        let end = AttemptEnd {
            ticket_id: ticket.ticket_id.as_str(),
            task_type,
            provider: provider.as_deref(),
            attempt: request.attempt,
            end,
            compensation_reason: ParameterView::new(&ticket.parameters).get("reason").and_then(Value::as_str),
            duration: started.elapsed(),
        };
        self.0.observer.attempt_ended(&end);
        self.0.tracer.attempt_ended(&ticket, &trace::current(), &end);
        Ok(ExecuteResponse {
            outcome: answer?,
            agent_id: self.0.agent_id.clone(),
            started_at_ms,
            ended_at_ms: now_ms(),
            lost_workers,
        })
    }

    /// Tells the ticket service RUNNING, beside the work.
    fn running(&self, ticket: &Ticket, unknown_after_ms: Option<u64>) -> Option<Running> {
        let service = Arc::clone(self.0.ticket_service.as_ref()?);
        Some(Running::send(service, ticket.ticket_id.as_str().to_owned(), unknown_after_ms?))
    }

    /// Has the work done by the first candidate that can begin it.
    /// `provider` is who was at it last.
    async fn run(
        &self,
        ctx: &ActivityContext,
        choices: Choices<'_>,
        mut job: Job,
        provider: &mut Option<String>,
    ) -> Result<Outcome, ActivityError> {
        let (begun, time) = (Instant::now(), job.time_left);
        let mut told =
            if job.lost_workers > 0 { Told::before(ctx, &choices.wanted) } else { Told::at(&choices.wanted) };
        let mut left = match fallback::turn(&choices, &told.provider, job.lost_workers) {
            Ok(candidates) => candidates,
            Err(failed) => return Ok(failed.into()),
        };
        job.recorded = told.take_progress();
        let name = LogName {
            ticket_id: job.ticket.ticket_id.as_str().to_owned(),
            run_id: job.run_id.clone(),
            attempt: job.attempt,
        };
        let log = self.0.logs.begin(name, told.take_log());
        let mut reason = NOT_HERE.to_owned();
        let mut given_up = None;
        while let Some((choice, others)) = left.split_first() {
            // Never after a lost worker: the one candidate is where it was.
            if choice.provider != told.provider {
                let from = std::mem::replace(&mut told.provider, choice.provider.to_owned());
                let change = Fallback { from, to: choice.provider.to_owned(), reason: std::mem::take(&mut reason) };
                told.fallbacks.push(change.clone());
                if !told.is_known(ctx).await {
                    told.fallbacks.pop();
                    break;
                }
                self.changed(&job.ticket, &change);
            }
            *provider = Some(choice.provider.to_owned());
            let doubtful = is_doubtful(choice.executor, &job);
            if doubtful && at_most_once(&job.ticket) {
                given_up = Some(lost_at_most_once().into());
                break;
            }
            job.time_left = time.saturating_sub(begun.elapsed());
            // A worker that is lost before it has anything to tell leaves what the one before it told.
            job.progress = Progress::of(log.clone());
            job.progress.set(job.recorded.clone());
            let outcome = self.watch(ctx, *choice, told.clone(), job.clone()).await?;
            let outcome = if doubtful { note_lost_workers(outcome, job.lost_workers) } else { outcome };
            let may_go_on = !job.stop.is_cancelled() && begun.elapsed() < time;
            let cause = fallback::cause(&outcome).filter(|_| may_go_on).map(str::to_owned);
            given_up = Some(outcome);
            let Some(cause) = cause else { break };
            (reason, left) = (cause, others);
        }
        let mut outcome = given_up.unwrap_or_else(|| unknown_to_the_server().into());
        fallback::note(report_of(&mut outcome), &told.fallbacks);
        // A sink may hold it up, and the server must not take this worker for lost meanwhile.
        let _heartbeat = heartbeat(ctx.clone(), told, job.progress.clone());
        if let Some(logged) = log.end().await {
            logged.describe(report_of(&mut outcome));
        }
        Ok(outcome)
    }

    fn changed(&self, ticket: &Ticket, Fallback { from, to, reason }: &Fallback) {
        let (ticket_id, task_type) = (ticket.ticket_id.as_str(), ticket.task_type);
        self.0.observer.provider_changed(&ProviderChange { ticket_id, task_type, from, to, reason });
    }

    /// Runs the executor under heartbeats. Cancelled by the server it asks why: a real stop ends the work and answers,
    /// a shutdown of this worker hands the attempt back. External work goes on meanwhile.
    async fn watch(
        &self,
        ctx: &ActivityContext,
        choice: Choice<'_>,
        told: Told,
        job: Job,
    ) -> Result<Outcome, ActivityError> {
        let (stop, detach, progress) = (job.stop.clone(), job.detach.clone(), job.progress.clone());
        let _heartbeat = heartbeat(ctx.clone(), told.clone(), progress.clone());
        let ticket_id = job.ticket.ticket_id.clone();
        let is_external = choice.executor.is_external();
        // A panic must not become an endless server-side retry.
        let mut run = std::pin::pin!(AssertUnwindSafe(choice.executor.run(job)).catch_unwind());
        let interrupted = tokio::select! {
            outcome = &mut run => return Ok(caught(outcome)),
            () = ctx.cancelled() => self.0.drain.has_begun() || !stop_is_wanted(ctx).await,
        };
        if interrupted {
            detach.cancel();
        }
        stop.cancel();
        let outcome = caught(run.await);
        if !interrupted || has_ended(&outcome, is_external) {
            return Ok(outcome);
        }
        // Whoever runs it next reads this.
        progress.log().flush().await;
        told.beat(ctx, &progress).await;
        tracing::info!(%ticket_id, "attempt handed back: the worker is shutting down or the server took the task away");
        Err(ActivityError::application(
            ApplicationFailure::builder("the worker handed the attempt back; another one runs it")
                .type_name("HandedBack".to_owned())
                .build(),
        ))
    }
}

/// Whether the work has ended, so that nobody need run it again. What ends with its worker was ended by that, however it answered.
fn has_ended(outcome: &Outcome, is_external: bool) -> bool {
    match outcome {
        Outcome::Completed(_) => true,
        Outcome::Failed(failed) => is_external && failed.evidence.is_some(),
    }
}

fn caught(outcome: Result<Outcome, Box<dyn std::any::Any + Send>>) -> Outcome {
    outcome.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        tracing::error!(message, "the executor panicked");
        Failed::permanent(code::INTERNAL, format!("the executor panicked ({message}); this is a defect, report it"))
            .into()
    })
}

fn heartbeat(ctx: ActivityContext, told: Told, progress: Progress) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            told.beat(&ctx, &progress).await;
        }
    }))
}

/// `min(timeout, deadline - now)`.
fn time_left(timeout_ms: u64, deadline_ms: Option<i64>, now_ms: i64) -> Duration {
    let until_deadline = deadline_ms.map_or(u64::MAX, |deadline_ms| u64::try_from(deadline_ms - now_ms).unwrap_or(0));
    Duration::from_millis(timeout_ms.min(until_deadline))
}

/// Whether the work may have been begun before, and cannot be told from work that was not.
fn is_doubtful(executor: &dyn ErasedExecutor, job: &Job) -> bool {
    job.lost_workers > 0
        && executor.recognition() == Recognition::None
        && !(executor.is_external() && is_recorded(&job.recorded))
}

fn at_most_once(ticket: &Ticket) -> bool {
    ticket.qos.as_ref().is_some_and(|qos| qos.delivery_mode == DeliveryMode::AtMostOnce)
}

fn lost_at_most_once() -> Failed {
    let mut failed = Failed::new(
        code::LOST_AT_MOST_ONCE,
        FailureClass::Permanent,
        "a worker was lost while the work ran, nobody can say how far it came, and qos.delivery_mode is AT_MOST_ONCE; \
         look at what the work changed before you publish it under a new ticket_id",
    );
    failed.external_state = Some(ExternalState::Unknown);
    failed
}

/// The server could not be told who takes over, so nobody does.
fn unknown_to_the_server() -> Failed {
    Failed::new(
        code::INFRASTRUCTURE,
        FailureClass::Unavailable { after_ms: None },
        "the Temporal server could not be told which provider takes over, so nothing was begun",
    )
}

fn too_many_lost(lost_workers: u32) -> Failed {
    let mut failed = Failed::permanent(
        code::INFRASTRUCTURE,
        format!(
            "{lost_workers} workers were lost while this attempt ran, which the work itself may have caused; it is not run again. \
             look at the workers' logs before you publish it under a new ticket_id"
        ),
    );
    failed.external_state = Some(ExternalState::Unknown);
    failed
}

/// Work of a lost worker that cannot be recognised may have run twice: the result says so.
fn note_lost_workers(mut outcome: Outcome, lost_workers: u32) -> Outcome {
    let report = report_of(&mut outcome);
    report.metadata.insert("external_state".to_owned(), ExternalState::Unknown.as_str().into());
    report.logs.push(format!("{lost_workers} worker(s) were lost during this attempt; the work may have run before"));
    outcome
}

#[cfg(test)]
mod tests {
    use ticket_workflows::Evidence;

    use super::*;

    #[test]
    fn only_external_work_that_has_answered_is_not_handed_back_because_it_failed() {
        let evidence = || Some(Evidence::new("function f", "exit code 3").expect("evidence"));
        let failed =
            |evidence| Outcome::Failed(Failed { evidence, ..Failed::permanent(code::EXECUTION_FAILED, "exit code 3") });
        for (evidence, is_external, ended) in
            [(evidence(), true, true), (evidence(), false, false), (None, true, false), (None, false, false)]
        {
            assert_eq!(has_ended(&failed(evidence), is_external), ended, "external: {is_external}");
        }
    }
}
