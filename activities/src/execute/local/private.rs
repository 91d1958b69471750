//! Folders of single attempts: held while somebody works in them, and swept when their worker is gone. Nobody else would
//! remove those, unless the attempt came back to this machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::remove::remove_folder;

/// How their names begin. No ticket can name one.
pub(super) const PRIVATE: &str = "ticket-";
/// Between two sweeps, at least.
const INTERVAL: Duration = Duration::from_secs(600);

/// Makes one below `root`, and holds it: nobody sweeps it as long as the file is open. What a lost worker has left in its
/// place goes.
pub(super) fn make(root: &Path, path: &Path) -> io::Result<File> {
    let turn = turn(root);
    let left = match move_aside(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        left => Some(left?),
    };
    // Nobody sweeps it meanwhile.
    let _held = left.as_deref().map(left_alone);
    std::fs::create_dir(path)?;
    let folder = File::open(path)?;
    // Where a file system has no locks, nobody sweeps.
    let _ = folder.lock();
    drop(turn);
    if let Some(left) = left {
        remove(&left);
    }
    Ok(folder)
}

/// Sweeps one root.
#[derive(Debug)]
pub(super) struct Sweeper {
    root: PathBuf,
    last: Mutex<Option<Instant>>,
}

impl Sweeper {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, last: Mutex::default() }
    }

    /// Sweeps beside the caller when it is time again.
    pub(super) fn now_and_then(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = sweep(&root) {
                tracing::warn!(root = %root.display(), %error, "folders of lost attempts are not looked for");
            }
        });
    }
}

/// Removes those that no worker of this machine holds.
fn sweep(root: &Path) -> io::Result<()> {
    // No command has run there yet, or its file system has no locks.
    let Some(turn) = turn(root) else { return Ok(()) };
    let mut left = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PRIVATE.as_bytes())
            && let Some(held) = left_alone(&entry.path())
        {
            match move_aside(root, &entry.path()) {
                // Its attempt has ended meanwhile, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                aside => left.push((held, aside?)),
            }
        }
    }
    drop(turn);
    // Held meanwhile, or another worker would sweep them too.
    left.iter().for_each(|(_held, folder)| remove(folder));
    Ok(())
}

/// Folders are made, and moved aside, by one worker at a time. `None`: the root is not there, or cannot be locked.
fn turn(root: &Path) -> Option<File> {
    let root = File::open(root).ok()?;
    root.lock().ok()?;
    Some(root)
}

/// The folder, locked, when it is one and nobody holds it; never one behind a link.
fn left_alone(path: &Path) -> Option<File> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path).ok()?;
    folder.try_lock().ok()?;
    Some(folder)
}

/// Gives a folder another name, at one stroke; says which.
fn move_aside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let aside = root.join(format!("{PRIVATE}{}", Uuid::new_v4()));
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Removes one that was moved aside. The next sweep removes what cannot be removed yet: its supervisor may be about to end who
/// works in it.
fn remove(folder: &Path) {
    match remove_folder(folder) {
        Ok(()) => tracing::info!(folder = %folder.display(), "what a lost attempt has left was removed"),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "what a lost attempt has left is not removed yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::working_dir::WorkingDir;
    use super::*;

    #[test]
    fn what_a_lost_worker_has_left_goes_and_what_is_in_use_or_not_ours_stays() {
        let base = tempfile::tempdir().expect("temp dir");
        let (root, outside) = (base.path().join("root"), base.path().join("outside"));
        sweep(&root).expect("nothing is there yet");
        let used = WorkingDir::prepare(&root, None, "used", 1).expect("its own");
        let shared = WorkingDir::prepare(&root, Some("shared"), "t", 1).expect("a named one");
        std::fs::create_dir_all(root.join("ticket-lost-1/inner")).expect("left behind");
        std::fs::write(root.join("ticket-lost-1/inner/file"), "x").expect("written");
        std::fs::create_dir(&outside).expect("folder");
        std::fs::write(outside.join("file"), "x").expect("written");
        std::os::unix::fs::symlink(&outside, root.join("ticket-link-1")).expect("link");
        std::fs::write(root.join("ticket-file"), "x").expect("written");
        sweep(&root).expect("swept");
        assert!(used.path().is_dir() && shared.path().is_dir());
        assert!(outside.join("file").exists());
        let mut left: Vec<_> =
            std::fs::read_dir(&root).expect("there").map(|entry| entry.expect("listed").file_name()).collect();
        left.sort();
        assert_eq!(left, ["shared", "ticket-file", "ticket-link-1", "ticket-used-1"]);
    }

    #[test]
    fn a_folder_that_is_made_while_others_sweep_is_there_and_stays() {
        let base = tempfile::tempdir().expect("temp dir");
        let root = base.path().join("root");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        sweep(&root).expect("swept");
                    }
                });
            }
            let made = (0..500).try_for_each(|_| {
                std::fs::create_dir_all(&root)?;
                // Of a lost worker.
                std::fs::create_dir(root.join("ticket-t-1"))?;
                let folder =
                    WorkingDir::prepare(&root, None, "t", 1).map_err(|failed| io::Error::other(failed.message))?;
                std::fs::write(folder.path().join("file"), "x")
            });
            over.store(true, Ordering::Relaxed);
            made.expect("each time");
        });
    }
}
