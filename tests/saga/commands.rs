//! What undoes commands: scripts and removals, on a local runtime each of whose calls can fail.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ticket_activities::compensate::{GenericCleanup, RollbackExecution};
use ticket_activities::execute::local::{Allowance, LocalConfig, LocalParams, LocalRuntime, Workplace};
use ticket_activities::supervisor::SupervisorCommand;
use ticket_activities::{Failed, FailureClass, Job, Outcome, code};
use ticket_schemas::{Ticket, compensation_of, decode_json_ticket};

use crate::harness::{ProviderFailed, Saga, Steps};

/// Takes back what a command made, and gives the deposit back once.
const UNDO: &str = "if [ -e made ]; then rm made && echo returned >> deposit; fi";
/// The folder that the tickets name.
const FOLDER: &str = "work/inner";

struct Inner {
    folder: tempfile::TempDir,
    steps: Steps,
    local: LocalRuntime,
}

/// A folder in which a command has failed half way, and a runtime there.
#[derive(Clone)]
pub(crate) struct Workshop(Arc<Inner>);

impl Workshop {
    fn begin(steps: Steps) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let work = folder.path().join(FOLDER);
        std::fs::create_dir_all(work.join("dist/deep")).expect("folders");
        for file in ["made", "kept", "dist/a", "dist/deep/b", "report.xml", "../beside"] {
            std::fs::write(work.join(file), file).expect("written");
        }
        let local = LocalRuntime::new(LocalConfig {
            allow_list: true,
            sandbox: None,
            allowed_commands: vec!["sh".to_owned()],
            working_dir: folder.path().to_owned(),
            default_timeout: Duration::from_secs(60),
            grace: Duration::from_millis(500),
            output_limit: 10_000,
            search_path: OsString::from("/usr/local/bin:/usr/bin:/bin"),
            supervisor: SupervisorCommand {
                program: env!("CARGO_BIN_EXE_worker-agents").into(),
                arguments: vec!["supervise-process".into()],
            },
        });
        Self(Arc::new(Inner { folder, steps, local }))
    }

    /// Every file with its text.
    fn world(&self) -> String {
        let root = self.0.folder.path();
        let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(root).expect("below the root").to_owned();
                if path.is_dir() {
                    found.insert(name, "a folder".to_owned());
                    folders.push(path);
                } else {
                    found.insert(name, std::fs::read_to_string(path).expect("text"));
                }
            }
        }
        format!("{found:?}")
    }
}

impl Workplace for Workshop {
    fn find_folder(&self, folder: &str, job: &Job) -> Result<bool, Failed> {
        self.0.local.find_folder(folder, job)
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        let run = self.0.local.run_command(command, job);
        self.0.steps.step(run).await.unwrap_or_else(|ProviderFailed| lost().into())
    }

    async fn remove_left(&self, folder: &str, name: &Path, allowance: &Allowance) -> Result<bool, Failed> {
        let removal = self.0.local.remove_left(folder, name, allowance);
        self.0.steps.step(removal).await.unwrap_or_else(|ProviderFailed| Err(lost()))
    }
}

/// The machine has done nothing, or everything, and does not say which.
fn lost() -> Failed {
    Failed::new(code::INFRASTRUCTURE, FailureClass::Retry { after_ms: None }, "no answer")
}

fn ticket(task_type: &str, parameters: &Value) -> Ticket {
    let text = json!({ "ticket_id": "t-1", "task_id": "t", "task_type": task_type, "status": "PENDING",
                       "dependencies": [], "parameters": parameters });
    decode_json_ticket(text.to_string().as_bytes()).expect("a ticket")
}

/// `rollback_execution` of a ticket with a script and outputs.
pub(crate) struct Rollback(Workshop);

impl Saga for Rollback {
    type Undo = RollbackExecution<Workshop>;

    const ACTION: &'static str = "rollback_execution";

    fn begin(steps: Steps) -> Self {
        Self(Workshop::begin(steps))
    }

    fn undo(&self) -> Self::Undo {
        RollbackExecution::new(self.0.clone())
    }

    fn ticket(&self) -> Ticket {
        let original = ticket(
            "EXECUTE",
            &json!({ "command": "sh", "working_dir": FOLDER, "rollback_script": ["sh", "-c", UNDO],
                    "cleanup_outputs": ["dist", "report.xml", "never-made"] }),
        );
        compensation_of(&original, "run#1", 1_773_653_400_000).expect("a type with an undo")
    }

    fn world(&self) -> String {
        self.0.world()
    }
}

/// `generic_cleanup` of a ticket with outputs.
pub(crate) struct Cleanup(Workshop);

impl Saga for Cleanup {
    type Undo = GenericCleanup<Workshop>;

    const ACTION: &'static str = "generic_cleanup";

    fn begin(steps: Steps) -> Self {
        Self(Workshop::begin(steps))
    }

    fn undo(&self) -> Self::Undo {
        GenericCleanup::new(self.0.clone())
    }

    fn ticket(&self) -> Ticket {
        let original = json!({ "working_dir": FOLDER, "cleanup_outputs": ["dist", "report.xml"] });
        ticket(
            "COMPENSATE",
            &json!({ "action": Self::ACTION, "original_task_type": "TRANSFORM", "original_params": original.to_string() }),
        )
    }

    fn world(&self) -> String {
        self.0.world()
    }
}
