//! The local runtime of EXECUTE.

use std::path::PathBuf;
use std::time::Duration;

use ticket_activities::execute::local::MOST_GRACE;
use ticket_activities::sandbox::SandboxConfig;

use super::reader::Reader;
use super::sandbox;

/// Settings of the local runtime.
#[derive(Debug, Clone)]
pub struct LocalRuntimeConfig {
    /// `LOCAL_RUNTIME_ENABLED`.
    pub enabled: bool,
    /// `LOCAL_RUNTIME_TIMEOUT_SECONDS`.
    pub timeout: Duration,
    /// `LOCAL_RUNTIME_ENABLE_SANDBOX`: the allow-list, and with it the sandbox.
    pub allow_list: bool,
    /// What confines commands; `None`: nothing does.
    pub sandbox: Option<SandboxConfig>,
    /// `LOCAL_RUNTIME_ALLOWED_COMMANDS`.
    pub allowed_commands: Vec<String>,
    /// `LOCAL_RUNTIME_WORKING_DIR`.
    pub working_dir: PathBuf,
    /// `LOCAL_RUNTIME_PATH`: where allowed commands are looked for, and `PATH` of commands.
    pub search_path: String,
    /// `LOCAL_RUNTIME_KILL_GRACE_SECONDS`: between TERM and KILL. 10 s in `contracts/settings.md`, hard-coded constants.
    pub grace: Duration,
}

impl LocalRuntimeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let working_dir = PathBuf::from(reader.text(
            "LOCAL_RUNTIME_WORKING_DIR",
            "/tmp/neural-hive-execution",
            "no command runs outside this folder",
        ));
        let sandboxed = reader.boolean(
            "LOCAL_RUNTIME_ENABLE_SANDBOX",
            true,
            "whether only the allowed commands may run, confined by the kernel",
        );
        let sandbox = sandbox::read(reader, &working_dir);
        let config = Self {
            enabled: reader.boolean("LOCAL_RUNTIME_ENABLED", true, "whether commands may run on this machine"),
            timeout: reader.seconds("LOCAL_RUNTIME_TIMEOUT_SECONDS", 300.0, "time of a command that names none"),
            allow_list: sandboxed,
            sandbox: sandboxed.then_some(sandbox),
            allowed_commands: reader.list(
                "LOCAL_RUNTIME_ALLOWED_COMMANDS",
                "python,python3,node,bash,sh,terraform,kubectl,helm",
                "commands that may run",
            ),
            working_dir,
            search_path: {
                let own = reader.text("PATH", "/usr/local/bin:/usr/bin:/bin", "this process's search path");
                reader.text(
                    "LOCAL_RUNTIME_PATH",
                    &own,
                    "PATH of commands, and where they are looked for (default: this process's); added by this product",
                )
            },
            grace: reader.seconds(
                "LOCAL_RUNTIME_KILL_GRACE_SECONDS",
                10.0,
                "between TERM and KILL; added by this product",
            ),
        };
        if config.grace > MOST_GRACE {
            reader.error(format!(
                "LOCAL_RUNTIME_KILL_GRACE_SECONDS={}: expected at most {}: the server gives an attempt up 30 s after its time-out, \
                 and the end of its output takes its time too",
                config.grace.as_secs_f64(),
                MOST_GRACE.as_secs()
            ));
        }
        for name in &config.allowed_commands {
            if name.contains(['/', ' ', '\t']) {
                reader.warn(format!(
                    "LOCAL_RUNTIME_ALLOWED_COMMANDS: {name:?} can never match; give names of programs, without folder and arguments"
                ));
            }
        }
        if config.enabled && !sandboxed {
            reader.warn(
                "LOCAL_RUNTIME_ENABLE_SANDBOX=false: commands of tickets run unconfined, any program, as this worker's user, with \
                 its files and its network; tickets whose security_level is CONFIDENTIAL or RESTRICTED are refused"
                    .to_owned(),
            );
        }
        if config.enabled && sandboxed {
            sandbox::check_search_path(reader, &config.search_path, &config.working_dir);
        }
        if !config.working_dir.is_absolute() {
            reader.error("LOCAL_RUNTIME_WORKING_DIR must be an absolute path".to_owned());
        }
        config
    }
}
