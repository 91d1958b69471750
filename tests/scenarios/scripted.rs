//! What stands in for the platform in a scenario: an executor that follows the script, a place for results, and a topic for
//! the tickets that undo others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::{
    AttemptEnd, CompensationError, Executor, Job, Observer, ProviderChange, PublishError, Recognition, ResultSink,
    TicketSink,
};
use ticket_schemas::Ticket;
use ticket_workflows::{
    Completed, Evidence, ExecutionReport, ExternalState, Failed, Outcome, Owed, RecordPosition, Report, StatusEnd,
    StatusUpdate, TraceContext, code,
};
use tokio::sync::Notify;
use worker_agents::bridge::decision::Decision;
use worker_agents::bridge::{Provenance, Starter};

/// What an attempt does.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// It ends so.
    Ends(Outcome),
    /// It goes on until it is told to stop, and has then stopped.
    Hangs,
    /// It takes so long, whoever tells it to stop, and then completes or ends as it is said here.
    Takes(Duration, Option<Outcome>),
}

/// What attempts do, by the ticket's name; undos have the name that [`undo_of`] gives them.
pub(crate) type Script = BTreeMap<String, VecDeque<Answer>>;

/// The name of what undoes a ticket.
pub(crate) fn undo_of(name: &str) -> String {
    format!("undo of {name}")
}

/// Answers each ticket's attempts as its scenario says, and completes them when it says nothing more.
#[derive(Clone)]
pub(crate) struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub(crate) fn new(script: Script) -> Self {
        Self(Arc::new(Mutex::new(script)))
    }
}

impl Executor for Scripted {
    type Params = Value;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, params: Value, job: Job) -> Outcome {
        let name = params["original_ticket_id"].as_str().map_or_else(|| job.ticket.ticket_id.to_string(), undo_of);
        let answer = self.0.lock().expect("no panic").get_mut(&name).and_then(VecDeque::pop_front);
        match answer {
            Some(Answer::Ends(outcome)) => return outcome,
            Some(Answer::Hangs) => {
                let (code, text) = tokio::select! {
                    () = job.stop.cancelled() => (code::CANCELLED, "stopped"),
                    () = tokio::time::sleep(job.time_left) => (code::TIMEOUT, "its time is over"),
                };
                let mut failed = Failed::permanent(code, text);
                failed.external_state = Some(ExternalState::ConfirmedStopped);
                return failed.into();
            }
            Some(Answer::Takes(time, end)) => {
                tokio::time::sleep(time).await;
                if let Some(end) = end {
                    return end;
                }
            }
            None => {}
        }
        let evidence = Evidence::new("a scenario", "done").expect("evidence");
        let mut report = ExecutionReport::default();
        report.output.insert("made_by".to_owned(), json!(job.ticket.ticket_id));
        Outcome::Completed(Completed { evidence, report })
    }
}

/// Results, by ticket.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Results>);

#[derive(Default)]
struct Results {
    reports: Mutex<BTreeMap<String, Report>>,
    changed: Notify,
    away: AtomicBool,
}

impl Kept {
    /// Waits until all these have ended.
    pub(crate) async fn wait_for(&self, names: impl Iterator<Item = &'static str>) {
        for name in names {
            loop {
                let changed = self.0.changed.notified();
                if self.0.reports.lock().expect("no panic").contains_key(name) {
                    break;
                }
                changed.await;
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.reports.lock().expect("no panic").keys().cloned().collect()
    }

    pub(crate) fn take(&self) -> BTreeMap<String, Report> {
        std::mem::take(&mut self.0.reports.lock().expect("no panic"))
    }

    /// Takes no results from now on, or takes them again.
    pub(crate) fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::Relaxed);
    }
}

impl ResultSink for Kept {
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let ticket_id = report.result.ticket_id.as_str().to_owned();
            if self.0.away.load(Ordering::Relaxed) {
                let result_id = report.result_id.clone();
                return Err(PublishError { result_id, ticket_id, cause: "away".to_owned() });
            }
            let earlier = self.0.reports.lock().expect("no panic").insert(ticket_id.clone(), report.clone());
            // Copies are equal; two different results are what must never happen.
            assert!(earlier.is_none_or(|earlier| earlier == *report), "{ticket_id} has two results");
            self.0.changed.notify_one();
            Ok(())
        })
    }
}

/// The topic for tickets that undo others: what is published starts, unless the scenario says that it is lost or refused.
pub(crate) struct Topic {
    starter: Arc<Starter>,
    /// How many publications of each original's undo are lost.
    lost: Mutex<BTreeMap<String, u32>>,
    /// Originals whose undos cannot be published.
    refused: BTreeSet<String>,
    /// What was lost, by original.
    drawer: Mutex<BTreeMap<String, Ticket>>,
}

impl Topic {
    pub(crate) fn new(starter: Arc<Starter>, lost: BTreeMap<String, u32>, refused: BTreeSet<String>) -> Self {
        Self { starter, lost: Mutex::new(lost), refused, drawer: Mutex::default() }
    }

    /// The id of the ticket that undoes this one, whose record was lost.
    pub(crate) fn lost(&self, original: &str) -> String {
        self.drawer.lock().expect("no panic").get(original).expect("one was lost").ticket_id.to_string()
    }

    /// The lost record of the ticket that undoes this one appears after all.
    pub(crate) async fn find(&self, original: &str) {
        let ticket = self.drawer.lock().expect("no panic").remove(original).expect("one was lost");
        self.start(&ticket, &TraceContext::default()).await;
    }

    async fn start(&self, ticket: &Ticket, trace: &TraceContext) {
        let position = RecordPosition { topic: "execution.tickets".to_owned(), partition: 1, offset: 0 };
        let provenance = Provenance { position, written_at_ms: None, redrive: false, trace: trace.clone() };
        let decision = self.starter.start(ticket, &provenance).await;
        assert!(matches!(decision, Decision::Started { .. } | Decision::Duplicate { .. }), "{decision:?}");
    }
}

impl TicketSink for Topic {
    fn publish<'a>(
        &'a self,
        ticket: &'a Ticket,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Result<(), CompensationError>> {
        Box::pin(async move {
            let original = ticket.parameters.get("original_ticket_id").and_then(Value::as_str).expect("an original");
            if self.refused.contains(original) {
                let (ticket_id, cause) = (ticket.ticket_id.to_string(), "refused".to_owned());
                return Err(CompensationError { ticket_id, cause });
            }
            if let Some(left) = self.lost.lock().expect("no panic").get_mut(original).filter(|left| **left > 0) {
                *left -= 1;
                self.drawer.lock().expect("no panic").insert(original.to_owned(), ticket.clone());
                return Ok(());
            }
            self.start(ticket, trace).await;
            Ok(())
        })
    }
}

/// Whom nothing interests.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn attempt_started(&self, _: &str, _: &'static str, _: u32) {}
    fn provider_changed(&self, _: &ProviderChange<'_>) {}
    fn attempt_ended(&self, _: &AttemptEnd<'_>) {}
    fn ticket_reported(&self, _: &Report) {}
    fn status_settled(&self, _: &StatusUpdate, _: &StatusEnd) {}
    fn report_stuck(&self, _: &str, _: Owed, _: &str) {}
}
