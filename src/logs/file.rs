//! Logs in files: a folder for each ticket, a file of JSON lines for each attempt, only ever appended to. Nothing removes them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ticket_activities::logs::Line;
use ticket_activities::{LogName, LogSink, LogSinkError, LogWriter, OpenLog};
use uuid::Uuid;

use super::Folder;
use super::bound::{Bound, last_line};
use super::disk::Disk;
use crate::config::overlap;

/// Bytes at the end of a file in which its last line is looked for: above the longest line, every byte of it escaped.
const LOOKED_AT: u64 = 256 * 1024;
/// How long a file system may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keeps logs below a folder of this machine.
#[derive(Debug, Clone)]
pub struct FileSink {
    root: PathBuf,
    /// Where commands write, which could change logs there.
    working_dir: Option<PathBuf>,
    max_bytes: u64,
    disk: Disk,
}

impl FileSink {
    /// As [`FileSink::new`], with a folder where commands write: no log is kept where links lead there.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(super) fn beside(root: PathBuf, max_bytes: u64, working_dir: PathBuf) -> io::Result<Self> {
        Ok(Self { working_dir: Some(working_dir), ..Self::new(root, max_bytes)? })
    }

    /// Keeps at most `max_bytes` of each attempt's log below `root`.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn new(root: PathBuf, max_bytes: u64) -> io::Result<Self> {
        Self::with_patience(root, max_bytes, PATIENCE)
    }

    pub(super) fn with_patience(root: PathBuf, max_bytes: u64, patience: Duration) -> io::Result<Self> {
        Ok(Self { root, working_dir: None, max_bytes, disk: Disk::new(patience)? })
    }

    /// The folder of all logs.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file there and removes it.
    ///
    /// # Errors
    /// When that is not possible, or takes too long.
    pub(crate) async fn try_out(&self) -> io::Result<()> {
        let (root, check) = (self.root.clone(), self.check());
        let call = move || {
            check()?;
            make_folder(&root)?;
            let path = root.join(format!(".check-{}", Uuid::new_v4()));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path)?;
            let written = file.write_all(b"a worker tries out whether logs can be kept here\n");
            std::fs::remove_file(&path)?;
            written
        };
        self.disk.try_call(call).await
    }

    /// Refuses a folder from which links lead to where commands write.
    fn check(&self) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let (root, working_dir) = (self.root.clone(), self.working_dir.clone());
        move || match working_dir.filter(|working_dir| overlap(&root, working_dir)) {
            Some(working_dir) => Err(io::Error::other(format!(
                "commands write in LOCAL_RUNTIME_WORKING_DIR, {}, and links lead there",
                working_dir.display()
            ))),
            None => Ok(()),
        }
    }
}

impl LogSink for FileSink {
    fn open(&self, name: LogName) -> BoxFuture<'_, Result<OpenLog, LogSinkError>> {
        Box::pin(async move {
            let path = Folder::of(&self.root, &name.ticket_id).file(&name.run_id, name.attempt);
            let (address, max_bytes) = (address(&path), self.max_bytes);
            let check = self.check();
            let opened = self.disk.try_call(move || check().and_then(|()| FileLog::open(&path, max_bytes))).await;
            let (log, last_seq) = opened.map_err(|error| named(&address, &error))?;
            let log = Arc::new(Mutex::new(log));
            let writer = FileWriter { address: address.clone(), disk: self.disk.clone(), log };
            Ok(OpenLog { address, last_seq, pace: Duration::ZERO, writer: Box::new(writer) })
        })
    }
}

struct FileWriter {
    address: String,
    disk: Disk,
    log: Arc<Mutex<FileLog>>,
}

impl FileWriter {
    /// How many lines have been left out after the call.
    fn with(
        &mut self,
        call: impl FnOnce(&mut FileLog) -> io::Result<()> + Send + 'static,
    ) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        let log = Arc::clone(&self.log);
        let call = move || {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            call(&mut log)?;
            Ok(log.bound.left_out())
        };
        Box::pin(async move { self.disk.call(call).await.map_err(|error| named(&self.address, &error)) })
    }
}

impl LogWriter for FileWriter {
    fn append(&mut self, lines: Vec<Line>) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        self.with(move |log| log.append(&lines))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<u64, LogSinkError>> {
        self.with(FileLog::close)
    }
}

fn named(address: &str, error: &io::Error) -> LogSinkError {
    LogSinkError { address: address.to_owned(), cause: error.to_string() }
}

/// Makes a folder that strangers do not look into, and those that it is in.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

/// The path with this machine's name: workers have folders of their own, or share one.
fn address(path: &Path) -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    let url = reqwest::Url::from_file_path(path).ok().and_then(|mut url| {
        url.set_host(host.as_deref()).ok()?;
        Some(url.to_string())
    });
    url.unwrap_or_else(|| path.display().to_string())
}

/// One file.
struct FileLog {
    file: File,
    bound: Bound,
}

impl FileLog {
    /// Opens the file behind what it holds, and says the number of its last line.
    fn open(path: &Path, max_bytes: u64) -> io::Result<(Self, u64)> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        let mut bytes = file.metadata()?.len();
        let looked_at = bytes.min(LOOKED_AT);
        let mut end = vec![0; usize::try_from(looked_at).unwrap_or_default()];
        file.read_exact_at(&mut end, bytes - looked_at)?;
        // A worker that was lost while it wrote: what it left is no line, and must not spoil the next one.
        if end.last().is_some_and(|byte| *byte != b'\n') {
            file.write_all(b"\n")?;
            bytes += 1;
        }
        let last = last_line(&end);
        let last_seq = last.as_ref().map_or(0, |line| line.seq);
        Ok((Self { file, bound: Bound::new(bytes, max_bytes, last.as_ref()) }, last_seq))
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let bytes = self.bound.take(lines)?;
        self.file.write_all(&bytes)
    }

    fn close(&mut self) -> io::Result<()> {
        let bytes = self.bound.end()?;
        self.file.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use ticket_activities::logs::Stream;

    use super::*;
    use crate::logs::stuck::{hang, impatient};

    fn name(ticket_id: &str) -> LogName {
        LogName { ticket_id: ticket_id.to_owned(), run_id: "run".to_owned(), attempt: 1 }
    }

    fn lines(numbers: std::ops::RangeInclusive<u64>) -> Vec<Line> {
        let line = |seq| Line { seq, at_ms: 1, stream: Stream::Stdout, text: format!("line {seq}"), cut: 0 };
        numbers.map(line).collect()
    }

    fn sink(root: &Path, max_bytes: u64) -> FileSink {
        FileSink::new(root.to_owned(), max_bytes).expect("a thread")
    }

    async fn open(root: &Path, max_bytes: u64, ticket_id: &str) -> OpenLog {
        sink(root, max_bytes).open(name(ticket_id)).await.expect("opened")
    }

    fn read(root: &Path, ticket_id: &str) -> Vec<Line> {
        let attempts = Folder::of(root, ticket_id).attempts("run").expect("readable");
        let mut lines = Vec::new();
        for (_, path) in attempts {
            let mut reader = super::super::LogReader::open(&path).expect("readable");
            while let Some(line) = reader.line().expect("readable") {
                lines.push(line);
            }
        }
        lines
    }

    #[tokio::test]
    async fn a_log_is_opened_again_behind_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("logs");
        let mut log = open(&root, 1 << 20, "t").await;
        assert_eq!(log.last_seq, 0);
        log.writer.append(lines(1..=3)).await.expect("written");
        // A worker that is lost in the middle of a line.
        let path = Folder::of(&root, "t").file("run", 1);
        let mut file = OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(br#"{"seq":4,"at_ms":1,"str"#).expect("written");
        let mut log = open(&root, 1 << 20, "t").await;
        assert_eq!(log.last_seq, 3);
        log.writer.append(lines(4..=5)).await.expect("written");
        assert_eq!(log.writer.close().await, Ok(0));
        assert_eq!(read(&root, "t"), lines(1..=5));
        assert!(
            log.address.starts_with("file://") && log.address.ends_with("/ticket-t/run.1.jsonl"),
            "{}",
            log.address
        );
    }

    #[tokio::test]
    async fn a_log_that_is_too_large_says_where_it_was_cut_and_how_much_is_missing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut log = open(folder.path(), 1000, "t").await;
        for line in lines(1..=100) {
            log.writer.append(vec![line]).await.expect("written");
        }
        let left_out = log.writer.close().await.expect("closed");
        let read = read(folder.path(), "t");
        let (kept, notes): (Vec<_>, Vec<_>) = read.into_iter().partition(|line| line.stream == Stream::Stdout);
        assert_eq!(kept, lines(1..=100 - left_out));
        assert!(left_out > 50, "{left_out}");
        assert!(notes[0].text.contains("EXECUTION_LOG_MAX_MB") && notes[0].seq == 101 - left_out, "{notes:?}");
        assert_eq!(notes[1].text, format!("[… {left_out} lines were left out …]"));
    }

    #[tokio::test]
    async fn no_ticket_id_leaves_the_folder_and_a_folder_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("logs");
        for id in [".", "..", "a:b", &"x".repeat(200)] {
            open(&root, 1 << 20, id).await.writer.append(lines(1..=1)).await.expect("written");
            assert_eq!(read(&root, id), lines(1..=1), "{id}");
        }
        let inside = std::fs::read_dir(&root).expect("folder").count();
        assert_eq!((inside, std::fs::read_dir(folder.path()).expect("folder").count()), (4, 1));

        let sink = sink(Path::new("/dev/null/logs"), 1000);
        let error = sink.open(name("t")).await.err().expect("an error").to_string();
        assert!(error.contains("/dev/null/logs/ticket-t"), "{error}");
    }

    #[tokio::test]
    async fn no_log_is_kept_where_links_lead_to_what_commands_write() {
        let base = tempfile::tempdir().expect("folder");
        let (work, link) = (base.path().join("work"), base.path().join("link"));
        std::fs::create_dir(&work).expect("made");
        std::os::unix::fs::symlink(&work, &link).expect("a link");
        let sink = FileSink::beside(link.join("logs"), 1 << 20, work.clone()).expect("a thread");
        for error in [sink.try_out().await.err().map(|error| error.to_string()), opening(&sink).await] {
            assert!(error.as_ref().is_some_and(|error| error.contains("links lead there")), "{error:?}");
        }
        assert_eq!(std::fs::read_dir(&work).expect("there").count(), 0);
        let sink = FileSink::beside(base.path().join("logs"), 1 << 20, work).expect("a thread");
        sink.try_out().await.expect("another folder");
        assert_eq!(opening(&sink).await, None);
    }

    async fn opening(sink: &FileSink) -> Option<String> {
        sink.open(name("t")).await.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn while_the_file_system_does_not_answer_no_log_is_opened_and_afterwards_they_are() {
        let folder = tempfile::tempdir().expect("folder");
        let sink = impatient(folder.path());
        let path = hang(&sink).await;
        let began = std::time::Instant::now();
        for _ in 0..100 {
            let error = sink.open(name("t")).await.err().expect("an error").to_string();
            assert!(error.contains("ticket-t") && error.contains("has not answered"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for it: {:?}", began.elapsed());
        let reading = std::thread::spawn(move || std::io::copy(&mut File::open(path).expect("there"), &mut io::sink()));
        let mut log = loop {
            match sink.open(name("t")).await {
                Ok(log) => break log,
                Err(_) => assert!(began.elapsed() < Duration::from_secs(20), "it never answered"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(log.writer.append(lines(1..=1)).await, Ok(0));
        assert_eq!(read(folder.path(), "t"), lines(1..=1));
        drop((sink, log));
        reading.join().expect("no panic").expect("read to its end");
    }

    #[tokio::test]
    async fn a_log_that_is_full_makes_no_json_of_what_it_leaves_out() {
        let folder = tempfile::tempdir().expect("folder");
        let mut log = open(folder.path(), 100, "t").await;
        assert_eq!(log.writer.append(lines(1..=100)).await, Ok(99));
        let began = std::time::Instant::now();
        let long = Line { text: "x".repeat(Line::MAX_BYTES), ..lines(1..=1).remove(0) };
        for _ in 0..20 {
            log.writer.append(vec![long.clone(); 1000]).await.expect("left out");
        }
        println!("20,000 lines in {:?}", began.elapsed());
        assert_eq!(log.writer.close().await, Ok(20_099));
        assert_eq!(read(folder.path(), "t").len(), 3, "one line, and what is said of the others");
    }
}
