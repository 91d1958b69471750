//! From a ticket's `command` and `args` to one argv, and from its first word to an exact binary.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ticket_workflows::{Failed, code};

use crate::execute::command::{MAX_BYTES, MAX_WORDS, has_nul, is_too_long};

/// The commands that may run: their names, resolved once at start-up to exact binaries (INC-75).
#[derive(Debug, Clone)]
pub(super) struct AllowList {
    enabled: bool,
    binaries: BTreeMap<String, Option<PathBuf>>,
    search: Vec<PathBuf>,
    /// What a sandbox lets commands execute for that: what `PATH` names, and the files that its links stand for.
    programs: Vec<PathBuf>,
}

impl AllowList {
    pub(super) fn resolve(enabled: bool, names: &[String], path: &OsStr) -> Self {
        let search: Vec<PathBuf> = std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect();
        let binaries: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), find(&search, name))).collect();
        let files = binaries.values().flatten().filter_map(|binary| binary.canonicalize().ok());
        let programs = search.iter().cloned().chain(files);
        let programs = programs.chain(binaries.values().flatten().filter_map(|binary| installation(binary))).collect();
        Self { enabled, binaries, search, programs }
    }

    /// Folders and files of programs, which commands must be able to execute.
    pub(super) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    /// The binary of the command's first word. A path passes only when it *is* the binary of an allowed name.
    pub(super) fn binary(&self, word: &str) -> Result<PathBuf, Failed> {
        if word.contains('/') {
            let given = Path::new(word);
            let allowed = self.binaries.values().flatten().any(|binary| binary == given);
            return if allowed { Ok(given.to_owned()) } else { self.path_refused(word) };
        }
        match self.binaries.get(word) {
            Some(Some(binary)) => Ok(binary.clone()),
            Some(None) => Err(not_found(word)),
            None if self.enabled => Err(self.not_allowed(word)),
            None => find(&self.search, word).ok_or_else(|| not_found(word)),
        }
    }

    fn path_refused(&self, word: &str) -> Result<PathBuf, Failed> {
        if self.enabled {
            return Err(self.not_allowed(word));
        }
        let path = PathBuf::from(word);
        if path.is_absolute() && is_executable(&path) { Ok(path) } else { Err(not_found(word)) }
    }

    fn not_allowed(&self, word: &str) -> Failed {
        let names = self.binaries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Failed::permanent(
            code::COMMAND_NOT_ALLOWED,
            format!(
                "command {} is not allowed (allowed: {names}); use one of these or extend LOCAL_RUNTIME_ALLOWED_COMMANDS",
                shown(word)
            ),
        )
    }
}

/// Allowed commands that `search_path` does not lead to: tickets that ask for one fail with `command_not_found`.
#[must_use]
pub fn not_installed(allowed: &[String], search_path: &OsStr) -> Vec<String> {
    let binaries = AllowList::resolve(true, allowed, search_path).binaries;
    binaries.into_iter().filter(|(_, binary)| binary.is_none()).map(|(name, _)| name).collect()
}

/// The folder that a program is installed in with what belongs to it, where that is none of the system's: a virtual
/// environment, or a manager of versions, whose programs are scripts that look for the real one (`pyenv`, `rbenv`, `nodenv`).
/// Homes and `~/.local` are no installations: too much else is there.
fn installation(binary: &Path) -> Option<PathBuf> {
    let folder = binary.parent()?;
    let prefix = folder.parent()?;
    let of_programs = ["bin", "shims"].iter().any(|name| folder.ends_with(name));
    let whole = ["lib", "libexec", "versions", "pyvenv.cfg"].iter().any(|part| prefix.join(part).exists());
    let home = prefix.parent() == Some(Path::new("/home")) || prefix.ends_with(".local");
    let own = prefix.components().count() > 2 && !home;
    (of_programs && whole && own).then(|| prefix.to_owned())
}

fn not_found(word: &str) -> Failed {
    Failed::permanent(
        code::COMMAND_NOT_FOUND,
        format!("command {} is not installed on this worker; install it or run the ticket elsewhere", shown(word)),
    )
}

fn find(search: &[PathBuf], name: &str) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return None;
    }
    search.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// At most 80 characters of a word, escaped.
pub(crate) fn shown(word: &str) -> String {
    let short: String = word.chars().take(80).collect();
    let cut = if short.len() < word.len() { "…" } else { "" };
    format!("{short:?}{cut}")
}

/// One argv from `command` (a word or a list) and `args`.
pub(super) fn argv(command: Option<&Value>, args: Vec<String>) -> Result<Vec<String>, Failed> {
    let refuse = |message: String| Failed::permanent(code::INVALID_PARAMETERS, message);
    let mut argv = match command.and_then(|given| Some((given, ticket_schemas::canonical(given)?))) {
        None => return Err(refuse("parameter \"command\" is missing; name the program to run".to_owned())),
        Some((_, Value::Array(words))) => words
            .into_iter()
            .map(|word| match word {
                Value::String(word) => Ok(word),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err(refuse("parameter \"command\" must be a word or a list of words".to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?,
        // As it was written: `true` is a program too.
        Some((Value::String(word), _)) => vec![word.clone()],
        Some(_) => return Err(refuse("parameter \"command\" must be a word or a list of words".to_owned())),
    };
    argv.extend(args);
    if argv.first().is_none_or(|word| word.trim().is_empty()) {
        return Err(refuse("parameter \"command\" is empty; name the program to run".to_owned()));
    }
    if is_too_long(&argv) {
        return Err(refuse(format!(
            "the command is longer than {MAX_WORDS} words or {MAX_BYTES} bytes; pass data in a file"
        )));
    }
    if has_nul(&argv) {
        return Err(refuse("the command holds a NUL byte, which no program can be given".to_owned()));
    }
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allow_list(names: &[&str]) -> AllowList {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        AllowList::resolve(true, &names, OsStr::new("/usr/bin:/bin:relative"))
    }

    #[test]
    fn inc_75_only_the_exact_binary_of_an_allowed_name_runs() {
        let list = allow_list(&["sh", "no-such-program"]);
        let sh = list.binary("sh").expect("sh is installed");
        assert!(sh.is_absolute());
        assert_eq!(list.binary(sh.to_str().expect("utf-8")).expect("its own path"), sh);
        for (word, expected) in [
            ("/tmp/evil/sh", code::COMMAND_NOT_ALLOWED),
            ("./sh", code::COMMAND_NOT_ALLOWED),
            ("../bin/sh", code::COMMAND_NOT_ALLOWED),
            ("cat", code::COMMAND_NOT_ALLOWED),
            ("sh -c", code::COMMAND_NOT_ALLOWED),
            ("no-such-program", code::COMMAND_NOT_FOUND),
        ] {
            assert_eq!(list.binary(word).expect_err(word).code, expected, "{word}");
        }
    }

    #[test]
    fn a_program_of_an_installation_brings_what_belongs_to_it_and_one_of_a_home_does_not() {
        let base = tempfile::tempdir().expect("temp dir");
        for (installed, beside, expected) in [
            ("env/bin", "pyvenv.cfg", true),
            (".pyenv/shims", "versions", true),
            (".cargo/bin", "registry", false),
            (".local/bin", "lib", false),
            ("tools/x", "lib", false),
        ] {
            let folder = base.path().join(installed);
            std::fs::create_dir_all(folder.parent().expect("a parent").join(beside)).expect("made");
            std::fs::create_dir_all(&folder).expect("made");
            let found = installation(&folder.join("python3"));
            assert_eq!(found.is_some(), expected, "{installed}: {found:?}");
            assert!(found.is_none_or(|prefix| prefix.starts_with(base.path()) && prefix != base.path()));
        }
        assert_eq!(installation(Path::new("/bin/sh")), None);
        assert_eq!(installation(Path::new("/home/somebody/bin/tool")), None);
        assert_eq!(installation(Path::new("/usr/bin/env")), None, "the system's is readable anyway");
    }

    #[test]
    fn without_the_allow_list_only_installed_programs_run() {
        let list = AllowList::resolve(false, &[], OsStr::new("/usr/bin:/bin"));
        assert!(list.binary("cat").is_ok());
        assert_eq!(list.binary("no-such-program").expect_err("missing").code, code::COMMAND_NOT_FOUND);
        assert_eq!(list.binary("relative/cat").expect_err("relative").code, code::COMMAND_NOT_FOUND);
    }

    #[test]
    fn a_command_is_a_word_or_a_list_never_shell_text() {
        let args = || vec!["a b".to_owned()];
        assert_eq!(argv(Some(&json!("python")), args()).expect("word"), ["python", "a b"]);
        assert_eq!(argv(Some(&json!(["echo", 1])), vec![]).expect("list"), ["echo", "1"]);
        assert_eq!(argv(Some(&json!(r#"["echo","x y"]"#)), vec![]).expect("JSON text"), ["echo", "x y"]);
        assert_eq!(argv(Some(&json!("echo; rm -rf /")), vec![]).expect("one word"), ["echo; rm -rf /"]);
        for word in ["true", "False", "7", "{}"] {
            assert_eq!(argv(Some(&json!(word)), vec![]).expect("a word, whatever else it spells"), [word]);
        }
        for (command, args) in [
            (None, vec![]),
            (Some(json!(null)), vec![]),
            (Some(json!("")), vec![]),
            (Some(json!([])), vec![]),
            (Some(json!({"a": 1})), vec![]),
            (Some(json!([["nested"]])), vec![]),
            (Some(json!("a\0b")), vec![]),
            (Some(json!("x")), vec!["y".repeat(MAX_BYTES)]),
        ] {
            assert_eq!(argv(command.as_ref(), args).expect_err("refused").code, code::INVALID_PARAMETERS);
        }
    }
}
