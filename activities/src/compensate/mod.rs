//! COMPENSATE: undoes what a failed ticket did. One file per action; a ticket's `action` is its provider in the registry.
//!
//! An action that is done says what it did, and one that could do nothing fails: somebody then looks at what is left
//! (`docs/adr/0027-undoing-commands.md`). Upstream's actions reported success for what they had not done (INC-79, INC-83).

mod generic_cleanup;
mod outputs;
mod rollback_execution;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ticket_schemas::TaskType;
use ticket_workflows::{Evidence, ExecutionReport, Failed, FailureClass, code};

pub use generic_cleanup::{CleanupParams, GenericCleanup};
pub use rollback_execution::{RollbackExecution, RollbackParams};

use crate::execute::local::{LocalRuntime, shown};
use crate::registry::ExecutorRegistry;

/// Most characters of a text of a ticket that its result repeats.
const MAX_REPEATED: usize = 256;

/// Adds the actions that undo what commands did, by the rules and in the sandbox of `local`.
#[must_use]
pub fn add_to(registry: ExecutorRegistry, local: &Arc<LocalRuntime>) -> ExecutorRegistry {
    registry
        .register(TaskType::Compensate, rollback_execution::ACTION, RollbackExecution::new(Arc::clone(local)))
        .register(TaskType::Compensate, generic_cleanup::ACTION, GenericCleanup::new(Arc::clone(local)))
}

/// What every action says of itself.
fn describe(report: &mut ExecutionReport, action: &str, took: Duration) {
    report.metadata.extend([
        ("executor".to_owned(), json!("CompensateExecutor")),
        ("action".to_owned(), json!(action)),
        ("simulated".to_owned(), json!(false)),
        ("duration_seconds".to_owned(), json!(took.as_millis() as f64 / 1000.0)),
    ]);
}

/// A text of the ticket, for its result.
fn repeated(text: &str) -> Value {
    text.chars().take(MAX_REPEATED).collect::<String>().into()
}

/// What was done, each with what it answered.
fn evidence(done: &[(String, String)]) -> Result<Evidence, Failed> {
    let joined = |part: fn(&(String, String)) -> &str| done.iter().map(part).collect::<Vec<_>>().join("; ");
    Evidence::new(joined(|(ran, _)| ran.as_str()), joined(|(_, answered)| answered.as_str()))
        .map_err(|error| Failed::permanent(code::INTERNAL, error.to_string()))
}

/// Another worker may have the folder.
fn not_here(folder: &str) -> Failed {
    let message = format!(
        "the working folder {} is not on this worker, and nothing can be undone in another one; let all workers share a volume \
         for LOCAL_RUNTIME_WORKING_DIR",
        shown(folder)
    );
    Failed::new(code::INFRASTRUCTURE, FailureClass::Unavailable { after_ms: None }, message)
}

/// Nothing could be done by what the ticket names.
fn not_defined(missing: &str) -> Failed {
    Failed::permanent(
        code::COMPENSATION_NOT_DEFINED,
        format!(
            "{missing}, so nothing was undone. look at what the original ticket did; then publish an undo that names what to do, or, \
             where the original waits for this one, order `ticket compensation skip` for it"
        ),
    )
}
