//! A real peer that a script of `scripts/real` starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// What a script says when the component cannot be had on this machine.
const NOT_TO_BE_HAD: i32 = 77;

/// A running instance; ended when dropped.
pub(crate) struct Instance {
    script: PathBuf,
    folder: PathBuf,
    addresses: BTreeMap<String, String>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.run("stop", &[]) {
            eprintln!("{error:#}");
        }
    }
}

impl Instance {
    /// Starts `component` (the script's name) in `folder`, which must be empty or not there yet. Blocks until it answers.
    ///
    /// # Errors
    /// When it does not start, and when it cannot be had here: then the message says `skipped`.
    pub(crate) fn start(component: &str, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/real").join(component);
        let mut instance = Self { script, folder: folder.to_owned(), addresses: BTreeMap::new() };
        instance.addresses = instance.run("start", options)?;
        Ok(instance)
    }

    /// Runs a verb of the script; the `KEY=value` lines that it prints.
    ///
    /// # Errors
    /// When the script does not end with 0.
    pub(crate) fn run(&self, verb: &str, options: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        let mut command = Command::new(&self.script);
        command.arg(verb).arg("--dir").arg(&self.folder).args(options).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("{} cannot be run", self.script.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) => {}
            Some(NOT_TO_BE_HAD) => bail!("{}", said.trim()),
            _ => bail!("{} {verb}: {}", self.script.display(), String::from_utf8_lossy(&output.stderr).trim()),
        }
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// The value of a line that `start` has printed.
    ///
    /// # Errors
    /// When it printed none.
    pub(crate) fn address(&self, key: &str) -> anyhow::Result<&str> {
        let value = self.addresses.get(key).map(String::as_str);
        value.with_context(|| format!("{} printed no {key}", self.script.display()))
    }
}
