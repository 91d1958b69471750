//! The runtime that runs nothing and says so. Only where configuration lets it (`SIMULATION_FALLBACK`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use ticket_workflows::{Completed, Evidence, ExecutionReport, Failed, FailureClass, Outcome, code};

use crate::executor::{Executor, Job, Recognition};

/// Takes 2 to 4 s, as upstream's does, and completes with exit code 0, marked `simulated`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulation;

/// Parameters of [`Simulation`]: whatever the command is, it is not looked at.
#[derive(Debug, Deserialize)]
pub struct SimulationParams {}

impl Executor for Simulation {
    type Params = SimulationParams;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, _: SimulationParams, job: Job) -> Outcome {
        // Of the ticket alone: a second time takes as long as the first.
        let spread =
            job.ticket.ticket_id.as_str().bytes().fold(0_u64, |sum, byte| sum * 31 % 2001 + u64::from(byte)) % 2001;
        let takes = Duration::from_millis(2000 + spread);
        tokio::select! {
            () = tokio::time::sleep(takes.min(job.time_left)) => {}
            () = job.stop.cancelled() => return Failed::permanent(code::CANCELLED, "the simulation was stopped").into(),
        }
        if takes > job.time_left {
            let message = "the simulation takes longer than the ticket has; raise `sla.timeout_ms`";
            return Failed::new(code::TIMEOUT, FailureClass::Retry { after_ms: None }, message).into();
        }
        let evidence = match Evidence::new("simulation", "nothing ran, as the settings of this worker allow") {
            Ok(evidence) => evidence,
            Err(error) => return Failed::permanent(code::INTERNAL, error.to_string()).into(),
        };
        let mut report = ExecutionReport::default();
        report.output.insert("exit_code".to_owned(), json!(0));
        report.output.insert("stdout".to_owned(), json!(""));
        report.output.insert("stderr".to_owned(), json!(""));
        report.metadata.insert("executor".to_owned(), json!("ExecuteExecutor"));
        report.metadata.insert("runtime".to_owned(), json!("simulation"));
        report.metadata.insert("simulated".to_owned(), json!(true));
        report.metadata.insert("duration_seconds".to_owned(), json!(takes.as_millis() as f64 / 1000.0));
        report.logs.push("simulated: nothing ran".to_owned());
        Outcome::Completed(Completed { evidence, report })
    }
}
