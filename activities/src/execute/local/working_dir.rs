//! The folder a command runs in: inside the configured root, whatever the ticket says.

use std::io;
use std::path::{Component, Path, PathBuf};

use ticket_workflows::{Failed, FailureClass, code};

use super::command::shown;
use super::remove::remove_folder;

/// How names of folders begin that belong to one attempt of one ticket. No ticket can name one.
const PRIVATE: &str = "ticket-";
/// Longest name of a folder, in bytes: Linux takes no longer path.
const MAX_NAME: usize = 4096;

/// A folder for one attempt.
#[derive(Debug)]
pub(super) struct WorkingDir {
    path: PathBuf,
    ours: bool,
}

impl WorkingDir {
    /// The ticket's folder: the one it names, inside `root`, or one of its own that is removed afterwards.
    pub(super) fn prepare(root: &Path, wanted: Option<&str>, ticket_id: &str, attempt: u32) -> Result<Self, Failed> {
        let broken = |error| broken(root, &error);
        let root = real(root)?;
        let Some(wanted) = wanted.filter(|wanted| !wanted.trim().is_empty()) else {
            let path = root.join(format!("{PRIVATE}{ticket_id}-{attempt}"));
            // What a lost worker left of this attempt is not this attempt's.
            match remove_folder(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
                _ => {}
            }
            std::fs::create_dir(&path).map_err(broken)?;
            return Ok(Self { path, ours: true });
        };
        let refused = || refused(&root, wanted);
        let path = confined(&root, Path::new(wanted)).ok_or_else(refused)?;
        std::fs::create_dir_all(&path)
            .map_err(|error| if is_the_names_fault(&error) { refused() } else { broken(error) })?;
        let path = path.canonicalize().map_err(broken)?;
        if !may_be_named(&root, &path) {
            return Err(refused());
        }
        Ok(Self { path, ours: false })
    }

    /// The folder that a ticket names, with no link in its path; `None` when it is not here. It is not made.
    pub(super) fn find(root: &Path, wanted: &str) -> Result<Option<PathBuf>, Failed> {
        let root = real(root)?;
        let path = confined(&root, Path::new(wanted)).ok_or_else(|| refused(&root, wanted))?;
        match path.canonicalize() {
            Ok(path) if may_be_named(&root, &path) && path.is_dir() => Ok(Some(path)),
            Ok(_) => Err(refused(&root, wanted)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_the_names_fault(&error) => Err(refused(&root, wanted)),
            Err(error) => Err(broken(&root, &error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkingDir {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = remove_folder(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the ticket's folder was not removed");
        }
    }
}

/// The root with no link in its path, made if needed.
fn real(root: &Path) -> Result<PathBuf, Failed> {
    std::fs::create_dir_all(root).and_then(|()| root.canonicalize()).map_err(|error| broken(root, &error))
}

fn broken(root: &Path, error: &io::Error) -> Failed {
    Failed::new(
        code::INFRASTRUCTURE,
        FailureClass::Unavailable { after_ms: None },
        format!("the working folder under {} cannot be used: {error}; see LOCAL_RUNTIME_WORKING_DIR", root.display()),
    )
}

fn refused(root: &Path, wanted: &str) -> Failed {
    Failed::permanent(
        code::INVALID_PARAMETERS,
        format!(
            "working_dir {} is no folder that tickets may name inside {}; name one inside it that does not begin with \
             {PRIVATE:?} (those belong to single tickets), or none",
            shown(wanted),
            root.display()
        ),
    )
}

/// Errors that another name would not have: a part of it is a file, or it is too long.
fn is_the_names_fault(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENOTDIR | Errno::EEXIST | Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EILSEQ | Errno::EINVAL)
    )
}

/// `wanted` below `root`, without `..`, and without leaving `root` through a link: the deepest part that exists must
/// lie inside, before anything is created.
fn confined(root: &Path, wanted: &Path) -> Option<PathBuf> {
    if wanted.as_os_str().len() > MAX_NAME
        || wanted.components().any(|part| matches!(part, Component::ParentDir))
        || wanted.as_os_str().as_encoded_bytes().contains(&0)
    {
        return None;
    }
    let path = root.join(wanted);
    let existing =
        path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok().map(|real| (ancestor.to_owned(), real)));
    let (ancestor, real) = existing?;
    let rest = path.strip_prefix(&ancestor).ok()?;
    let path = real.join(rest);
    (path == root || may_be_named(root, &path)).then_some(path)
}

/// Whether a real path lies below `root`, and in no private folder. The root itself holds the folders of all tickets.
fn may_be_named(root: &Path, path: &Path) -> bool {
    let first = path.strip_prefix(root).ok().and_then(|below| below.components().next());
    first.is_some_and(|first| !first.as_os_str().as_encoded_bytes().starts_with(PRIVATE.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_cannot_leave_the_root() {
        let base = tempfile::tempdir().expect("temp dir");
        let root = base.path().join("root");
        std::fs::create_dir(&root).expect("root");
        std::os::unix::fs::symlink("/etc", root.join("link")).expect("link");
        for wanted in ["/etc", "../other", "a/../../b", "link", "link/new", "/", "a\0b"] {
            let refused = WorkingDir::prepare(&root, Some(wanted), "t", 1).expect_err(wanted);
            assert_eq!(refused.code, code::INVALID_PARAMETERS, "{wanted}");
        }
        assert!(!Path::new("/etc/new").exists());
        let inside = WorkingDir::prepare(&root, Some("a/b"), "t", 1).expect("inside").path().to_owned();
        assert!(inside.ends_with("root/a/b") && inside.is_dir());
        std::fs::write(root.join("file"), "").expect("file");
        std::os::unix::fs::symlink("loop", root.join("loop")).expect("link");
        let long = "n".repeat(300);
        for wanted in [".", "./", "file", "file/x", "loop", &long, root.to_str().expect("text")] {
            let refused = WorkingDir::prepare(&root, Some(wanted), "t", 1).expect_err(wanted);
            assert_eq!(refused.code, code::INVALID_PARAMETERS, "{wanted}");
        }
        let none = WorkingDir::prepare(&root, Some(" "), "t", 1).expect("a folder of its own").path().to_owned();
        assert!(none.ends_with("root/ticket-t-1"), "{none:?}");
        let absolute = root.join("c");
        assert!(WorkingDir::prepare(&root, absolute.to_str(), "t", 1).is_ok());
    }

    #[test]
    fn a_ticket_cannot_name_the_private_folder_of_another() {
        let base = tempfile::tempdir().expect("temp dir");
        let victim = WorkingDir::prepare(base.path(), None, "VICTIM", 1).expect("its own");
        std::fs::create_dir(victim.path().join("inner")).expect("folder");
        std::os::unix::fs::symlink(victim.path(), base.path().join("link")).expect("link");
        let absolute = victim.path().to_str().expect("text");
        for wanted in [
            "ticket-VICTIM-1",
            "./ticket-VICTIM-1/inner",
            "ticket-NEXT-1",
            "ticket-NEXT-1/a",
            "link",
            "link/a",
            absolute,
        ] {
            let refused = WorkingDir::prepare(base.path(), Some(wanted), "t", 1).expect_err(wanted);
            assert_eq!(refused.code, code::INVALID_PARAMETERS, "{wanted}");
        }
        assert!(!base.path().join("ticket-NEXT-1").exists() && !victim.path().join("a").exists());
        for wanted in ["tickets", "a/ticket-VICTIM-1"] {
            assert!(WorkingDir::prepare(base.path(), Some(wanted), "t", 1).is_ok(), "{wanted}");
        }
    }

    #[test]
    fn a_folder_is_found_where_tickets_may_name_one_and_never_made() {
        let base = tempfile::tempdir().expect("temp dir");
        let root = base.path().canonicalize().expect("real").join("root");
        let find = |wanted: &str| WorkingDir::find(&root, wanted).map_err(|failed| failed.code);
        assert_eq!(find("a/b"), Ok(None), "not here");
        assert!(!root.join("a").exists());
        std::fs::create_dir_all(root.join("a/b")).expect("folders");
        std::fs::create_dir(root.join("ticket-x-1")).expect("folder");
        std::fs::write(root.join("file"), "").expect("file");
        std::os::unix::fs::symlink("/etc", root.join("link")).expect("link");
        std::os::unix::fs::symlink("a", root.join("inside")).expect("link");
        assert_eq!(find("a/b"), Ok(Some(root.join("a/b"))));
        assert_eq!(find("inside/b"), Ok(Some(root.join("a/b"))));
        for wanted in ["..", "/etc", ".", "link", "ticket-x-1", "file", "file/x"] {
            assert_eq!(find(wanted), Err(code::INVALID_PARAMETERS.to_owned()), "{wanted}");
        }
    }

    #[test]
    fn a_name_of_a_megabyte_is_refused_at_once() {
        let base = tempfile::tempdir().expect("temp dir");
        let wanted = "a/".repeat(500_000);
        let begun = std::time::Instant::now();
        for refused in [
            WorkingDir::prepare(base.path(), Some(&wanted), "t", 1).map(|_| ()),
            WorkingDir::find(base.path(), &wanted).map(|_| ()),
        ] {
            assert_eq!(refused.expect_err("too long").code, code::INVALID_PARAMETERS);
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_folder_of_its_own_is_fresh_and_goes_away() {
        let base = tempfile::tempdir().expect("temp dir");
        for id in ["t", "..", "."] {
            let folder = WorkingDir::prepare(base.path(), None, id, 1).expect("folder");
            std::fs::write(folder.path().join("file"), "x").expect("write");
            let path = folder.path().to_owned();
            drop(folder);
            assert!(!path.exists(), "{id}");
        }
    }
}
