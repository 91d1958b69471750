//! `generic_cleanup`: what can be undone of a ticket without knowing its type. It removes the outputs that the original's
//! parameters name, and fails where they name none (`docs/adr/0027-undoing-commands.md`).

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use ticket_workflows::{Completed, ExecutionReport, Failed, Outcome, code};

use super::outputs::Outputs;
use super::{describe, evidence, not_defined, not_here, repeated};
use crate::execute::local::{Allowance, Workplace};
use crate::executor::{Executor, Job, Recognition, report_of};

/// Its name in tickets.
pub(super) const ACTION: &str = "generic_cleanup";

/// Parameters of the action (`contracts/executors.md`, COMPENSATE).
#[derive(Debug, Deserialize)]
pub struct CleanupParams {
    #[serde(default)]
    original_task_type: String,
    #[serde(default)]
    original_params: OriginalParams,
}

/// What the original's parameters say of what it left.
#[derive(Debug, Default, Deserialize)]
struct OriginalParams {
    working_dir: Option<String>,
    cleanup_outputs: Option<Value>,
}

/// Removes outputs in a place where commands run.
#[derive(Debug)]
pub struct GenericCleanup<W> {
    place: W,
}

impl<W: Workplace> GenericCleanup<W> {
    /// Cleans up in `place`.
    #[must_use]
    pub fn new(place: W) -> Self {
        Self { place }
    }

    async fn clean_up(&self, original: OriginalParams, job: &Job) -> Result<Completed, Failed> {
        let allowance = Allowance::of(job);
        let outputs = Outputs::of(original.cleanup_outputs.as_ref())?;
        if !outputs.are_named() {
            return Err(not_defined("the cleanup_outputs of original_params name no outputs"));
        }
        let folder = original.working_dir.filter(|folder| !folder.trim().is_empty()).ok_or_else(|| {
            let message = "original_params name outputs, and no working_dir that they are in; correct the ticket";
            Failed::permanent(code::INVALID_PARAMETERS, message)
        })?;
        if !self.place.find_folder(&folder, job)? {
            return Err(not_here(&folder));
        }
        let removed = outputs.remove(&self.place, &folder, &allowance).await?.unless_all_were_absent(job)?;
        Ok(Completed { evidence: evidence(&[removed.told()])?, report: ExecutionReport::default() })
    }
}

impl<W: Workplace> Executor for GenericCleanup<W> {
    type Params = CleanupParams;

    /// What is gone stays gone: another time removes what is left.
    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, params: CleanupParams, job: Job) -> Outcome {
        let began = Instant::now();
        let mut outcome =
            self.clean_up(params.original_params, &job).await.map_or_else(Outcome::Failed, Outcome::Completed);
        let compensated = matches!(outcome, Outcome::Completed(_));
        let report = report_of(&mut outcome);
        report.output.insert("original_task_type".to_owned(), repeated(&params.original_task_type));
        report.output.insert("compensated".to_owned(), json!(compensated));
        describe(report, ACTION, began.elapsed());
        outcome
    }
}
