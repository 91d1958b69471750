//! Bounds that no kernel keeps for a whole tree: its folder's size, and where there is no cgroup its processes and their
//! memory. The worker looks, now and then; between two looks a tree may go beyond.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::policy::Limits;
use crate::supervisor::{beside, tree};

/// Between two looks at processes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at a folder, at least; and so many times as long as the last one took.
const FOLDER_INTERVAL: Duration = Duration::from_secs(1);
const FOLDER_SHARE: u32 = 20;
/// What an entry of a folder counts at least, or a million empty files would be nothing.
const ENTRY: u64 = 4096;

/// What a tree went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// [`Limits::processes`].
    Processes,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::file`].
    File,
    /// [`Limits::folder`].
    Folder,
}

impl Over {
    /// What happened and what to do, in a sentence.
    pub(crate) fn sentence(self, limits: &Limits) -> String {
        let mb = |bytes: u64| bytes >> 20;
        match self {
            Self::Processes => format!(
                "the command had more than {} processes and threads and was ended; LOCAL_RUNTIME_MAX_PROCESSES bounds them",
                limits.processes
            ),
            Self::Memory => format!(
                "the command took more than {} MiB of memory and was ended; LOCAL_RUNTIME_MEMORY_LIMIT_MB bounds it",
                mb(limits.memory)
            ),
            Self::File => format!(
                "the command wrote more than {} MiB into one file and was ended; LOCAL_RUNTIME_MAX_FILE_SIZE_MB bounds it",
                mb(limits.file)
            ),
            Self::Folder => format!(
                "the command's folder held more than {} MiB, or more than can be counted, and the command was ended; \
                 LOCAL_RUNTIME_MAX_FOLDER_SIZE_MB bounds it",
                mb(limits.folder)
            ),
        }
    }
}

/// What is looked at, of one tree.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(super) limits: Limits,
    pub(super) folder: PathBuf,
    pub(super) processes: bool,
    pub(super) memory: bool,
}

impl Watch {
    /// Resolves when the tree under `supervisor` goes over a bound.
    pub(crate) async fn over(self, supervisor: Pid) -> Over {
        let folder = async {
            let mut pause = FOLDER_INTERVAL;
            loop {
                tokio::time::sleep(pause).await;
                let began = Instant::now();
                let (path, bound) = (self.folder.clone(), self.limits.folder);
                if beside(move || is_larger(&path, bound)).await {
                    return Over::Folder;
                }
                pause = FOLDER_INTERVAL.max(began.elapsed() * FOLDER_SHARE);
            }
        };
        let processes = async {
            if !self.processes && !self.memory {
                return std::future::pending().await;
            }
            loop {
                tokio::time::sleep(INTERVAL).await;
                let watch = self.clone();
                if let Some(over) = beside(move || watch.look(supervisor)).await {
                    return over;
                }
            }
        };
        tokio::select! {
            over = folder => over,
            over = processes => over,
        }
    }

    fn look(&self, supervisor: Pid) -> Option<Over> {
        let tree = tree::descendants_of(supervisor, INTERVAL);
        if self.processes && tree.iter().map(|process| process.threads).sum::<u64>() > self.limits.processes {
            return Some(Over::Processes);
        }
        let memory = || tree.iter().map(|process| tree::memory(process.pid)).sum::<u64>();
        (self.memory && memory() > self.limits.memory).then_some(Over::Memory)
    }
}

/// Whether the folder takes more than `bound` bytes of disk. What is deleted and still open is not seen. What cannot be
/// counted, because its path is too long or the command has shut it, counts as more.
fn is_larger(folder: &Path, bound: u64) -> bool {
    let mut folders = vec![folder.to_owned()];
    let mut total = 0;
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(_) => return true,
        };
        for entry in entries {
            let (path, metadata) = match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
                Ok(found) => found,
                Err(error) if is_gone(&error) => continue,
                Err(_) => return true,
            };
            total += (metadata.blocks() * 512).max(ENTRY);
            if total > bound {
                return true;
            }
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    false
}

/// Not a thing that hides.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_counted_is_too_large() {
        let folder = tempfile::tempdir().expect("folder");
        let looped = folder.path().join("loop");
        std::os::unix::fs::symlink("loop", &looped).expect("link");
        assert!(is_larger(&looped, u64::MAX), "whoever looks");
        if nix::unistd::geteuid().is_root() {
            eprintln!("NOT TRIED: root lists a folder that is shut");
            return;
        }
        let shut = folder.path().join("shut");
        std::fs::create_dir(&shut).expect("folder");
        for mode in [0o300, 0o600] {
            std::fs::write(shut.join("file"), "x").expect("written");
            std::fs::set_permissions(&shut, Permissions::from_mode(mode)).expect("shut");
            assert!(is_larger(folder.path(), u64::MAX), "{mode:o}");
            std::fs::set_permissions(&shut, Permissions::from_mode(0o700)).expect("opened");
        }
    }

    #[test]
    fn a_folder_is_as_large_as_all_that_is_in_it() {
        let folder = tempfile::tempdir().expect("folder");
        let below = folder.path().join("a/b");
        std::fs::create_dir_all(&below).expect("folders");
        std::fs::write(below.join("file"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).expect("a link, which is not followed");
        assert!(is_larger(folder.path(), 100_000));
        assert!(!is_larger(folder.path(), 1_000_000));
        for number in 0..100 {
            std::fs::write(folder.path().join(number.to_string()), "").expect("written");
        }
        assert!(is_larger(folder.path(), 300_000), "empty files count too");
        assert!(!is_larger(&folder.path().join("gone"), 0));
    }
}
