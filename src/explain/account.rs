//! The account of one ticket: what is known of it, put together. No I/O.

use serde::Serialize;
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::{PendingActivityState, WorkflowExecutionStatus};
use ticket_schemas::TicketId;
use ticket_workflows::{Ledger, State, TicketPhase, TicketStatus, Wait, WaitingFor, code, workflow_id};
use utoipa::ToSchema;

use super::server::{Answer, Pending, Recent, Run};
use super::words;
use crate::dead_letters::{format_instant, shown};

/// Longest text of somebody else's, in characters.
const TEXT_CHARS: usize = 500;

/// What was found out about a ticket.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) ticket_id: String,
    pub(super) run: Run,
    pub(super) answer: Answer,
    pub(super) recent: Option<Recent>,
    /// When a worker polled last; the outer `None`: not asked.
    pub(super) newest_poll_ms: Option<Option<i64>>,
}

impl Known {
    /// A worker's answer.
    pub(super) fn status(&self) -> Option<&TicketStatus> {
        match &self.answer {
            Answer::Status(status) => Some(status),
            Answer::Nobody(_) => None,
        }
    }

    /// Whether a worker says that the ticket has ended, and the description is from before that.
    pub(super) fn closed_meanwhile(&self) -> bool {
        self.run.is_open() && self.status().is_some_and(|status| status.state == State::Closed)
    }

    /// Tickets that it waits for, as far as known.
    pub(super) fn waits_for(&self) -> Vec<String> {
        if !self.run.is_open() {
            return Vec::new();
        }
        let tickets = match self.status() {
            Some(TicketStatus { state: State::Parked { waiting_for, .. }, .. }) => waiting_for.clone(),
            // It waits for the one that undoes it like for a dependency.
            Some(TicketStatus { state: State::Compensating { ticket_id, .. }, .. }) => vec![ticket_id.clone()],
            None if self.state() == "parked" => self.run.dependencies.clone(),
            _ => Vec::new(),
        };
        tickets.into_iter().filter(|id| TicketId::is_valid(id)).collect()
    }

    fn recent(&self) -> Recent {
        self.recent.clone().unwrap_or_default()
    }

    fn pending(&self, activity: &str) -> Option<&Pending> {
        self.run.pending.iter().find(|pending| pending.activity == activity)
    }

    /// Attempts of a workflow task that fails again and again, and why it does.
    fn stuck(&self) -> Option<(i32, String)> {
        let task = self.run.workflow_task.as_ref().filter(|task| task.attempt > 1)?;
        Some((task.attempt, self.recent().task_failure?))
    }

    /// The word for what the ticket is doing, or how it ended.
    pub(super) fn state(&self) -> String {
        let ended = match self.run.status {
            WorkflowExecutionStatus::Completed => "completed",
            WorkflowExecutionStatus::Failed => "failed",
            WorkflowExecutionStatus::Canceled => "cancelled",
            WorkflowExecutionStatus::Terminated => "terminated",
            WorkflowExecutionStatus::TimedOut => "timed_out",
            _ => "",
        };
        if !ended.is_empty() {
            return ended.to_owned();
        }
        let said = self.status().and_then(|status| json!(status.state)["state"].as_str().map(str::to_owned));
        said.unwrap_or_else(|| self.guessed_state().to_owned())
    }

    /// What the server's description says about an open ticket that no worker answers for.
    fn guessed_state(&self) -> &'static str {
        let stops = |pending: &Pending| pending.state == PendingActivityState::CancelRequested;
        match self.pending("execute") {
            Some(pending) if stops(pending) => return "stopping",
            Some(_) => return "executing",
            None => {}
        }
        match self.run.phase.as_deref() {
            Some("compensation_failed") => return "compensation_failed",
            Some("compensating") if self.pending("compensate").is_some() => return "creating_compensation",
            Some("compensating") => return "compensating",
            Some("compensated" | "compensation_skipped") => return "settling_compensation",
            _ => {}
        }
        for (activity, state) in [
            ("report", "reporting"),
            ("set_status", "reporting"),
            ("tell", "reporting"),
            ("register", "registering"),
            ("collect", "collecting"),
        ] {
            if self.pending(activity).is_some() {
                return state;
            }
        }
        let parked = self.run.phase.as_deref() == Some(TicketPhase::Parked.as_str());
        match (parked, self.recent().timer) {
            (true, _) => "parked",
            (false, Some(_)) => "retry_wait",
            (false, None) => "unknown",
        }
    }

    /// For what, since when, until when, and what ends it.
    fn wait(&self) -> Option<Waiting> {
        if !self.run.is_open() {
            return None;
        }
        let mut waiting = match self.status() {
            Some(status) => {
                let derived = || Wait::of(&status.state, status.max_attempts, status.deadline_ms);
                Waiting::of(status.wait.clone().or_else(derived)?)
            }
            None => self.guessed_wait(),
        };
        waiting.since_ms = waiting.since_ms.or(self.run.started_ms);
        if let Some((attempt, failure)) = self.stuck() {
            waiting.what = json!({ "kind": "workflow_task", "attempt": attempt, "last_failure": clean(&failure) });
            waiting.until_ms = None;
            waiting.unblocked_by = "a worker whose code can go on with the workflow; do not terminate it".to_owned();
            return Some(waiting);
        }
        let kind = waiting.kind();
        if kind == "executor" {
            waiting.set("task_type", json!(self.run.task_type.as_deref().map(clean)));
            waiting.set("provider", json!(self.run.provider.as_deref().map(clean)));
        }
        if let Some(pending) = activity_of(&kind).and_then(|activity| self.pending(activity)) {
            waiting.set("worker", json!(pending.worker.as_deref().map(clean)));
            waiting.set("activity_attempt", json!(pending.attempt));
            waiting.set("last_failure", json!(pending.last_failure.as_deref().map(clean)));
            if kind == "executor" {
                waiting.until_ms = [waiting.until_ms, pending.until_ms].into_iter().flatten().min();
            }
        }
        Some(waiting)
    }

    fn guessed_wait(&self) -> Waiting {
        let since = |activity| self.pending(activity).and_then(|pending| pending.scheduled_ms);
        // Whatever it waited for has come: a worker is to take note.
        if let Some(task) = self.run.workflow_task.as_ref() {
            let what = json!({ "kind": "worker", "attempt": task.attempt });
            return Waiting::new(what, task.scheduled_ms, None, WORKER);
        }
        let timer = self.recent().timer;
        match self.guessed_state() {
            "executing" => Waiting::new(
                json!({ "kind": "executor" }),
                since("execute"),
                None,
                "the executor's answer, the attempt's time-out, or a cancel request",
            ),
            "stopping" => {
                Waiting::new(json!({ "kind": "stop" }), since("execute"), None, "the end of the attempt's work")
            }
            "reporting" => Waiting::new(
                json!({ "kind": "publication" }),
                since("report").or_else(|| since("set_status")).or_else(|| since("tell")),
                None,
                "Kafka's acknowledgement of the result, the ticket service's of the status, and the server's of the messages to \
                 its dependents",
            ),
            "registering" => Waiting::new(
                json!({ "kind": "dependency_lookup" }),
                since("register"),
                None,
                "the Temporal server's answers about the tickets it depends on",
            ),
            "collecting" => Waiting::new(
                json!({ "kind": "outputs" }),
                since("collect"),
                None,
                "the Temporal server's answers with the outputs that its parameters refer to",
            ),
            "creating_compensation" => Waiting::new(
                json!({ "kind": "compensation_creation" }),
                since("compensate"),
                None,
                "the acknowledgement of the compensation ticket, or an order to skip it",
            ),
            "compensating" => Waiting::new(
                json!({ "kind": "compensation" }),
                timer.and_then(|(since_ms, _)| since_ms),
                timer.and_then(|(_, until_ms)| until_ms),
                "the end of the compensation ticket, and a worker that takes note of it",
            ),
            "compensation_failed" => Waiting::new(
                json!({ "kind": "compensation_order" }),
                None,
                None,
                "an order to resume the compensation or to skip it, and a worker that carries it out",
            ),
            "settling_compensation" => Waiting::new(
                json!({ "kind": "compensation_settlement" }),
                since("set_status"),
                None,
                "the ticket service's answer about the ticket's status",
            ),
            "parked" => {
                let tickets: Vec<_> =
                    self.run.dependencies.iter().take(State::MOST_NAMED).map(|id| clean(id)).collect();
                let what = json!({ "kind": "dependencies", "tickets": tickets, "count": self.run.dependencies.len() });
                let until_ms = timer.and_then(|(_, until_ms)| until_ms);
                Waiting::new(
                    what,
                    self.run.started_ms,
                    until_ms,
                    "the completion of every ticket it depends on, and a worker that takes note of it",
                )
            }
            "retry_wait" => {
                let (since_ms, until_ms) = timer.unwrap_or_default();
                let unblocked_by = "the end of the back-off, and a worker that takes the next attempt";
                Waiting::new(json!({ "kind": "retry" }), since_ms, until_ms, unblocked_by)
            }
            _ => Waiting::new(json!({ "kind": "worker" }), None, None, WORKER),
        }
    }
}

const WORKER: &str = "a worker that polls the task queue";

/// The activity that a wait is for.
fn activity_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "executor" | "stop" => "execute",
        "publication" => "report",
        "dependency_lookup" => "register",
        "outputs" => "collect",
        "compensation_creation" => "compensate",
        "compensation" => "register",
        "compensation_settlement" => "set_status",
        _ => return None,
    })
}

/// A wait on its way into the account.
struct Waiting {
    what: Value,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    unblocked_by: String,
}

impl Waiting {
    fn new(what: Value, since_ms: Option<i64>, until_ms: Option<i64>, unblocked_by: &str) -> Self {
        Self { what, since_ms, until_ms, unblocked_by: clean(unblocked_by) }
    }

    fn of(mut wait: Wait) -> Self {
        match &mut wait.waiting_for {
            WaitingFor::Stop { reason, .. } => *reason = clean(reason),
            WaitingFor::CompensationOrder { error_code, .. } | WaitingFor::Retry { error_code, .. } => {
                *error_code = clean(error_code)
            }
            WaitingFor::Dependencies { tickets, .. } => tickets.iter_mut().for_each(|id| *id = clean(id)),
            _ => {}
        }
        Self::new(json!(wait.waiting_for), wait.since_ms, wait.until_ms, &wait.unblocked_by)
    }

    fn kind(&self) -> String {
        self.what["kind"].as_str().unwrap_or_default().to_owned()
    }

    fn set(&mut self, key: &str, value: Value) {
        if !value.is_null() {
            self.what[key] = value;
        }
    }
}

/// What is told about a ticket. Times are RFC 3339. The names are stable; further ones may come.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(title = "Ticket")]
pub struct Account {
    /// The ticket.
    pub ticket_id: String,
    /// Its workflow.
    pub workflow_id: String,
    /// The workflow's newest run.
    pub run_id: String,
    /// What it is doing, in a word, or how it ended.
    pub state: String,
    /// For what it waits: `kind`, and what belongs to it. Null once it has ended.
    #[schema(value_type = Option<Object>)]
    pub waiting_for: Option<Value>,
    /// Since when it waits, or has ended.
    pub since: Option<String>,
    /// When the wait ends by itself, at the latest.
    pub until: Option<String>,
    /// What ends the wait.
    pub unblocked_by: Option<String>,
    /// When the run began.
    pub started: Option<String>,
    /// When the run closed.
    pub closed: Option<String>,
    /// `sla.deadline`, or what an order has made of it.
    pub deadline: Option<String>,
    /// Share of the time from its start to its deadline that is used, above 1 when the deadline has passed.
    pub deadline_used: Option<f64>,
    /// The ledger of attempts. Null when no worker answers.
    #[schema(value_type = Option<Object>)]
    pub attempts: Option<Ledger>,
    /// Why it failed, as a code.
    pub error_code: Option<String>,
    /// How it ended, in words.
    pub message: Option<String>,
    /// Some of the tickets that it waits for.
    pub predecessors: Vec<Predecessor>,
    /// Why no worker's answer is in here; null when one is.
    pub unanswered: Option<String>,
    /// The run's page in the Temporal UI; null without `TEMPORAL_UI_URL`.
    pub url: Option<String>,
    /// All of it in plain sentences.
    pub explanation: String,
}

/// How a ticket stands that another waits for.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Predecessor {
    /// The ticket.
    pub ticket_id: String,
    /// As of an account; `not_found`, or `unknown` when that could not be found out.
    pub state: String,
    /// For what it waits itself.
    #[schema(value_type = Option<Object>)]
    pub waiting_for: Option<Value>,
    /// Since when.
    pub since: Option<String>,
    /// Until when.
    pub until: Option<String>,
    /// Why it failed, as a code.
    pub error_code: Option<String>,
}

impl Predecessor {
    pub(super) fn of_state(ticket_id: String, state: &str) -> Self {
        let state = state.to_owned();
        Self { ticket_id, state, waiting_for: None, since: None, until: None, error_code: None }
    }
}

impl From<Account> for Predecessor {
    fn from(it: Account) -> Self {
        let (ticket_id, state, waiting_for) = (it.ticket_id, it.state, it.waiting_for);
        Self { ticket_id, state, waiting_for, since: it.since, until: it.until, error_code: it.error_code }
    }
}

impl Account {
    /// What is known at `now_ms`.
    pub(super) fn of(known: &Known, predecessors: Vec<Predecessor>, url: Option<String>, now_ms: i64) -> Self {
        let (run, wait) = (&known.run, known.wait());
        let instant = |ms: Option<i64>| ms.and_then(format_instant);
        let deadline_ms = run.deadline_ms.or_else(|| known.status().and_then(|status| status.deadline_ms));
        let until_now_ms = run.closed_ms.unwrap_or(now_ms);
        let close = known.recent().close.filter(|_| !run.is_open());
        let closed_code = close.as_ref().and_then(|(code, _)| code.clone()).or_else(|| run.error_code.clone());
        let cancelled = (run.status == WorkflowExecutionStatus::Canceled).then(|| code::CANCELLED.to_owned());
        let open_code = known.status().and_then(|status| status.error_code.clone());
        let mut account = Self {
            ticket_id: known.ticket_id.clone(),
            workflow_id: workflow_id(&known.ticket_id),
            run_id: run.run_id.clone(),
            state: known.state(),
            since: instant(wait.as_ref().map_or(run.closed_ms, |wait| wait.since_ms)),
            until: instant(wait.as_ref().and_then(|wait| wait.until_ms)),
            unblocked_by: wait.as_ref().map(|wait| wait.unblocked_by.clone()),
            waiting_for: wait.map(|wait| wait.what),
            started: instant(run.started_ms),
            closed: instant(run.closed_ms),
            deadline: instant(deadline_ms),
            deadline_used: run.started_ms.zip(deadline_ms).map(|(from, to)| used(from, to, until_now_ms)),
            attempts: known.status().map(|status| status.ledger.clone()),
            error_code: closed_code.or(cancelled).or(open_code).as_deref().map(clean),
            message: close.map(|(_, message)| clean(&message)).filter(|message| !message.is_empty()),
            predecessors,
            unanswered: match &known.answer {
                Answer::Status(_) => None,
                Answer::Nobody(why) => Some(clean(why)),
            },
            url,
            explanation: String::new(),
        };
        account.explanation = words::paragraph(&account, known);
        account
    }
}

/// The share of `from_ms..to_ms` that is over at `now_ms`, to three places.
fn used(from_ms: i64, to_ms: i64, now_ms: i64) -> f64 {
    if to_ms <= from_ms {
        // It was over before it began.
        return 1.0;
    }
    let share = now_ms.saturating_sub(from_ms).max(0) as f64 / to_ms.saturating_sub(from_ms) as f64;
    (share * 1000.0).round() / 1000.0
}

/// Somebody else's text, bounded, without what a terminal would interpret.
pub(super) fn clean(text: &str) -> String {
    shown(text, TEXT_CHARS)
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
