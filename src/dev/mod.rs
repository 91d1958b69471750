//! The development stack: everything in one process tree, nothing installed but the Temporal CLI.
//!
//! Behind the cargo feature `dev-stack`. The embedded Kafka is not durable; nothing outside this module can select it.

mod accept;
mod args;
pub mod demo;
pub mod kafka;
mod proxy;
pub mod registry;
pub mod service_registry;
mod stack;
pub mod temporal;
pub mod tickets;

pub use args::{DemoArgs, DevArgs};
pub use stack::{DevStack, Peers, Ports};

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::shutdown_signal;
use crate::config::{Config, MapSource};
use crate::logging;
use crate::worker::{self, WorkerOptions};

/// `worker-agents dev`.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let base = MapSource::process().context(".env cannot be read")?;
    if let Some(file) = &args.ready_file {
        // A file of an earlier run would say that this one is up.
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("the ready file {} cannot be replaced", file.display()));
            }
            _ => {}
        }
    }
    let ports = args.ports(&base);
    // Read before anything starts: a wrong setting should not cost a start of the stack.
    let early = Config::read(&stack::defaults(base.clone()))?;
    logging::install(&early.http.log_level, early.http.log_format)?;
    let stack = DevStack::start(&ports).await?;
    let config = Config::read(&stack.source(base, &ports))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let worker = worker::start(config, WorkerOptions { noop_runtime: true }).await?;
    let http_url = format!("http://{}", worker.http);
    let metrics_url = format!("http://{}/metrics", worker.metrics);
    let health = worker.health.clone();
    let peers = stack.peers().clone();
    let exited = stack.temporal_exited();
    let mut lost = None;
    let announce = async {
        health.wait_ready().await;
        eprintln!("{}", banner(&peers, &http_url));
        if let Some(file) = &args.ready_file {
            write_ready_file(file, &peers, &http_url, &metrics_url)
                .with_context(|| format!("the ready file {} cannot be written", file.display()))?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let shutdown = async {
        tokio::select! {
            () = shutdown_signal() => {}
            why = exited => lost = Some(why),
            result = announce => lost = result.err().map(|error| format!("{error:#}")),
        }
    };
    let result = worker.run_until(shutdown).await;
    stack.stop().await;
    if let Some(file) = &args.ready_file {
        // What it names is gone.
        let _ = std::fs::remove_file(file);
    }
    result?;
    match lost {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(anyhow::anyhow!(why)),
    }
}

fn banner(peers: &Peers, http_url: &str) -> String {
    format!(
        "\n  worker-agents development stack is up\n\
         \n  Temporal UI      {}\
         \n  Temporal         {} (namespace {})\
         \n  Kafka            {}\
         \n  Schema Registry  {}\
         \n  Ticket service   {}\
         \n  Service Registry {}\
         \n  Worker           {http_url}/health  /ready  /metrics\n\
         \n  This Kafka is embedded and NOT durable: it keeps 5 MiB a partition, in memory. For development only.\
         \n  Try:  KAFKA_BOOTSTRAP_SERVERS={} KAFKA_SCHEMA_REGISTRY_URL={} worker-agents submit --wait tickets.json\n\
         \n  Ctrl-C ends everything.\n",
        peers.temporal_ui_url,
        peers.temporal_address,
        peers.temporal_namespace,
        peers.kafka_bootstrap,
        peers.schema_registry_url,
        peers.execution_ticket_service_url,
        peers.service_registry_address,
        peers.kafka_bootstrap,
        peers.schema_registry_url,
    )
}

/// Writes the file whole or not at all: whoever waits for it never reads half of it.
fn write_ready_file(file: &Path, peers: &Peers, http_url: &str, metrics_url: &str) -> anyhow::Result<()> {
    let mut ready = serde_json::to_value(peers)?;
    ready["http_url"] = http_url.into();
    ready["metrics_url"] = metrics_url.into();
    let name = file.file_name().context("the path names no file")?.to_string_lossy().into_owned();
    let part = file.with_file_name(format!(".{name}.part"));
    std::fs::write(&part, format!("{ready}\n"))?;
    std::fs::rename(&part, file)?;
    Ok(())
}
