//! Where the Temporal CLI is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The versions that the dev stack was tried with: 1.9 and later, below 2.
const MAJOR: u32 = 1;
/// The earliest of them.
const MINOR: u32 = 9;

/// Finds the Temporal CLI: the first `temporal` on `path_env` when its version is 1.9 or later and below 2, else the
/// one that `make setup` puts below `tools_dir`.
///
/// Runs `temporal --version`, with the empty environment that the server gets too, and waits for it.
///
/// # Errors
///
/// When there is neither.
pub fn find_cli(path_env: &OsStr, tools_dir: &Path) -> anyhow::Result<PathBuf> {
    let on_path = first_on(path_env);
    let unsuitable = match &on_path {
        None => "there is no `temporal` on PATH".to_owned(),
        Some(cli) => match suitable(cli) {
            Ok(()) => return Ok(cli.clone()),
            Err(error) => format!("{} does not suit: {error:#}", cli.display()),
        },
    };
    let installed = tools_dir.join("temporal-cli/bin/temporal");
    if installed.is_file() {
        tracing::debug!(cli = %installed.display(), reason = unsuitable, "taking the installed Temporal CLI");
        return Ok(installed);
    }
    bail!(
        "no Temporal CLI {MAJOR}.{MINOR} or later: {unsuitable}, and {} does not exist; run `make setup`",
        installed.display()
    );
}

/// Folders given relative to wherever one happens to be are not looked into.
fn first_on(path_env: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path_env)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("temporal"))
        .find(|file| file.is_file())
}

fn suitable(cli: &Path) -> anyhow::Result<()> {
    let output =
        Command::new(cli).arg("--version").env_clear().stdin(Stdio::null()).output().context("it cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, minor) = version(&text).with_context(|| format!("`--version` answered {:?}", text.trim()))?;
    if major != MAJOR || minor < MINOR {
        bail!("it has version {major}.{minor}");
    }
    Ok(())
}

/// Major and minor of `temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim_start().strip_prefix("temporal version ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a script by another process: one that this process holds open for writing could not be run.
    fn script(file: &Path, body: &str) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#;
        assert!(Command::new("sh").args(["-c", write, "sh", body]).arg(file).status().unwrap().success());
    }

    #[test]
    fn the_version_decides_between_path_and_tools() {
        let folder = tempfile::tempdir().unwrap();
        let on_path = folder.path().join("path/temporal");
        let installed = folder.path().join("tools/temporal-cli/bin/temporal");
        let path =
            std::env::join_paths([Path::new("relative"), &folder.path().join("none"), on_path.parent().unwrap()])
                .unwrap();
        let find = || find_cli(&path, &folder.path().join("tools"));

        let error = find().unwrap_err().to_string();
        assert!(error.contains("no `temporal` on PATH") && error.contains("`make setup`"), "{error}");
        script(&on_path, "echo temporal version 1.8.2 '(Server 1.30.0, UI 2.50.0)'");
        let error = find().unwrap_err().to_string();
        assert!(error.contains("it has version 1.8") && error.contains("`make setup`"), "{error}");

        script(&installed, "exit 1");
        for unsuitable in ["1.8.2 (Server)", "2.0.0 (Server)", "0.0.0-DEV (Server)", "next"] {
            script(&on_path, &format!("echo 'temporal version {unsuitable}'"));
            assert_eq!(find().unwrap(), installed, "{unsuitable}");
        }
        for suitable in ["1.9.1 (Server 1.32.0, UI 2.54.1)", "1.10.0-rc.1"] {
            script(&on_path, &format!("echo 'temporal version {suitable}'"));
            assert_eq!(find().unwrap(), on_path, "{suitable}");
        }
    }
}
