//! Whether the logs of attempts can be kept.

use super::finding::{Check, Finding};
use crate::logs::Sink;

pub(super) async fn look(sink: Option<&Sink>) -> Finding {
    let Some(sink) = sink else { return Finding::ok(Check::Logs, "whole logs are kept nowhere") };
    match sink.try_out().await {
        Ok(()) => Finding::ok(Check::Logs, format!("whole logs go to {sink}")),
        Err(error) => Finding::failed(Check::Logs, format!("no log can be kept in {sink}: {error}"), sink.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::super::finding::State;
    use super::*;
    use crate::logs::FileSink;
    use crate::logs::stuck::{hang, impatient};

    fn files(root: PathBuf) -> Sink {
        Sink::Files(FileSink::new(root, 1000).expect("a thread"))
    }

    #[tokio::test]
    async fn a_folder_is_made_that_strangers_do_not_look_into_and_nothing_is_left_in_it() {
        assert_eq!(look(None).await.state, State::Ok);
        let base = tempfile::tempdir().expect("temp dir");
        let root = base.path().join("of/logs");
        let finding = look(Some(&files(root.clone()))).await;
        assert_eq!(finding.state, State::Ok, "{finding:?}");
        let mode = std::fs::metadata(&root).expect("made").permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
        assert_eq!(std::fs::read_dir(&root).expect("made").count(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_is_there_and_takes_no_file_is_a_failure() {
        // Nobody makes a file there, root neither.
        let finding = look(Some(&files(PathBuf::from("/proc")))).await;
        assert_eq!(finding.state, State::Failed, "{finding:?}");
        assert!(finding.what.starts_with("no log can be kept in /proc: "), "{finding:?}");
    }

    #[tokio::test]
    async fn a_folder_that_does_not_answer_holds_nothing_up() {
        let base = tempfile::tempdir().expect("temp dir");
        let sink = impatient(base.path());
        hang(&sink).await;
        let sink = Sink::Files(sink);
        let began = Instant::now();
        for _ in 0..10 {
            let finding = look(Some(&sink)).await;
            assert!(finding.state == State::Failed && finding.what.contains("has not answered"), "{finding:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
