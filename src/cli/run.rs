//! `worker-agents run`.

use std::process::ExitCode;

use anyhow::Context as _;
use ticket_activities::border;

use crate::cli::{settings, shutdown_signal};
use crate::logging;
use crate::temporal;
use crate::worker::{self, WorkerOptions};

/// `<point>:<n>`, with a point of `worker-agents failpoints`.
#[cfg(feature = "dev-stack")]
const KILL_AT: &str = "WORKER_AGENTS_KILL_AT";

pub(super) async fn run() -> anyhow::Result<ExitCode> {
    #[cfg(feature = "dev-stack")]
    arm_failpoint()?;
    // Secrets are in its memory and perhaps in its environment: no core dump, and /proc tells a command of a ticket nothing.
    nix::sys::prctl::set_dumpable(false).context("the process cannot be made undumpable")?;
    let config = settings()?;
    logging::install(&config.http.log_level, config.http.log_format)?;
    if let Some(options) = &config.temporal.deployment {
        let behavior = options.default_versioning_behavior.unwrap_or_default();
        tracing::info!(version = temporal::named(&options.version), ?behavior, "worker_version");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let worker = border("worker.setup", worker::start(config, WorkerOptions::default())).await?;
    tracing::info!(http = %worker.http, metrics = %worker.metrics, "worker_started");
    worker.run_until(shutdown_signal()).await?;
    Ok(ExitCode::SUCCESS)
}

/// The point at which a chaos run wants this process to die.
#[cfg(feature = "dev-stack")]
fn arm_failpoint() -> anyhow::Result<()> {
    use crate::cli::UsageError;
    use crate::config::{MapSource, Source as _};

    let source = MapSource::process()?;
    let Some((text, _)) = source.get(KILL_AT).filter(|(text, _)| !text.is_empty()) else { return Ok(()) };
    ticket_activities::failpoints::arm(&text).map_err(|error| UsageError(format!("{KILL_AT}: {error}")))?;
    Ok(())
}
