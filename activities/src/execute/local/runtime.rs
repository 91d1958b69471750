//! The local runtime as an executor.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use ticket_workflows::{Completed, Evidence, ExecutionReport, ExternalState, Failed, FailureClass, Outcome, code};

use super::command::{AllowList, argv};
use super::environment::environment;
use super::process::{Ended, Launch, Process, STREAM_MARGIN};
use super::working_dir::WorkingDir;
use crate::execute::command::time_limit;
use crate::execute::output::last_line;
use crate::executor::{Executor, Job, Recognition};
use crate::sandbox::{Cgroups, Confinement, Level, Limits, Network, Over, Policy, Sandbox, SandboxConfig};
use crate::supervisor::{Notice, StartError, SupervisorCommand};

/// Longest time between TERM and KILL: after it come the confirmation, the end of the output and that of the log, before the server
/// gives the attempt up.
pub const MOST_GRACE: Duration = Duration::from_secs(17);
/// How often the heartbeat's progress is renewed.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Commands of the default allow-list that do nothing without a network.
const ONLINE: [&str; 3] = ["terraform", "kubectl", "helm"];

/// Settings of the local runtime.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// `LOCAL_RUNTIME_ENABLE_SANDBOX`: whether only the allowed commands may run.
    pub allow_list: bool,
    /// What confines commands; `None`: nothing does.
    pub sandbox: Option<SandboxConfig>,
    /// `LOCAL_RUNTIME_ALLOWED_COMMANDS`: names, resolved once on `search_path`.
    pub allowed_commands: Vec<String>,
    /// `LOCAL_RUNTIME_WORKING_DIR`: no command runs outside it.
    pub working_dir: PathBuf,
    /// `LOCAL_RUNTIME_TIMEOUT_SECONDS`: time of a command that names none.
    pub default_timeout: Duration,
    /// Between TERM and KILL; [`MOST_GRACE`] at most.
    pub grace: Duration,
    /// Bytes kept of each stream, of its two ends. 64 KiB: two streams of control characters, six bytes each as JSON, still fit a
    /// Kafka message of 1 MiB.
    pub output_limit: usize,
    /// `PATH` of commands, and where their binaries are looked for.
    pub search_path: OsString,
    /// The supervisor.
    pub supervisor: SupervisorCommand,
}

/// Parameters of a local command (`contracts/executors.md`, EXECUTE).
#[derive(Debug, Deserialize)]
pub struct LocalParams {
    command: Option<Value>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    working_dir: Option<String>,
    timeout_seconds: Option<f64>,
    #[serde(default)]
    shell: bool,
}

impl LocalParams {
    /// A command line: no word is read as anything but text.
    pub(crate) fn of(
        words: Vec<String>,
        env_vars: BTreeMap<String, String>,
        working_dir: Option<String>,
        timeout: Duration,
    ) -> Self {
        Self {
            command: Some(words.into()),
            args: Vec::new(),
            env_vars,
            working_dir,
            timeout_seconds: Some(timeout.as_secs_f64()),
            shell: false,
        }
    }
}

/// Runs commands as local processes.
#[derive(Debug)]
pub struct LocalRuntime {
    pub(super) config: LocalConfig,
    allowed: AllowList,
    sandbox: Option<Sandbox>,
}

impl LocalRuntime {
    /// Resolves the allowed commands; those that are not installed are refused when a ticket asks for them. Looks for what
    /// a sandbox needs of the machine.
    #[must_use]
    pub fn new(config: LocalConfig) -> Self {
        let allowed = AllowList::resolve(config.allow_list, &config.allowed_commands, &config.search_path);
        if config.sandbox.as_ref().is_some_and(|sandbox| sandbox.network == Network::None) {
            let installed = config.allowed_commands.iter().filter(|name| allowed.binary(name).is_ok());
            for name in installed.filter(|name| ONLINE.contains(&name.as_str())) {
                tracing::warn!(
                    command = name,
                    "a command that needs a network is allowed, and commands have none: set LOCAL_RUNTIME_NETWORK=host, or take it \
                     out of LOCAL_RUNTIME_ALLOWED_COMMANDS"
                );
            }
        }
        let sandbox = config.sandbox.clone().map(Sandbox::new);
        Self { config, allowed, sandbox }
    }
}

/// A command about to run.
struct Prepared {
    binary: PathBuf,
    argv: Vec<String>,
    folder: WorkingDir,
    environment: BTreeMap<OsString, OsString>,
    policy: Option<Policy>,
    limit: Duration,
}

/// Why a command ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Itself,
    TimeOut,
    Stop,
    Over(Over),
}

impl Executor for LocalRuntime {
    type Params = LocalParams;

    /// A process dies with its worker (its supervisor sees to that), but how far it came is not known.
    const RECOGNITION: Recognition = Recognition::None;

    async fn execute(&self, params: LocalParams, job: Job) -> Outcome {
        match self.prepare(params, &job) {
            Ok(prepared) => self.run(prepared, job).await,
            Err(failed) => failed.into(),
        }
    }
}

impl LocalRuntime {
    /// Whether there is a sandbox, where the ticket's classification demands one.
    pub(super) fn may_work_for(&self, job: &Job) -> Result<(), Failed> {
        if self.sandbox.is_none() && Level::demanded_by(job.ticket.security_level) > Level::None {
            return Err(confined_too_little(job, Confinement::unconfined()));
        }
        Ok(())
    }

    fn prepare(&self, params: LocalParams, job: &Job) -> Result<Prepared, Failed> {
        if params.shell {
            return Err(Failed::permanent(
                code::INVALID_PARAMETERS,
                "parameter \"shell\" is true, and commands never run through a shell; give the program and its arguments as \"command\" and \"args\"",
            ));
        }
        self.may_work_for(job)?;
        let argv = argv(params.command.as_ref(), params.args)?;
        let binary = self.allowed.binary(&argv[0])?;
        let wanted = time_limit(params.timeout_seconds, self.config.default_timeout)?;
        let folder = WorkingDir::prepare(
            &self.config.working_dir,
            params.working_dir.as_deref(),
            job.ticket.ticket_id.as_str(),
            job.attempt,
        )?;
        let environment = environment(&self.config.search_path, folder.path(), params.env_vars)?;
        let demanded = Level::demanded_by(job.ticket.security_level);
        let policy =
            self.sandbox.as_ref().map(|sandbox| sandbox.policy(folder.path(), self.allowed.programs(), demanded));
        Ok(Prepared { binary, argv, folder, environment, policy, limit: wanted.min(job.time_left) })
    }

    async fn run(&self, prepared: Prepared, job: Job) -> Outcome {
        let started = Instant::now();
        let launch = Launch {
            supervisor: &self.config.supervisor,
            grace: self.config.grace,
            binary: &prepared.binary,
            arguments: &prepared.argv[1..],
            folder: prepared.folder.path(),
            environment: prepared.environment,
            output_limit: self.config.output_limit,
            log: job.progress.log().clone(),
            sandbox: self.sandbox.as_ref().zip(prepared.policy),
        };
        let mut process = match Process::start(launch).await {
            Ok(process) => process,
            Err(StartError::NotStarted(error)) => {
                let message = format!("the process could not be started: {error}");
                return Failed::new(code::INFRASTRUCTURE, FailureClass::Unavailable { after_ms: None }, message).into();
            }
            Err(StartError::Refused(confinement)) => return confined_too_little(&job, confinement).into(),
            Err(StartError::Lost(_)) => return supervisor_lost().into(),
        };
        let pid = process.pid();
        let sandbox = process.confinement().level().as_str();
        tracing::info!(pid, binary = %prepared.binary.display(), sandbox, "process started");
        let (cause, notice) = watch(&mut process, &job, prepared.limit.saturating_sub(started.elapsed())).await;
        let ended = process.finish(notice).await;
        tracing::info!(pid, exit_code = ended.exit_code, signal = ended.signal, "process ended");
        let run = Run {
            pid,
            binary: prepared.binary,
            argv: prepared.argv,
            limit: prepared.limit,
            took: started.elapsed(),
            sandbox: self.sandbox.as_ref(),
        };
        run.outcome(cause, ended, self.config.output_limit)
    }
}

/// Waits for the command's end, its time-out or a stop, whichever is first.
async fn watch(process: &mut Process, job: &Job, limit: Duration) -> (Cause, Option<Notice>) {
    let time_out = tokio::time::sleep(limit);
    let mut time_out = std::pin::pin!(time_out);
    let mut over = std::pin::pin!(process.over());
    let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
    let cause = loop {
        tokio::select! {
            notice = process.ended() => return (Cause::Itself, notice),
            () = &mut time_out => break Cause::TimeOut,
            () = job.stop.cancelled() => break Cause::Stop,
            over = &mut over => return (Cause::Over(over), process.kill().await),
            _ = progress.tick() => {
                let (stdout, stderr) = process.bytes();
                job.progress.set(json!({ "pid": process.pid(), "stdout_bytes": stdout, "stderr_bytes": stderr }));
            }
        }
    };
    (cause, process.stop().await)
}

/// The ticket's classification demands more than this worker has.
fn confined_too_little(job: &Job, confinement: Confinement) -> Failed {
    let classification = job.ticket.security_level;
    Failed::permanent(
        code::ISOLATION_NOT_AVAILABLE,
        format!(
            "the ticket's security_level is {}, which demands the sandbox level {}, and this worker has {}; nothing was \
             run. missing: {}. `worker-agents doctor sandbox` shows what this worker has; run the ticket where there is more",
            classification.as_str(),
            Level::demanded_by(classification).as_str(),
            confinement.level().as_str(),
            confinement.shortfall(),
        ),
    )
}

/// The command ran, or may have; nobody can say how it ended.
fn supervisor_lost() -> Failed {
    let mut failed = Failed::new(
        code::INFRASTRUCTURE,
        FailureClass::Retry { after_ms: None },
        "the process supervisor was lost, and with it the command's answer",
    );
    failed.external_state = Some(ExternalState::Unknown);
    failed
}

/// A command that has run.
struct Run<'a> {
    pid: i32,
    binary: PathBuf,
    argv: Vec<String>,
    limit: Duration,
    took: Duration,
    sandbox: Option<&'a Sandbox>,
}

impl Run<'_> {
    /// The limit that ended it, when one did: the worker saw it, or the kernel.
    fn over(&self, cause: Cause, ended: &Ended) -> Option<(Over, &Limits)> {
        let limits = self.sandbox?.limits();
        let over = match cause {
            Cause::Over(over) => over,
            Cause::Itself if ended.exit_code == Some(0) => return None,
            Cause::Itself if ended.killed_for_memory > 0 => Over::Memory,
            Cause::Itself if ended.signal == Some(Signal::SIGXFSZ as i32) => Over::File,
            Cause::Itself | Cause::TimeOut | Cause::Stop => return None,
        };
        Some((over, limits))
    }

    /// What the program is called in evidence.
    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.binary.file_name().unwrap_or(self.binary.as_os_str()).to_string_lossy()
    }

    fn outcome(self, cause: Cause, ended: Ended, output_limit: usize) -> Outcome {
        let answered = match (ended.exit_code, ended.signal) {
            (Some(code), _) => Some(format!("exit code {code}")),
            (None, Some(signal)) => Some(format!("ended by signal {signal}")),
            (None, None) => None,
        };
        let evidence = answered.as_ref().and_then(|answered| {
            Evidence::new(format!("local process {} ({})", self.pid, self.name()), answered.clone()).ok()
        });
        let state = if ended.confirmed { ExternalState::ConfirmedStopped } else { ExternalState::Unknown };
        let last_line = last_line(&ended.stderr.text);
        let report = self.report(&ended, answered.as_deref(), output_limit);
        let fail = |code: &str, class: FailureClass, message: String, state: Option<ExternalState>| {
            let mut failed = Failed::new(code, class, message);
            failed.evidence = evidence.clone();
            failed.report = report.clone();
            failed.external_state = state;
            Outcome::Failed(failed)
        };
        if let Some((over, limits)) = self.over(cause, &ended) {
            return fail(code::LIMIT_EXCEEDED, FailureClass::Permanent, over.sentence(limits), Some(state));
        }
        match (cause, ended.exit_code) {
            (Cause::TimeOut, _) => fail(
                code::TIMEOUT,
                FailureClass::Retry { after_ms: None },
                format!(
                    "the command outlived its time-out of {} and was stopped; raise `timeout_seconds` or `sla.timeout_ms`",
                    shown_limit(self.limit)
                ),
                Some(state),
            ),
            (Cause::Stop, _) => {
                fail(code::CANCELLED, FailureClass::Permanent, "the command was stopped".to_owned(), Some(state))
            }
            (Cause::Itself, _) if ended.stopped => fail(
                code::INFRASTRUCTURE,
                FailureClass::Retry { after_ms: None },
                "somebody told the process supervisor to end, and it has ended the command".to_owned(),
                Some(state),
            ),
            (Cause::Itself, Some(0)) => match evidence.clone() {
                Some(evidence) => Outcome::Completed(Completed { evidence, report }),
                None => {
                    fail(code::INTERNAL, FailureClass::Permanent, "no evidence of the command's end".to_owned(), None)
                }
            },
            (Cause::Itself | Cause::Over(_), _) => match answered {
                Some(answered) => fail(
                    code::EXECUTION_FAILED,
                    FailureClass::Permanent,
                    format!(
                        "the command {}{last_line}",
                        if ended.exit_code.is_some() { format!("ended with {answered}") } else { answered }
                    ),
                    None,
                ),
                None => Failed { report: report.clone(), ..supervisor_lost() }.into(),
            },
        }
    }

    /// `exit_code`, `stdout`, `stderr`, `command` and the metadata of the contract (`contracts/executors.md`).
    fn report(&self, ended: &Ended, answered: Option<&str>, output_limit: usize) -> ExecutionReport {
        let mut report = ExecutionReport::default();
        // A shell's convention for a command that a signal ended.
        let exit_code = ended.exit_code.or(ended.signal.map(|signal| 128 + signal));
        let mut command: Vec<&str> = Vec::new();
        let mut left = output_limit;
        for word in &self.argv {
            if word.len() > left {
                command.push("…");
                break;
            }
            left -= word.len();
            command.push(word);
        }
        report.output = BTreeMap::from([
            ("exit_code".to_owned(), json!(exit_code)),
            ("stdout".to_owned(), json!(ended.stdout.text)),
            ("stderr".to_owned(), json!(ended.stderr.text)),
            ("command".to_owned(), json!(command)),
        ]);
        report.metadata = BTreeMap::from([
            ("executor".to_owned(), json!("ExecuteExecutor")),
            ("runtime".to_owned(), json!("local")),
            ("simulated".to_owned(), json!(false)),
            ("duration_seconds".to_owned(), json!(self.took.as_millis() as f64 / 1000.0)),
            ("sandbox".to_owned(), self.confined(ended)),
        ]);
        for (name, stream) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
            stream.describe(&mut report, name);
        }
        if let Some(answered) = answered {
            report.logs.push(format!("process {} {answered}", self.pid));
        }
        if ended.refused_processes > 0 {
            report.logs.push(format!(
                "{} process(es) or thread(s) were refused: LOCAL_RUNTIME_MAX_PROCESSES bounds them",
                ended.refused_processes
            ));
        }
        if ended.output_missing {
            report.metadata.insert("output_missing".to_owned(), json!(true));
            report.logs.push(format!(
                "somebody holds the command's output open: what came later than {} s after its end is missing",
                STREAM_MARGIN.as_secs()
            ));
        }
        if ended.leftovers > 0 {
            report.logs.push(format!("{} process(es) left behind by the command were ended", ended.leftovers));
        }
        report
    }

    /// What confined it, the version of the cgroup that bounded it, and what that bounds.
    fn confined(&self, ended: &Ended) -> Value {
        let mut confined = ended.confinement.describe();
        let cgroups = self.sandbox.map(Sandbox::cgroups);
        confined["cgroup"] = json!(cgroups.and_then(Cgroups::version).unwrap_or("none"));
        confined["cgroup_bounds"] = json!(cgroups.map(Cgroups::bounds).unwrap_or_default());
        confined
    }
}

fn shown_limit(limit: Duration) -> String {
    if limit < Duration::from_secs(1) {
        format!("{} ms", limit.as_millis())
    } else {
        format!("{:.1} s", limit.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LOG_END;
    use crate::supervisor::ANSWER_MARGIN;

    #[test]
    fn a_stopped_command_answers_before_the_server_gives_it_up() {
        assert!(MOST_GRACE + ANSWER_MARGIN + STREAM_MARGIN + LOG_END < Duration::from_secs(30));
    }
}
