//! The folders in which commands work, as undoing them sees it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ticket_workflows::{ExternalState, Failed, FailureClass, Outcome, code};
use tokio_util::sync::CancellationToken;

use super::command::shown;
use super::remove::{NotRemoved, remove_anything};
use super::runtime::{LocalParams, LocalRuntime};
use super::working_dir::WorkingDir;
use crate::executor::{Executor as _, Job};

/// Where commands run and leave what they write. A rehearsal of an undo has each call fail once, and its process die there.
pub trait Workplace: Send + Sync + 'static {
    /// Whether `folder` is here, to be worked in for this ticket. It is not made.
    ///
    /// # Errors
    /// When tickets may not name it, when the place of all folders cannot be used, or when the ticket's classification demands a
    /// sandbox and there is none.
    fn find_folder(&self, folder: &str, job: &Job) -> Result<bool, Failed>;

    /// Runs a command as any ticket's is run.
    fn run_command(&self, command: LocalParams, job: Job) -> impl Future<Output = Outcome> + Send;

    /// Removes the file or folder `name`, a path without `..`, from `folder`, for as long as is allowed; whether it was there:
    /// nothing is in a folder that is not here. No link below `folder` is followed, whoever is at work there meanwhile.
    fn remove_left(
        &self,
        folder: &str,
        name: &Path,
        allowance: &Allowance,
    ) -> impl Future<Output = Result<bool, Failed>> + Send;
}

/// How long a removal may go on: until its attempt is over or stopped.
#[derive(Debug, Clone)]
pub struct Allowance {
    stop: CancellationToken,
    /// `None`: later than clocks go.
    until: Option<Instant>,
}

impl Allowance {
    /// That of an attempt which begins now.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Self { stop: job.stop.clone(), until: Instant::now().checked_add(job.time_left) }
    }

    /// Whether it may go on.
    ///
    /// # Errors
    /// `cancelled` or `timeout`, when it may not: nothing goes on then.
    pub fn check(&self) -> Result<(), Failed> {
        let mut failed = if self.stop.is_cancelled() {
            Failed::permanent(code::CANCELLED, "the removal of outputs was stopped")
        } else if self.until.is_some_and(|until| Instant::now() >= until) {
            let message = "the time of the attempt was over before all outputs were removed; raise `sla.timeout_ms`";
            Failed::new(code::TIMEOUT, FailureClass::Retry { after_ms: None }, message)
        } else {
            return Ok(());
        };
        failed.external_state = Some(ExternalState::ConfirmedStopped);
        Err(failed)
    }
}

impl Workplace for LocalRuntime {
    fn find_folder(&self, folder: &str, job: &Job) -> Result<bool, Failed> {
        self.may_work_for(job)?;
        WorkingDir::find(&self.config.working_dir, folder).map(|found| found.is_some())
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        self.execute(command, job).await
    }

    async fn remove_left(&self, folder: &str, name: &Path, allowance: &Allowance) -> Result<bool, Failed> {
        let Some(found) = WorkingDir::find(&self.config.working_dir, folder)? else { return Ok(false) };
        let (path, allowed) = (found.join(name), allowance.clone());
        // A folder may be large. It is waited for: a removal that goes on behind its answer would undo what comes after it.
        let removed = tokio::task::spawn_blocking(move || remove_anything(&path, &|| allowed.check().is_ok())).await;
        match removed {
            Ok(Ok(was_there)) => Ok(was_there),
            Ok(Err(why)) => allowance.check().and(Err(not_removed(folder, name, &why))),
            Err(error) => {
                let message = format!("the removal of outputs did not end ({error}); this is a defect, report it");
                Err(Failed::permanent(code::INTERNAL, message))
            }
        }
    }
}

/// Another try is made only where it may go otherwise: it would run the script again.
fn not_removed(folder: &str, name: &Path, why: &NotRemoved) -> Failed {
    let what = format!("{} in the working folder {}", shown(&name.to_string_lossy()), shown(folder));
    let error = match why {
        NotRemoved::Removal(error) => error,
        NotRemoved::Path(error) => {
            let message =
                format!("{what} is no file or folder without links in its path ({error}); correct the ticket");
            return Failed::permanent(code::INVALID_PARAMETERS, message);
        }
    };
    let class = match error.kind() {
        // Rights and mounts stay as they are until somebody changes them.
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::CrossesDevices => FailureClass::Permanent,
        // Also what another process put in the place of something while it was removed.
        _ => FailureClass::Retry { after_ms: None },
    };
    Failed::new(
        code::INFRASTRUCTURE,
        class,
        format!("{what} cannot be removed: {error}; look at who may change that folder, and at what is mounted there"),
    )
}

impl<W: Workplace> Workplace for Arc<W> {
    fn find_folder(&self, folder: &str, job: &Job) -> Result<bool, Failed> {
        W::find_folder(self, folder, job)
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        W::run_command(self, command, job).await
    }

    async fn remove_left(&self, folder: &str, name: &Path, allowance: &Allowance) -> Result<bool, Failed> {
        W::remove_left(self, folder, name, allowance).await
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_removal_is_tried_again_only_where_it_may_go_otherwise() {
        let class = |why: NotRemoved| {
            let failed = not_removed("work", Path::new("dist"), &why);
            (failed.code, failed.class)
        };
        for errno in [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::BUSY, Errno::XDEV] {
            let expected = (code::INFRASTRUCTURE.to_owned(), FailureClass::Permanent);
            assert_eq!(class(NotRemoved::Removal(errno.into())), expected, "{errno:?}");
        }
        for errno in [Errno::NOTDIR, Errno::LOOP, Errno::EXIST, Errno::NOTEMPTY, Errno::NOENT, Errno::IO, Errno::MFILE]
        {
            let expected = (code::INFRASTRUCTURE.to_owned(), FailureClass::Retry { after_ms: None });
            assert_eq!(class(NotRemoved::Removal(errno.into())), expected, "{errno:?}");
        }
        let expected = (code::INVALID_PARAMETERS.to_owned(), FailureClass::Permanent);
        assert_eq!(class(NotRemoved::Path(Errno::NOTDIR.into())), expected);
    }
}
