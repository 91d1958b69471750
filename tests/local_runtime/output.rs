//! What fast output costs: the worker's memory, and no line.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use ticket_activities::logs::Logs;
use ticket_activities::{LogName, LogSink, Progress};
use worker_agents::logs::{FileSink, Folder, LogReader};

use crate::world::{World, completed};

/// Writes for so many seconds, as fast as it is read: lines of 100 bytes.
const WRITER: &str = "
import sys, time
out, end = sys.stdout.buffer, time.time() + float(sys.argv[1])
while time.time() < end:
    out.write((b'x' * 99 + b'\\n') * 655)
";
/// Memory that a command's output may take, however long it is: pieces under way, and both ends.
const MOST_MIB: f64 = 32.0;

/// Memory of this process that is no code, in MiB.
fn own_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1024.0
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_output_is_kept_in_flat_memory_and_each_line_once() {
    let folder = tempfile::tempdir().expect("folder");
    for (what, sink) in [("last lines only", None), ("whole log in a file", Some(folder.path().to_owned()))] {
        let mut world = World::new();
        let name = LogName { ticket_id: "t-1".to_owned(), run_id: "run".to_owned(), attempt: 1 };
        let sink = sink.map(|folder| Arc::new(FileSink::new(folder, 4 << 30).expect("a thread")) as Arc<dyn LogSink>);
        let kept = sink.is_some();
        world.progress = Progress::of(Logs { sink, secrets: None }.begin(name, None));
        // What a first command needs for ever is not its output's.
        world.still_works().await;
        let before = own_mib();
        let mut most = before;
        let mut run = pin!(world.run(json!({ "command": "python3", "args": ["-c", WRITER, "3"] })));
        let done = loop {
            tokio::select! {
                done = &mut run => break completed(done),
                () = tokio::time::sleep(Duration::from_millis(20)) => most = own_mib().max(most),
            }
        };
        let bytes = done.report.metadata["stdout_bytes"].as_u64().expect("a number");
        let growth = most - before;
        println!("{what}: {:.0} MB of output, {growth:.1} MiB of memory", bytes as f64 / 1e6);
        assert!(bytes > 1_000_000, "{what}: it wrote {bytes} bytes");
        assert!(growth < MOST_MIB, "{what}: {growth:.1} MiB for {bytes} bytes");
        if kept {
            let path = Folder::of(folder.path(), "t-1").file("run", 1);
            let mut reader = LogReader::open(&path).expect("the log");
            let (mut lines, mut last) = (0, 0);
            while let Some(line) = reader.line().expect("readable") {
                (lines, last) = (lines + 1, line.seq);
            }
            // With the line of the first command.
            assert_eq!((lines, last), (bytes / 100 + 1, bytes / 100 + 1), "each line once");
        }
    }
}
