//! The environment of a command: clean, plus what the ticket may set. Nothing of the worker's own environment, which
//! holds secrets, is inherited.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use ticket_workflows::{Failed, code};

use super::command::shown;
use crate::execute::command::MAX_BYTES;

/// Names that decide which code runs. A ticket that sets one is refused, not run without it.
const REFUSED: &[&str] = &[
    "PATH",
    "HOME",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
    "PS4",
    "NODE_OPTIONS",
    "NODE_PATH",
    "GCONV_PATH",
    "OPENSSL_CONF",
    "KUBECONFIG",
    "TF_CLI_CONFIG_FILE",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
];
/// The same, by prefix.
const REFUSED_PREFIXES: &[&str] = &[
    "LD_",
    "DYLD_",
    "PYTHON",
    "PERL",
    "RUBY",
    "BASH_FUNC_",
    "GIT_",
    "GLIBC_",
    "MALLOC_",
    "NPM_CONFIG_",
    "HELM_",
    "TF_CLI_ARGS",
    "TF_PLUGIN",
];

/// `PATH` as the worker has it, a home and a temporary folder inside `folder`, a UTF-8 locale, and the ticket's own.
pub(super) fn environment(
    path: &OsString,
    folder: &Path,
    wanted: BTreeMap<String, String>,
) -> Result<BTreeMap<OsString, OsString>, Failed> {
    let refuse = |message: String| Err(Failed::permanent(code::INVALID_PARAMETERS, message));
    let mut all: BTreeMap<OsString, OsString> = BTreeMap::from([
        ("PATH".into(), path.clone()),
        ("HOME".into(), folder.into()),
        ("TMPDIR".into(), folder.into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("LC_ALL".into(), "C.UTF-8".into()),
    ]);
    let mut bytes = 0;
    for (name, value) in wanted {
        let well_formed = name
            .chars()
            .enumerate()
            .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
        if name.is_empty() || !well_formed {
            return refuse(format!("env_vars: {} is not a variable name", shown(&name)));
        }
        let upper = name.to_ascii_uppercase();
        if REFUSED.contains(&upper.as_str()) || REFUSED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
            return refuse(format!(
                "env_vars: a ticket may not set {name}, because it decides which code runs; remove it"
            ));
        }
        if value.contains('\0') {
            return refuse(format!("env_vars: the value of {name} holds a NUL byte"));
        }
        bytes += name.len() + value.len() + 2;
        if bytes > MAX_BYTES {
            return refuse(format!("env_vars: more than {MAX_BYTES} bytes; pass data in a file"));
        }
        all.insert(name.into(), value.into());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str, value: &str) -> Result<BTreeMap<OsString, OsString>, Failed> {
        let wanted = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        environment(&"/usr/bin".into(), Path::new("/folder"), wanted)
    }

    #[test]
    fn inc_75_a_ticket_cannot_choose_the_code_that_runs() {
        for name in [
            "PATH",
            "path",
            "LD_PRELOAD",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "BASH_ENV",
            "NODE_OPTIONS",
            "HOME",
            "IFS",
            "PERLLIB",
            "GCONV_PATH",
            "KUBECONFIG",
            "HELM_PLUGINS",
            "TF_CLI_ARGS_apply",
            "npm_config_node_options",
            "JAVA_TOOL_OPTIONS",
        ] {
            assert_eq!(build(name, "x").expect_err(name).code, code::INVALID_PARAMETERS, "{name}");
        }
        for name in ["", "1A", "A B", "A=B", "A\0", "é"] {
            assert!(build(name, "x").is_err(), "{name:?}");
        }
        assert!(build("A", "b\0c").is_err());
        assert!(build("A", &"x".repeat(MAX_BYTES - 2)).is_err(), "the kernel takes no such variable");
        assert!(build("A", &"x".repeat(MAX_BYTES - 3)).is_ok());
    }

    #[test]
    fn the_environment_is_clean() {
        let all = build("DEBUG", "true").expect("allowed");
        let names: Vec<_> = all.keys().filter_map(|name| name.to_str()).collect();
        assert_eq!(names, ["DEBUG", "HOME", "LANG", "LC_ALL", "PATH", "TMPDIR"]);
    }
}
