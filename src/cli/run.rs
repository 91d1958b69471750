//! `worker-agents run`.

use std::process::ExitCode;

use crate::cli::{settings, shutdown_signal};
use crate::logging;
use crate::worker::{self, WorkerOptions};

pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let config = settings()?;
    logging::install(&config.http.log_level, config.http.log_format)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let worker = worker::start(config, WorkerOptions::default()).await?;
    tracing::info!(http = %worker.http, metrics = %worker.metrics, "worker_started");
    worker.run_until(shutdown_signal()).await?;
    Ok(ExitCode::SUCCESS)
}
