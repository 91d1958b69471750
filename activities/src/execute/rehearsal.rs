//! An undo for tests of compensations, which stands in for real ones: it works in a folder, does its work once however often
//! it is begun, and fails or waits when the folder says so. Never part of the shipped image.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ticket_workflows::{Completed, Evidence, ExecutionReport, Failed, Outcome, code};

use crate::executor::{Executor, Job, Recognition};

/// Undoes in a folder: `<original>.undone` says by which tickets. While `<original>.hold` is there it waits, and with
/// `<original>.fail` it fails.
#[derive(Debug, Clone)]
pub struct RehearsedUndo {
    folder: PathBuf,
}

/// Parameters of [`RehearsedUndo`].
#[derive(Debug, Deserialize)]
pub struct RehearsedParams {
    /// The ticket to undo.
    original_ticket_id: String,
}

impl RehearsedUndo {
    /// An undo that works in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, original: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{original}.{kind}"))
    }
}

impl Executor for RehearsedUndo {
    type Params = RehearsedParams;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, params: RehearsedParams, job: Job) -> Outcome {
        let original = params.original_ticket_id.as_str();
        while self.file(original, "hold").exists() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = job.stop.cancelled() => return Failed::permanent(code::CANCELLED, "the undo was stopped").into(),
            }
        }
        if self.file(original, "fail").exists() {
            return Failed::permanent(code::EXECUTION_FAILED, "the undo fails, as its folder says").into();
        }
        let ticket_id = job.ticket.ticket_id.as_str();
        match note_once(&self.file(original, "undone"), ticket_id) {
            Ok(answered) => match Evidence::new(format!("rehearsed undo of {original}"), answered) {
                Ok(evidence) => Outcome::Completed(Completed { evidence, report: ExecutionReport::default() }),
                Err(error) => Failed::permanent(code::INTERNAL, error.to_string()).into(),
            },
            Err(error) => Failed::permanent(code::INFRASTRUCTURE, format!("the undo's folder: {error}")).into(),
        }
    }
}

/// Adds a line, unless it is there.
fn note_once(file: &Path, line: &str) -> std::io::Result<String> {
    let before = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    if before.lines().any(|known| known == line) {
        return Ok("it was undone already".to_owned());
    }
    std::fs::write(file, format!("{before}{line}\n"))?;
    Ok("undone".to_owned())
}
