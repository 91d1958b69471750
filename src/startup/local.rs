//! Whether local commands can run: the folder that they work in, and which of the allowed ones are installed.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use ticket_activities::execute::local::not_installed;
use uuid::Uuid;

use super::finding::{Check, Finding};
use crate::config::LocalRuntimeConfig;

pub(super) fn judge(config: &LocalRuntimeConfig) -> Finding {
    if !config.enabled {
        return Finding::ok(Check::LocalRuntime, "the local runtime is off");
    }
    let root = config.working_dir.display();
    if let Err(error) = try_out(&config.working_dir) {
        return Finding::failed(
            Check::LocalRuntime,
            format!("local commands cannot work in {root}: {error}"),
            "set LOCAL_RUNTIME_WORKING_DIR to a folder this worker may write",
        );
    }
    let missing = not_installed(&config.allowed_commands, OsStr::new(&config.search_path)).join(", ");
    let missing = if missing.is_empty() { missing } else { format!("; allowed and not installed here: {missing}") };
    Finding::ok(Check::LocalRuntime, format!("local commands can work in {root}{missing}"))
}

/// Makes a folder there and removes it: a root that is there may be somebody else's.
fn try_out(root: &Path) -> io::Result<()> {
    std::fs::create_dir_all(root)?;
    let folder = root.join(format!("check-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder)?;
    std::fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::config::{Config, MapSource};

    fn judged(root: &Path, commands: &str) -> Finding {
        let root = root.to_str().expect("UTF-8");
        let settings = MapSource::from([
            ("LOCAL_RUNTIME_WORKING_DIR", root),
            ("LOCAL_RUNTIME_ALLOWED_COMMANDS", commands),
            ("LOCAL_RUNTIME_PATH", "/usr/bin:/bin"),
        ]);
        judge(&Config::read(&settings).expect("settings").local)
    }

    #[test]
    fn a_root_that_is_there_and_takes_no_folder_is_a_failure() {
        // Nobody makes a folder there, root neither.
        let finding = judged(Path::new("/proc"), "sh");
        assert_eq!(finding.state, State::Failed, "{finding:?}");
        assert!(finding.what.starts_with("local commands cannot work in /proc: "), "{finding:?}");
    }

    #[test]
    fn commands_that_are_not_installed_are_named_and_nothing_is_left_behind() {
        let base = tempfile::tempdir().expect("temp dir");
        let root = base.path().join("root");
        let finding = judged(&root, "sh,no-such-program,no-other");
        assert_eq!(finding.state, State::Ok, "{finding:?}");
        assert!(finding.what.ends_with("; allowed and not installed here: no-other, no-such-program"), "{finding:?}");
        assert!(!judged(&root, "sh").what.contains("not installed"));
        assert_eq!(std::fs::read_dir(&root).expect("made").count(), 0);
    }
}
