//! `worker-agents doctor`: each line says what, why it matters, and how to fix it. The checks are those that `run` makes, and a
//! look at the endpoints of the worker that runs here.

mod endpoints;
mod sandbox;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::settings;
use crate::config::Config;
use crate::logs::Sink;
use crate::metrics::Metrics;
use crate::registry::RegistryClient;
use crate::service_registry::ServiceRegistryClient;
use crate::spiffe::WorkloadIdentity;
use crate::startup::{Check, Checks, Finding, State};
use crate::vault;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DoctorArgs {
    #[command(subcommand)]
    subject: Option<Subject>,
    /// Create what can be created: search attributes
    #[arg(long)]
    fix: bool,
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Subject {
    /// Confine a process as local commands are, and say what this machine grants and what is missing
    Sandbox(sandbox::SandboxArgs),
}

pub(super) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    if let Some(Subject::Sandbox(args)) = args.subject {
        return sandbox::run(&args).await;
    }
    let config = settings()?;
    if let Some(settings) = &config.vault {
        // Its check says what came of it.
        let _ = vault::load(settings).await;
    }
    let mut findings = settings_findings(&config);
    let registry = RegistryClient::of(&config.kafka)?.map(Arc::new);
    let metrics = Arc::new(Metrics::new()?);
    let identity = WorkloadIdentity::of_command(config.spiffe.as_ref(), Arc::clone(&metrics)).await;
    let agents = ServiceRegistryClient::of(&config, identity.clone(), metrics).map(Arc::new);
    let endpoints = endpoints::look(&config).await;
    let logs = Sink::of(&config.logs)?;
    let checks = Checks::new(config, None, registry, agents, identity, logs);
    findings.extend(checks.make(args.fix).await);
    findings.extend(endpoints);
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (failed, unknown) = (count(State::Failed), count(State::Unknown));
    if args.json {
        println!("{}", report(&findings, failed, unknown));
    } else {
        findings.iter().for_each(print);
        println!("{} checks, {failed} failed, {unknown} could not be made", findings.len());
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn settings_findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(Check::Settings, "settings are valid")];
    findings.extend(config.warnings.iter().map(|warning| Finding::ok(Check::Settings, format!("settings: {warning}"))));
    findings
}

fn print(finding: &Finding) {
    let mark = match finding.state {
        State::Ok => "ok  ",
        State::Unknown => "?   ",
        State::Failed => "FAIL",
    };
    println!("{mark} {}", finding.what);
    if finding.state != State::Ok {
        println!("     why: {}", finding.check.why());
        println!("     fix: {}", finding.fix);
    }
}

fn report(findings: &[Finding], failed: usize, unknown: usize) -> serde_json::Value {
    let lines = findings.iter().map(|finding| {
        json!({
            "check": finding.check, "state": finding.state, "what": finding.what, "why": finding.check.why(),
            "fix": finding.fix,
        })
    });
    json!({ "checks": lines.collect::<Vec<_>>(), "failed": failed, "unknown": unknown })
}
