//! A runtime that does nothing, for benches and the development stack. Not part of a production worker.

use serde::Deserialize;
use serde_json::json;
use ticket_workflows::{Completed, Evidence, ExecutionReport, Failed, Outcome, code};

use crate::executor::{Executor, Job, Recognition};

/// Answers at once, or after `sleep_ms`. Its results say `simulated: true`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noop;

/// Parameters of [`Noop`].
#[derive(Debug, Deserialize)]
pub struct NoopParams {
    /// Time to take, in milliseconds.
    #[serde(default)]
    sleep_ms: u64,
}

impl Executor for Noop {
    type Params = NoopParams;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, params: NoopParams, job: Job) -> Outcome {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(params.sleep_ms)) => {}
            () = job.stop.cancelled() => {
                return Failed::permanent(code::CANCELLED, "the no-op was stopped").into();
            }
        }
        match Evidence::new("no-op runtime", "nothing, as asked") {
            Ok(evidence) => {
                let mut report = ExecutionReport::default();
                report.metadata.insert("runtime".to_owned(), json!("noop"));
                report.metadata.insert("simulated".to_owned(), json!(true));
                Outcome::Completed(Completed { evidence, report })
            }
            Err(error) => Failed::permanent(code::INTERNAL, error.to_string()).into(),
        }
    }
}
