//! What tests share: a file system that does not answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ticket_activities::logs::{Line, Stream};
use ticket_activities::{LogName, LogSink as _};

use super::{FileSink, Folder};

/// A sink that waits for a tenth of a second.
pub(crate) fn impatient(root: &Path) -> FileSink {
    FileSink::with_patience(root.to_owned(), 1 << 20, Duration::from_millis(100)).expect("a thread")
}

/// Has the sink wait for a file that does not answer: a pipe that nobody reads. Answers with its path.
pub(crate) async fn hang(sink: &FileSink) -> PathBuf {
    let path = Folder::of(sink.root(), "hangs").file("run", 1);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let name = LogName { ticket_id: "hangs".to_owned(), run_id: "run".to_owned(), attempt: 1 };
    let mut log = sink.open(name).await.expect("opened");
    let line = Line { seq: 1, at_ms: 1, stream: Stream::Stdout, text: "x".repeat(1000), cut: 0 };
    let written = tokio::time::timeout(Duration::from_millis(200), log.writer.append(vec![line; 200])).await;
    assert!(written.is_err(), "it hangs");
    path
}
