//! What the local runtime adds to a command: an attempt at a ticket that runs `true`, in the sandbox, against the bare
//! spawn of the same program; one after the other.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use ticket_activities::execute::local::{LocalConfig, LocalParams, LocalRuntime};
use ticket_activities::{Completed, Executor as _, Job, Outcome, Progress};
use tokio_util::sync::CancellationToken;
use worker_agents::config::Config;

use crate::compare::rounds;
use crate::latency::percentiles;
use crate::load::ticket;
use crate::meter::Sample;
use crate::report::{Reporter, rounded};
use crate::stack::supervisor;

/// Commands of one run.
const COMMANDS: usize = 50;
const PROGRAM: &str = "/bin/true";
/// More than any of them takes.
const TIME: Duration = Duration::from_secs(30);

/// Measures with the limits and the network of `config`, in a folder of its own.
pub(crate) async fn executor_overhead(config: &Config, reporter: &Reporter) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = LocalRuntime::new(LocalConfig {
        allow_list: true,
        sandbox: config.local.sandbox.clone(),
        allowed_commands: vec!["true".to_owned()],
        working_dir: folder.path().to_owned(),
        default_timeout: TIME,
        grace: config.local.grace,
        output_limit: 64 << 10,
        search_path: OsString::from("/bin"),
        supervisor: supervisor(),
    });
    let sandbox = attempt(&runtime).await?.report.metadata.remove("sandbox");
    let (mut tail, mut bare_tail) = (0.0_f64, 0.0_f64);
    let comparison = rounds(
        "local_executor_overhead_ms",
        async |_| {
            let (p50, p99) = timed(bare).await?;
            bare_tail = bare_tail.max(p99);
            Ok(Sample { value: p50, cpu: None })
        },
        async |_| {
            let (p50, p99) = timed(async || attempt(&runtime).await.map(drop)).await?;
            tail = tail.max(p99);
            Ok(Sample { value: p50, cpu: None })
        },
    )
    .await?;
    // Medians of the p50 of each run; worst p99 of all runs.
    let more = json!({
        "p50": rounded(comparison.ours),
        "p99": rounded(tail),
        "bare_p50": rounded(comparison.bare),
        "bare_p99": rounded(bare_tail),
        "noise": rounded(comparison.noise),
        "sandbox": sandbox,
    });
    reporter.alone("local_executor_overhead_ms", "ms", comparison.ours - comparison.bare, more);
    Ok(())
}

/// One attempt at a ticket of its own.
async fn attempt(runtime: &LocalRuntime) -> anyhow::Result<Completed> {
    let params: LocalParams = serde_json::from_value(json!({ "command": "true" }))?;
    let job = Job {
        ticket: Arc::new(ticket(0)?),
        run_id: "bench".to_owned(),
        attempt: 1,
        lost_workers: 0,
        time_left: TIME,
        recorded: Value::Null,
        stop: CancellationToken::new(),
        detach: CancellationToken::new(),
        progress: Progress::default(),
    };
    match runtime.execute(params, job).await {
        Outcome::Completed(completed) => Ok(completed),
        Outcome::Failed(failed) => anyhow::bail!("the command failed: {}", failed.message),
    }
}

/// The program alone, with its output read.
async fn bare() -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(PROGRAM);
    let output = command.env_clear().stdin(Stdio::null()).output().await.context(PROGRAM)?;
    anyhow::ensure!(output.status.success(), "{PROGRAM}: {}", output.status);
    Ok(())
}

/// p50 and p99 of the times of one run, in milliseconds.
async fn timed(mut command: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<(f64, f64)> {
    let mut times = Vec::with_capacity(COMMANDS);
    for _ in 0..COMMANDS {
        let begun = Instant::now();
        command().await?;
        times.push(begun.elapsed());
    }
    Ok(percentiles(times))
}
