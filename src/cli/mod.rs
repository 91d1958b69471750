//! The command line.
//!
//! Exit codes: 0 success, 1 tickets failed, checks did not pass, nothing was found or an order was refused, 2 wrong usage or settings, 3 infrastructure.

mod agents;
mod config;
mod dlq;
mod doctor;
mod explain;
mod follow;
mod logs;
mod output;
mod run;
mod submit;
mod ticket;
mod tickets;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, MapSource};

pub use follow::{Followed, ResultFollower, TopicFollower};
pub use tickets::{Encoding, TicketPublisher, complete, parse_tickets};

/// A mistake of the caller: wrong usage, a wrong setting, an invalid ticket.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

#[derive(Parser)]
#[command(name = "worker-agents", version, about, long_about = None, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Settings are environment variables; `worker-agents config` lists them.\n\
Exit codes: 0 success, 1 tickets failed, checks did not pass, nothing was found or an order was refused, 2 wrong usage or settings, 3 infrastructure.";

#[derive(Subcommand)]
enum Command {
    /// Run the worker: tickets from Kafka become Temporal workflows
    Run,
    /// Run everything in one process tree: Kafka, Schema Registry, Temporal with its UI, and the worker
    #[cfg(feature = "dev-stack")]
    Dev(crate::dev::DevArgs),
    /// Start the development stack, run a plan of real tickets through it and check every outcome
    #[cfg(feature = "dev-stack")]
    Demo(crate::dev::DemoArgs),
    /// Publish tickets: one JSON object, an array, or JSON lines
    Submit(submit::SubmitArgs),
    /// Say what a ticket waits for, since when and until when, or how it ended
    Explain(explain::ExplainArgs),
    /// Print what a ticket has written, and with -f what it writes
    Logs(logs::LogsArgs),
    /// Cancel, pause, resume and retry a ticket, extend its deadline, skip a dependency
    Ticket(ticket::TicketArgs),
    /// List, show and re-drive dead letters
    Dlq(dlq::DlqArgs),
    /// List and watch the agents that the Service Registry knows
    Agents(agents::AgentsArgs),
    /// Print every setting, its value, and where it came from
    Config(config::ConfigArgs),
    /// Check what the worker needs, and say how to fix what is missing
    Doctor(doctor::DoctorArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Supervise one process tree (started by the worker itself)
    #[command(hide = true)]
    SuperviseProcess(SuperviseArgs),
    /// Confine this process and become a program (started by a supervisor)
    #[command(hide = true)]
    Confine(ConfineArgs),
    /// Print the points at which WORKER_AGENTS_KILL_AT=<point>:<n> kills `run`, one a line
    #[cfg(feature = "dev-stack")]
    #[command(hide = true)]
    Failpoints,
}

#[derive(Args)]
struct SuperviseArgs {
    /// Between TERM and KILL, in milliseconds
    #[arg(long)]
    grace_ms: u64,
    /// What the program may do, as JSON
    #[arg(long)]
    sandbox: Option<String>,
    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(Args)]
struct ConfineArgs {
    /// What the program may do, as JSON
    #[arg(long)]
    policy: String,
    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(Args)]
struct ProgramArgs {
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl ProgramArgs {
    fn split(self) -> (OsString, Vec<OsString>) {
        let mut words = self.command.into_iter();
        // clap requires at least one.
        (words.next().unwrap_or_default(), words.collect())
    }
}

/// Parses the process's arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match cli.command {
        Command::SuperviseProcess(args) => {
            let (program, arguments) = args.program.split();
            let grace = Duration::from_millis(args.grace_ms);
            return ticket_activities::supervisor::main(grace, args.sandbox, program, arguments);
        }
        Command::Confine(args) => {
            let (program, arguments) = args.program.split();
            return ticket_activities::sandbox::main(&args.policy, program, arguments);
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "worker-agents", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        #[cfg(feature = "dev-stack")]
        Command::Failpoints => {
            ticket_activities::failpoints::points().for_each(|point| println!("{point}"));
            return ExitCode::SUCCESS;
        }
        Command::Run => block_on(run::run),
        #[cfg(feature = "dev-stack")]
        Command::Dev(args) => block_on(|| crate::dev::run(args)),
        #[cfg(feature = "dev-stack")]
        Command::Demo(args) => block_on(|| crate::dev::demo::run(args)),
        Command::Submit(args) => block_on(|| submit::run(args)),
        Command::Explain(args) => block_on(|| explain::run(args)),
        Command::Logs(args) => block_on(|| logs::run(args)),
        Command::Ticket(args) => block_on(|| ticket::run(args)),
        Command::Dlq(args) => block_on(|| dlq::run(args)),
        Command::Agents(args) => block_on(|| agents::run(args)),
        Command::Config(args) => config::run(&args),
        Command::Doctor(args) => block_on(|| doctor::run(args)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("worker-agents: {error:#}");
        ExitCode::from(if error.is::<UsageError>() || error.is::<crate::config::ConfigErrors>() { 2 } else { 3 })
    })
}

fn block_on<F: Future<Output = anyhow::Result<ExitCode>>>(command: impl FnOnce() -> F) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command());
    // What still runs is not waited for: whoever needed an orderly end has had one.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Settings of this process.
///
/// # Errors
/// Every wrong setting.
pub fn settings() -> anyhow::Result<Config> {
    let source = MapSource::process().map_err(|error| UsageError(format!(".env cannot be read: {error}")))?;
    Ok(Config::read(&source)?)
}

/// The same for a command that calls peers: with what Vault keeps for it, if settings say that Vault does.
///
/// # Errors
/// As [`settings`], and when Vault gives nothing.
pub async fn settings_and_secrets() -> anyhow::Result<Config> {
    let config = settings()?;
    if let Some(vault) = config.vault.as_ref().filter(|vault| !vault.held.paths().is_empty()) {
        crate::vault::load(vault).await?;
    }
    Ok(config)
}

/// Resolves on Ctrl-C or SIGTERM.
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut wait: Vec<_> =
        [SignalKind::interrupt(), SignalKind::terminate()].into_iter().filter_map(|kind| signal(kind).ok()).collect();
    futures::future::select_all(wait.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

/// User and host, as far as the system knows them.
fn who() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid-{uid}"), |user| user.name);
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned());
    format!("{user}@{}", host.unwrap_or_else(|_| "unknown".to_owned()))
}
