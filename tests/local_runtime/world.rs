//! One test's runtime, in a folder of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ticket_activities::execute::local::{LocalConfig, LocalRuntime};
use ticket_activities::sandbox::{Limits, Network, SandboxConfig};
use ticket_activities::supervisor::SupervisorCommand;
use ticket_activities::{Completed, Executor, Failed, Job, Outcome, Progress};
use ticket_schemas::{ParameterView, Ticket, decode_json_ticket};
use tokio_util::sync::CancellationToken;

pub(crate) const GRACE: Duration = Duration::from_millis(800);
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const ALLOWED: [&str; 11] =
    ["sh", "bash", "python3", "node", "cat", "dd", "env", "pwd", "true", "sleep", "no-such-program"];

/// One test's runtime.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: Arc<LocalRuntime>,
    pub(crate) stop: CancellationToken,
    pub(crate) time_left: Duration,
    pub(crate) security_level: &'static str,
    pub(crate) attempt: u32,
    /// What executors tell of attempts, and what commands write.
    pub(crate) progress: Progress,
    /// What a lost worker has told; null: none was lost.
    pub(crate) recorded: Value,
}

impl World {
    /// Commands in the sandbox, as the defaults have it.
    pub(crate) fn new() -> Self {
        Self::confined(|_| {})
    }

    pub(crate) fn confined(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let mut sandbox = SandboxConfig {
            network: Network::None,
            readable: Vec::new(),
            limits: Limits { memory: 1 << 30, processes: 100, file: 64 << 20, folder: 256 << 20, open_files: 256 },
            cgroups: true,
        };
        change(&mut sandbox);
        Self::with(supervisor(), Some(sandbox))
    }

    pub(crate) fn unconfined() -> Self {
        Self::with(supervisor(), None)
    }

    pub(crate) fn supervised(supervisor: SupervisorCommand) -> Self {
        Self::with(supervisor, None)
    }

    fn with(supervisor: SupervisorCommand, sandbox: Option<SandboxConfig>) -> Self {
        let folder = tempfile::tempdir().expect("temp dir");
        let runtime = Arc::new(LocalRuntime::new(LocalConfig {
            allow_list: true,
            sandbox,
            allowed_commands: ALLOWED.map(str::to_owned).to_vec(),
            working_dir: folder.path().join("root"),
            default_timeout: Duration::from_secs(60),
            grace: GRACE,
            output_limit: 10_000,
            search_path: OsString::from(PATH),
            supervisor,
        }));
        let (stop, time_left) = (CancellationToken::new(), Duration::from_secs(60));
        Self {
            folder,
            runtime,
            stop,
            time_left,
            security_level: "INTERNAL",
            attempt: 1,
            progress: Progress::default(),
            recorded: Value::Null,
        }
    }

    pub(crate) async fn run(&self, parameters: Value) -> Outcome {
        self.run_by(&self.runtime, parameters).await
    }

    /// Has an executor run a ticket with these parameters.
    pub(crate) async fn run_by<E: Executor>(&self, executor: &E, parameters: Value) -> Outcome {
        let ticket = self.ticket(&parameters);
        let params: E::Params = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
        let job = Job {
            ticket: Arc::new(ticket),
            run_id: "run".to_owned(),
            attempt: self.attempt,
            lost_workers: u32::from(!self.recorded.is_null()),
            time_left: self.time_left,
            recorded: self.recorded.clone(),
            stop: self.stop.clone(),
            detach: CancellationToken::new(),
            progress: self.progress.clone(),
        };
        executor.execute(params, job).await
    }

    fn ticket(&self, parameters: &Value) -> Ticket {
        let text = json!({ "ticket_id": "t-1", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING",
                           "dependencies": [], "parameters": parameters, "security_level": self.security_level });
        decode_json_ticket(text.to_string().as_bytes()).expect("a ticket")
    }

    pub(crate) async fn sh(&self, script: &str) -> Outcome {
        self.run(json!({ "command": "sh", "args": ["-c", script] })).await
    }

    /// Runs a Python script with arguments, which prints one JSON value.
    pub(crate) async fn python(&self, script: &str, arguments: &[&str]) -> Value {
        let mut args = vec!["-c", script];
        args.extend(arguments);
        let done = completed(self.run(json!({ "command": "python3", "args": args })).await);
        let said = done.report.output["stdout"].as_str().expect("text");
        serde_json::from_str(said).unwrap_or_else(|error| panic!("{error} in {said:?}, {:?}", done.report))
    }

    /// Whatever a command has tried, the next one runs.
    pub(crate) async fn still_works(&self) {
        assert_eq!(completed(self.sh("echo fine").await).report.output["stdout"], "fine\n");
    }

    /// Whether this kernel grants all of the sandbox. Says so when it does not.
    pub(crate) async fn is_full(&self) -> bool {
        let sandbox = completed(self.run(json!({ "command": "true" })).await).report.metadata["sandbox"].clone();
        let all = sandbox["missing"] == json!(missing([]));
        if !all {
            eprintln!("NOT TRIED: this kernel does not grant all of the sandbox: {sandbox}");
        }
        all
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn supervisor() -> SupervisorCommand {
    SupervisorCommand {
        program: env!("CARGO_BIN_EXE_worker-agents").into(),
        arguments: vec!["supervise-process".into()],
    }
}

/// Whether tests run as root, whom the sandbox is never full for.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The parts that are missing: these, and for root the user.
pub(crate) fn missing<const N: usize>(parts: [&'static str; N]) -> Vec<&'static str> {
    parts.into_iter().chain(is_root().then_some("user")).collect()
}

pub(crate) fn completed(outcome: Outcome) -> Completed {
    match outcome {
        Outcome::Completed(completed) => completed,
        Outcome::Failed(failed) => panic!("{failed:?}"),
    }
}

pub(crate) fn failed(outcome: Outcome) -> Failed {
    match outcome {
        Outcome::Completed(completed) => panic!("{completed:?}"),
        Outcome::Failed(failed) => failed,
    }
}

/// Processes whose command line holds `marker`, zombies left out.
pub(crate) fn processes(marker: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if String::from_utf8_lossy(&line).contains(marker) && pid != std::process::id() as i32 {
            found.push(pid);
        }
    }
    found
}

pub(crate) async fn eventually(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !probe() {
        assert!(Instant::now() < deadline, "{what} did not happen within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
