//! The embedded Temporal dev server, as tests start it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ticket_activities::supervisor::SupervisorCommand;
use worker_agents::dev::temporal::{TemporalDevOptions, find_cli};

/// The pinned Temporal CLI. What is on PATH is not looked at: set-up links a fitting one into its folder.
pub(crate) fn cli() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools");
    find_cli(OsStr::new(""), &tools).expect("the Temporal CLI: run `make setup`")
}

/// In memory, on free ports, supervised by the binary under test, without search attributes.
pub(crate) fn options() -> TemporalDevOptions {
    TemporalDevOptions {
        cli: cli(),
        supervisor: SupervisorCommand {
            program: env!("CARGO_BIN_EXE_worker-agents").into(),
            arguments: vec!["supervise-process".into()],
        },
        port: 0,
        ui_port: 0,
        namespace: "default".to_owned(),
        db_file: None,
        log_file: None,
        search_attributes: Vec::new(),
        grace: Duration::from_secs(5),
    }
}
