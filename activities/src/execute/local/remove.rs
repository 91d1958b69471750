//! Removes what a command left in its folder, whatever that is.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use uuid::Uuid;

/// Removes `top` and all that is in it. Folders are moved up into `top` before they are looked into: a nest of a hundred
/// thousand of them needs neither a long path nor a deep stack, which the library's own removal does.
///
/// Nobody else may be at work in it.
pub(super) fn remove_folder(top: &Path) -> io::Result<()> {
    // No name that a command could have taken.
    let moved = Uuid::new_v4();
    let mut pending = vec![top.to_owned()];
    let mut number = 0_u64;
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                // One that its maker has shut can be neither moved nor read.
                std::fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
                let up = top.join(format!("{moved}-{number}"));
                std::fs::rename(entry.path(), &up)?;
                pending.push(up);
                number += 1;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        if folder != top {
            std::fs::remove_dir(&folder)?;
        }
    }
    std::fs::remove_dir(top)
}

#[cfg(test)]
mod tests {
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
}
