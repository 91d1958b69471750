//! The folders in which commands work, as undoing them sees it.

use std::path::Path;
use std::sync::Arc;

use ticket_workflows::{Failed, FailureClass, Outcome, code};

use super::command::shown;
use super::remove::remove_anything;
use super::runtime::{LocalParams, LocalRuntime};
use super::working_dir::WorkingDir;
use crate::executor::{Executor as _, Job};

/// Where commands run and leave what they write. A rehearsal of an undo has each call fail once, and its process die there.
pub trait Workplace: Send + Sync + 'static {
    /// Whether `folder` can be worked in.
    ///
    /// # Errors
    /// When tickets may not name it, or when it is not here: it is not made.
    fn find_folder(&self, folder: &str) -> Result<(), Failed>;

    /// Runs a command as any ticket's is run.
    fn run_command(&self, command: LocalParams, job: Job) -> impl Future<Output = Outcome> + Send;

    /// Removes the file or folder `name`, a path without `..`, from `folder`; whether it was there. No link is followed,
    /// whoever is at work in the folder meanwhile.
    fn remove_left(&self, folder: &str, name: &Path) -> impl Future<Output = Result<bool, Failed>> + Send;
}

impl Workplace for LocalRuntime {
    fn find_folder(&self, folder: &str) -> Result<(), Failed> {
        WorkingDir::find(&self.config.working_dir, folder).map(|_| ())
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        self.execute(command, job).await
    }

    async fn remove_left(&self, folder: &str, name: &Path) -> Result<bool, Failed> {
        let path = WorkingDir::find(&self.config.working_dir, folder)?.join(name);
        // A folder may be large.
        let removed = tokio::task::spawn_blocking(move || remove_anything(&path)).await;
        removed.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            let name = shown(&name.to_string_lossy());
            let message = format!("{name} in the working folder {} cannot be removed: {error}", shown(folder));
            Failed::new(code::INFRASTRUCTURE, FailureClass::Retry { after_ms: None }, message)
        })
    }
}

impl<W: Workplace> Workplace for Arc<W> {
    fn find_folder(&self, folder: &str) -> Result<(), Failed> {
        W::find_folder(self, folder)
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        W::run_command(self, command, job).await
    }

    async fn remove_left(&self, folder: &str, name: &Path) -> Result<bool, Failed> {
        W::remove_left(self, folder, name).await
    }
}
