//! `worker-agents doctor sandbox`: what confines local commands on this machine. It is tried, not guessed.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use ticket_activities::sandbox::{Cgroups, Confinement, Level, Part, Sandbox};
use ticket_activities::supervisor::Supervised;
use ticket_schemas::SecurityLevel;

use crate::cli::settings;
use crate::config::LocalRuntimeConfig;
use crate::worker::supervisor;

/// Between TERM and KILL of a process that prints a version.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct SandboxArgs {
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &SandboxArgs) -> anyhow::Result<ExitCode> {
    let config = settings()?.local;
    let sandbox = config.sandbox.clone().map(Sandbox::new);
    let confinement = match &sandbox {
        Some(sandbox) => tried(sandbox, &config).await.context("no process can be confined here")?,
        None => Confinement::unconfined(),
    };
    let cgroups = sandbox.as_ref().map(Sandbox::cgroups);
    if args.json {
        println!("{}", report(&confinement, cgroups));
    } else {
        print(&confinement, cgroups);
    }
    Ok(ExitCode::from(u8::from(confinement.level() < Level::Full)))
}

/// Runs this very program as a command of a ticket would run.
async fn tried(sandbox: &Sandbox, config: &LocalRuntimeConfig) -> anyhow::Result<Confinement> {
    let root = config.working_dir.display();
    std::fs::create_dir_all(&config.working_dir).with_context(|| format!("{root}; see LOCAL_RUNTIME_WORKING_DIR"))?;
    let folder = config.working_dir.canonicalize().with_context(|| root.to_string())?;
    let own = std::env::current_exe()?;
    let policy = sandbox.policy(&folder, std::slice::from_ref(&own), Level::None);
    let supervisor = supervisor().with_sandbox(&policy)?;
    let mut process = Supervised::start(&supervisor, GRACE, &own, ["--version"], |command| {
        command.current_dir(&folder).env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    })
    .await?;
    let confinement = process.confinement();
    let notice = process.ended().await;
    process.collect(notice.as_ref()).await;
    Ok(confinement)
}

/// Tickets that run with this, by their classification.
fn runs(confinement: &Confinement, classification: SecurityLevel) -> bool {
    confinement.level() >= Level::demanded_by(classification)
}

fn print(confinement: &Confinement, cgroups: Option<&Cgroups>) {
    if cgroups.is_none() {
        println!("LOCAL_RUNTIME_ENABLE_SANDBOX is false: nothing confines commands; set it to true");
    }
    for part in Part::ALL {
        let has = confinement.has(part);
        println!("{} {}", if has { "ok  " } else { "FAIL" }, part.as_str());
        println!("     {}: {}", if has { "now" } else { "would be" }, part.meaning());
        if !has {
            println!("     fix: {}", part.remedy());
        }
    }
    for (what, bounded) in bounds(cgroups) {
        println!("ok   limit of {what}: {}", if bounded { BY_CGROUP } else { BY_WORKER });
    }
    println!("the sandbox is {} (Landlock ABI {})", confinement.level().as_str(), confinement.landlock_abi);
    for classification in SecurityLevel::ALL {
        let verdict = if runs(confinement, *classification) { "run" } else { "are refused" };
        println!("tickets with security_level {} {verdict}", classification.as_str());
    }
}

const BY_CGROUP: &str = "by a cgroup for each command";
const BY_WORKER: &str = "by the worker, which looks ten times a second; a cgroup that is delegated to it would be exact \
                         (systemd: Delegate=yes)";

/// Each limit of a whole tree, and whether a cgroup keeps it. None without a sandbox.
fn bounds(cgroups: Option<&Cgroups>) -> Vec<(&'static str, bool)> {
    cgroups.map_or_else(Vec::new, |cgroups| {
        vec![("processes", cgroups.bound_processes()), ("memory", cgroups.bound_memory())]
    })
}

fn report(confinement: &Confinement, cgroups: Option<&Cgroups>) -> serde_json::Value {
    let parts = Part::ALL.map(|part| {
        json!({
            "part": part.as_str(), "granted": confinement.has(part), "means": part.meaning(), "fix": part.remedy(),
        })
    });
    let tickets = SecurityLevel::ALL.iter().map(|level| (level.as_str().to_owned(), runs(confinement, *level).into()));
    json!({
        "enabled": cgroups.is_some(), "sandbox": confinement.describe(), "parts": parts,
        "cgroup": cgroups.and_then(Cgroups::version).unwrap_or("none"),
        "tickets": tickets.collect::<serde_json::Map<_, _>>(),
    })
}
