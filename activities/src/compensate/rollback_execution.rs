//! `rollback_execution`: undoes an EXECUTE ticket by its own script, run as its command was, and removes the outputs that it
//! names (INC-83).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ticket_workflows::{Completed, Evidence, ExecutionReport, Failed, FailureClass, Outcome, code};

use super::outputs::Outputs;
use super::{describe, evidence, not_defined, not_here, repeated};
use crate::execute::command::named_time_limit;
use crate::execute::local::{Allowance, LocalParams, Workplace};
use crate::executor::{Executor, Job, Recognition, report_of};

/// Its name in tickets.
pub(super) const ACTION: &str = "rollback_execution";
/// Time of a script that names none (`contracts/executors.md`).
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Characters of each stream in the result (`contracts/executors.md`).
const STREAM_CHARS: usize = 1000;
/// What heartbeats tell of a script that has succeeded.
const SCRIPT: &str = "script";

/// Parameters of the action (`contracts/executors.md`, COMPENSATE).
#[derive(Debug, Deserialize)]
pub struct RollbackParams {
    #[serde(default)]
    execution_id: String,
    /// A command line: its words, or a text that is split as a shell would.
    #[serde(default)]
    rollback_script: Vec<String>,
    working_dir: Option<String>,
    cleanup_outputs: Option<Value>,
    script_timeout: Option<f64>,
    #[serde(default)]
    original_ticket_id: String,
}

/// Undoes commands in a place where they run.
#[derive(Debug)]
pub struct RollbackExecution<W> {
    place: W,
}

/// What is to be done, checked before anything is.
struct Plan {
    script: Option<LocalParams>,
    /// The working folder that the ticket names.
    folder: Option<String>,
    outputs: Outputs,
}

/// What has been done so far. Once the script has succeeded heartbeats tell it, so that a worker that goes on does not run it
/// again.
#[derive(Default, Serialize, Deserialize)]
struct Done {
    script: Option<Evidence>,
    report: ExecutionReport,
}

impl<W: Workplace> RollbackExecution<W> {
    /// Undoes in `place`.
    #[must_use]
    pub fn new(place: W) -> Self {
        Self { place }
    }

    fn plan(&self, params: RollbackParams, job: &Job) -> Result<Plan, Failed> {
        let outputs = Outputs::of(params.cleanup_outputs.as_ref())?;
        let folder = params.working_dir.filter(|folder| !folder.trim().is_empty());
        if params.rollback_script.is_empty() && !outputs.are_named() {
            return Err(not_defined("the ticket has no rollback_script, and cleanup_outputs names no outputs"));
        }
        if params.rollback_script.first().is_some_and(|program| program.trim().is_empty()) {
            let message = "parameter \"rollback_script\": its first word is empty; name the program to run";
            return Err(Failed::permanent(code::INVALID_PARAMETERS, message));
        }
        match &folder {
            Some(folder) if !self.place.find_folder(folder, job)? => return Err(not_here(folder)),
            None if outputs.are_named() => {
                let message = "cleanup_outputs names outputs, and the ticket no working_dir that they are in; name it";
                return Err(Failed::permanent(code::INVALID_PARAMETERS, message));
            }
            Some(_) | None => {}
        }
        let timeout = named_time_limit("script_timeout", params.script_timeout, SCRIPT_TIMEOUT)?;
        let variables = BTreeMap::from([
            ("COMPENSATION".to_owned(), "true".to_owned()),
            ("EXECUTION_ID".to_owned(), params.execution_id),
            ("ORIGINAL_TICKET_ID".to_owned(), params.original_ticket_id),
            ("TICKET_ID".to_owned(), job.ticket.ticket_id.as_str().to_owned()),
        ]);
        let script = (!params.rollback_script.is_empty())
            .then(|| LocalParams::of(params.rollback_script, variables, folder.clone(), timeout));
        Ok(Plan { script, folder, outputs })
    }

    async fn undo(&self, params: RollbackParams, job: &Job) -> Result<Completed, Failed> {
        let allowance = Allowance::of(job);
        let mut done = Done::before(job);
        let plan = self.plan(params, job).map_err(|failed| done.not_gone_on_with(failed))?;
        if let Some(script) = plan.script.filter(|_| done.script.is_none()) {
            done.run(self.place.run_command(script, job.clone()).await)?;
            job.progress.set(json!({ SCRIPT: done }));
        }
        let mut told: Vec<_> = done.script.iter().map(ran).collect();
        if let Some(folder) = plan.folder.filter(|_| plan.outputs.are_named()) {
            let removed = plan.outputs.remove(&self.place, &folder, &allowance).await;
            let removed = if told.is_empty() { removed.and_then(|it| it.unless_all_were_absent(job)) } else { removed };
            told.push(removed.map_err(|failed| done.failed(failed))?.told());
            done.report.output.insert("cleanup_completed".to_owned(), json!(true));
        } else if plan.outputs.unnamed {
            done.report.logs.push(
                "cleanup_outputs is true and names no outputs: whatever is in the working folder has been left there"
                    .to_owned(),
            );
        }
        Ok(Completed { evidence: evidence(&told)?, report: done.report })
    }
}

impl<W: Workplace> Executor for RollbackExecution<W> {
    type Params = RollbackParams;

    /// How far a lost worker came with the ticket's script is not known.
    const RECOGNITION: Recognition = Recognition::None;

    async fn execute(&self, params: RollbackParams, job: Job) -> Outcome {
        let (began, execution_id) = (Instant::now(), params.execution_id.clone());
        let mut outcome = self.undo(params, &job).await.map_or_else(Outcome::Failed, Outcome::Completed);
        let report = report_of(&mut outcome);
        report.output.insert("execution_id".to_owned(), repeated(&execution_id));
        for (key, unless_done) in [
            ("rollback_executed", json!(false)),
            ("cleanup_completed", json!(false)),
            ("return_code", Value::Null),
            ("stdout", json!("")),
            ("stderr", json!("")),
        ] {
            report.output.entry(key.to_owned()).or_insert(unless_done);
        }
        describe(report, ACTION, began.elapsed());
        outcome
    }
}

impl Done {
    /// What a worker that was lost during this attempt has told. One that told nothing readable may not have come so far.
    fn before(job: &Job) -> Self {
        let told = job.recorded.get(SCRIPT).and_then(|told| Self::deserialize(told).ok());
        told.map_or_else(Self::default, |mut done| {
            done.report.logs.push("the script had ended before a worker was lost; it was not run again".to_owned());
            done
        })
    }

    /// The script has ended.
    fn run(&mut self, outcome: Outcome) -> Result<(), Failed> {
        match outcome {
            Outcome::Completed(completed) => {
                self.script = Some(completed.evidence);
                self.report = of_script(completed.report);
                self.report.output.insert("rollback_executed".to_owned(), json!(true));
                Ok(())
            }
            Outcome::Failed(Failed { code, class, message, evidence, report, external_state }) => {
                let message = if code == code::TIMEOUT {
                    "the rollback script outlived its time and was stopped; raise `script_timeout` or `sla.timeout_ms`"
                        .to_owned()
                } else {
                    format!("rollback script: {message}")
                };
                Err(Failed {
                    evidence,
                    report: of_script(report),
                    external_state,
                    ..Failed::new(&code, class, message)
                })
            }
        }
    }

    /// Nothing can be done here. Another attempt knows nothing of a script that has succeeded and would run it again: none is made.
    fn not_gone_on_with(&self, failed: Failed) -> Failed {
        let class = if self.script.is_some() { FailureClass::Permanent } else { failed.class };
        self.failed(Failed { class, ..failed })
    }

    /// What came after the script has failed; the script has run all the same.
    fn failed(&self, failed: Failed) -> Failed {
        Failed { evidence: self.script.clone(), report: self.report.clone(), ..failed }
    }
}

fn ran(script: &Evidence) -> (String, String) {
    (format!("rollback script as {}", script.ran()), script.answered().to_owned())
}

/// The report of a command, with the keys and bounds of the action.
fn of_script(mut report: ExecutionReport) -> ExecutionReport {
    report.output.remove("command");
    if let Some(exit_code) = report.output.remove("exit_code") {
        report.output.insert("return_code".to_owned(), exit_code);
    }
    for name in ["stdout", "stderr"] {
        let Some(Value::String(text)) = report.output.get_mut(name) else { continue };
        if let Some(at) = last(text, STREAM_CHARS) {
            text.drain(..at);
            report.metadata.insert(format!("{name}_truncated"), json!(true));
        }
    }
    report
}

/// Where the last `count` characters of a longer text begin.
fn last(text: &str, count: usize) -> Option<usize> {
    text.char_indices().rev().nth(count - 1).map(|(at, _)| at).filter(|at| *at > 0)
}
