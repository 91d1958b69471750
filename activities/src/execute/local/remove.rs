//! Removes what a command left in its folder, whatever that is, and whatever a process that outlived it does there
//! meanwhile: every step goes through an open folder, and none follows a link.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use uuid::Uuid;

/// Removes `top` and all that is in it. Folders are moved up into `top` before they are looked into: a nest of a hundred
/// thousand of them needs neither a long path nor a deep stack, which the library's own removal does.
///
/// Nothing outside is touched, even when somebody is at work in it; but then it may fail. Only the path *to* `top` must
/// be nobody else's to change.
pub(super) fn remove_folder(top: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (top.parent(), top.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a folder without a name"));
    };
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    remove_in(&parent, name, &|| true)
}

/// Why something may still be there.
#[derive(Debug)]
pub(super) enum NotRemoved {
    /// A part of the path to it is a file, a link, or too long: nothing was touched.
    Path(io::Error),
    /// Its removal, or the way there, failed with this.
    Removal(io::Error),
}

/// Removes a file, or a folder and all that is in it; whether it was there. `path` is absolute and others may change it
/// meanwhile: no link in it is followed, one at its end is itself removed. `go_on` is asked before each entry; where it says no
/// the removal ends as `Interrupted`, and another one takes away what is left.
pub(super) fn remove_anything(path: &Path, go_on: &dyn Fn() -> bool) -> Result<bool, NotRemoved> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "a path without a name");
        return Err(NotRemoved::Path(error));
    };
    let parent = match walk(parent) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(false),
        Err(error @ (Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => return Err(NotRemoved::Path(error.into())),
        Err(error) => return Err(NotRemoved::Removal(error.into())),
    };
    let removed: io::Result<bool> = match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => remove_in(&parent, name, go_on).map(|()| true),
        Err(error) => Err(error.into()),
    };
    removed.map_err(NotRemoved::Removal)
}

/// Holds the folder at `path`, each part of which must be a folder and no link.
fn walk(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty());
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.fold(root, |held, part| openat(held?, part.as_os_str(), flags, Mode::empty()))
}

fn remove_in(parent: &OwnedFd, name: &OsStr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let (top, moved) = (open(parent, name)?, Uuid::new_v4().to_string());
    let mut removal = Removal { top, moved, pending: Vec::new(), number: 0, go_on };
    removal.empty(None)?;
    while let Some(folder) = removal.pending.pop() {
        removal.empty(Some(&folder))?;
        unlinkat(&removal.top, &folder, AtFlags::REMOVEDIR)?;
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

struct Removal<'a> {
    top: OwnedFd,
    /// How names of folders begin that were moved up: no name that a command could have taken.
    moved: String,
    /// Names in `top` of folders that are not empty yet.
    pending: Vec<String>,
    number: u64,
    go_on: &'a dyn Fn() -> bool,
}

impl Removal<'_> {
    /// Removes what is in `folder` of `top`, or in `top` itself, and moves its folders up.
    fn empty(&mut self, folder: Option<&str>) -> io::Result<()> {
        let folder = match folder {
            Some(name) => open(&self.top, OsStr::new(name))?,
            None => self.top.try_clone()?,
        };
        for entry in Dir::read_from(&folder)? {
            if !(self.go_on)() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let entry = entry?;
            let name = entry.file_name();
            // Moved up a moment ago, when this is `top`.
            if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes().starts_with(self.moved.as_bytes()) {
                continue;
            }
            match unlinkat(&folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {
                    // One that its maker has shut can be neither moved nor read.
                    open(&folder, OsStr::from_bytes(name.to_bytes()))?;
                    let up = format!("{}-{}", self.moved, self.number);
                    renameat(&folder, name, &self.top, &up)?;
                    self.pending.push(up);
                    self.number += 1;
                }
                removed => removed?,
            }
        }
        Ok(())
    }
}

/// Opens a folder, never through a link, and makes it its owner's to change.
fn open(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    // What is held is a folder and stays this one, whatever its name comes to mean: the kernel's name of the descriptor
    // leads nowhere else. A folder that is shut cannot be opened for `fchmod`.
    std::fs::set_permissions(format!("/proc/self/fd/{}", held.as_raw_fd()), Permissions::from_mode(0o700))?;
    Ok(openat(&held, ".", flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn whatever_is_in_a_folder_goes_and_nothing_that_it_points_to() {
        let base = tempfile::tempdir().expect("folder");
        let (top, kept) = (base.path().join("top"), base.path().join("kept"));
        std::fs::create_dir_all(top.join("a/b/c")).expect("folders");
        std::fs::create_dir(&kept).expect("folder");
        std::fs::write(kept.join("file"), "x").expect("written");
        std::fs::write(top.join("a/b/file"), "x").expect("written");
        std::os::unix::fs::symlink(&kept, top.join("a/link")).expect("link");
        std::os::unix::net::UnixListener::bind(top.join("socket")).expect("socket");
        std::fs::set_permissions(top.join("a/b"), Permissions::from_mode(0o000)).expect("shut");
        remove_folder(&top).expect("removed");
        assert!(!top.exists());
        assert!(kept.join("file").exists());
        assert_eq!(remove_folder(&top).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_named_goes_and_nothing_that_a_link_leads_to() {
        let base = tempfile::tempdir().expect("folder");
        let real = base.path().canonicalize().expect("real");
        let (top, kept) = (real.join("top"), real.join("kept"));
        for folder in [top.join("dist/deep"), kept.clone()] {
            std::fs::create_dir_all(folder).expect("folders");
        }
        for file in [top.join("file"), top.join("dist/deep/file"), top.join("beside"), kept.join("file")] {
            std::fs::write(file, "x").expect("written");
        }
        std::os::unix::fs::symlink(&kept, top.join("link")).expect("link");
        let remove = |name: &str| remove_anything(&top.join(name), &|| true);
        for name in ["file", "dist"] {
            assert!(remove(name).expect("removed"), "{name}");
            assert!(!remove(name).expect("not there"), "{name}, again");
        }
        assert!(!remove("no/such/thing").expect("not there"));
        for way in ["link/file", "beside/file"] {
            let through = remove(way).expect_err("no folder without links");
            assert!(matches!(through, NotRemoved::Path(_)), "{way}: {through:?}");
        }
        assert!(remove("link").expect("the link itself"));
        assert!(kept.join("file").exists() && top.join("beside").exists());
    }

    #[test]
    fn a_removal_ends_between_two_entries_and_another_one_takes_away_the_rest() {
        let base = tempfile::tempdir().expect("folder");
        let top = base.path().canonicalize().expect("real").join("top");
        std::fs::create_dir_all(top.join("inner")).expect("folders");
        for number in 0..100 {
            std::fs::write(top.join("inner").join(number.to_string()), "x").expect("written");
        }
        let asked = std::cell::Cell::new(0);
        let go_on = || {
            asked.set(asked.get() + 1);
            asked.get() < 50
        };
        let ended = remove_anything(&top, &go_on).expect_err("it was told to end");
        assert!(
            matches!(&ended, NotRemoved::Removal(error) if error.kind() == io::ErrorKind::Interrupted),
            "{ended:?}"
        );
        assert_eq!(asked.get(), 50);
        assert!(top.exists());
        assert!(remove_anything(&top, &|| true).expect("removed"));
        assert!(!top.exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_not_followed() {
        let base = tempfile::tempdir().expect("folder");
        let (top, kept) = (base.path().join("top"), base.path().join("kept"));
        std::fs::create_dir(&kept).expect("folder");
        std::fs::write(kept.join("file"), "x").expect("written");
        std::os::unix::fs::symlink(&kept, &top).expect("link");
        assert!(remove_folder(&top).is_err());
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
        let base = tempfile::tempdir().expect("folder");
        let kept = base.path().join("kept");
        std::fs::create_dir(&kept).expect("folder");
        std::fs::write(kept.join("file"), "x").expect("written");
        let mode = || kept.metadata().expect("there").permissions().mode() & 0o777;
        std::fs::set_permissions(&kept, Permissions::from_mode(0o750)).expect("set");
        let top = base.path().join("top");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let (folder, link) = (top.join("folder"), top.join("link"));
                    // Gone, now and then.
                    let _ = renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE);
                }
            });
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && mode() == 0o750 && kept.join("file").exists() {
                std::fs::create_dir_all(top.join("folder/inner")).expect("folders");
                std::os::unix::fs::symlink(&kept, top.join("link")).expect("link");
                // It may fail, and then there is less to remove.
                while top.exists() {
                    let _ = remove_folder(&top);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(mode(), 0o750);
        assert!(kept.join("file").exists());
    }
}
