//! How old the last line is that the server knows, while work writes fast and the worker holds as many secrets as one in
//! production. `LOG_RATE_MB=50`, in the release profile, is the rate that a worker must bear.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temporalio_client::tonic::Request;
use temporalio_client::{Connection, ConnectionOptions, Url};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeWorkflowExecutionRequest;
use ticket_activities::now_ms;

use super::sink;
use crate::world::{PATIENCE, World, size};

/// Writes for so many seconds, so many megabytes a second: lines of 100 bytes that begin with the time.
const WRITER: &str = r"
import sys, time
out, seconds, rate = sys.stdout.buffer, float(sys.argv[1]), float(sys.argv[2]) * 1e6
began, written = time.time(), 0
while time.time() < began + seconds:
    now = time.time()
    if written > (now - began) * rate:
        time.sleep(0.001)
        continue
    piece = b'%013d %s\n' % (int(now * 1000), b'x' * 85) * 100
    out.write(piece)
    out.flush()
    written += len(piece)
";
const SECONDS: usize = 6;
/// Heartbeats are a second apart, and one may be held back for as long.
const FRESH: Duration = Duration::from_millis(2500);

/// The time in the last line that the server knows; `None`: it knows none. `Err`: nothing runs.
async fn last_line(connection: &Connection, workflow_id: &str) -> Result<Option<i64>, ()> {
    let execution = WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() };
    let request = DescribeWorkflowExecutionRequest { namespace: "default".to_owned(), execution: Some(execution) };
    let described = connection.workflow_service().describe_workflow_execution(Request::new(request)).await;
    let Ok(described) = described else { return Ok(None) };
    let pending = described.into_inner().pending_activities;
    let Some(execute) = pending.iter().find(|it| it.activity_type.as_ref().is_some_and(|it| it.name == "execute"))
    else {
        return Err(());
    };
    let told = execute.heartbeat_details.as_ref().and_then(|details| details.payloads.first());
    let told: Option<Value> = told.and_then(|told| serde_json::from_slice(&told.data).ok());
    let last = told.as_ref().and_then(|told| told["log"]["lines"].as_array()?.last()?["text"].as_str());
    Ok(last.and_then(|text| text.get(..13)?.parse().ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_that_the_server_knows_is_fresh_while_work_writes_fast() {
    let rate = size("LOG_RATE_MB", 1);
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("folder");
    let sink = sink(folder.path());
    let tokens: Vec<String> = (0..20).map(|n| format!("caller-{n}={}", random())).collect();
    let key: Vec<String> = (0..28).map(|_| random()).collect();
    // A file that is read as a secret, whether Vault is on or not.
    let key_file = folder.path().join("key.pem");
    std::fs::write(&key_file, key.join("\n")).expect("written");
    let _worker = world
        .worker(&[
            ("EXECUTION_LOG_SINK", &sink),
            ("EXECUTION_LOG_MAX_MB", "4096"),
            ("HTTP_API_TOKEN", &tokens.join(",")),
            ("VAULT_TOKEN_PATH", key_file.to_str().expect("text")),
            ("LOCAL_RUNTIME_ALLOWED_COMMANDS", "sh,true,python3"),
        ])
        .await;
    let mut ticket = world.ticket("writes", "");
    ticket["parameters"] =
        json!({ "command": "python3", "args": ["-c", WRITER, SECONDS.to_string(), rate.to_string()] });
    world.publish(&ticket).await;

    let target = Url::parse(&format!("http://{}", world.temporal)).expect("URL");
    let connection = Connection::connect(ConnectionOptions::new(target).build()).await.expect("connected");
    let workflow_id = format!("ticket-{}", world.ticket_id("writes"));
    let (mut ages, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        match last_line(&connection, &workflow_id).await {
            Ok(Some(written)) => ages.push(Duration::from_millis(u64::try_from(now_ms() - written).unwrap_or(0))),
            Err(()) if !ages.is_empty() => break,
            Ok(None) | Err(()) => {}
        }
        assert!(Instant::now() < deadline, "nothing was written, or it never ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let result = world.result("writes").await;
    let metadata = &result["result"]["metadata"];
    let number = |key: &str| metadata[key].as_str().and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    ages.sort_unstable();
    let (looks, oldest) = (ages.len(), ages[ages.len() - 1]);
    println!(
        "{:.1} MB/s written, {rate} wanted: the server's last line was {} ms old at worst and {} ms in the middle of {looks} looks",
        number("stdout_bytes") as f64 / 1e6 / SECONDS as f64,
        oldest.as_millis(),
        ages[looks / 2].as_millis()
    );
    assert_eq!(result["status"], "COMPLETED", "{result}");
    assert!(looks >= 20, "{looks} looks");
    assert!(oldest < FRESH, "the last line was {} ms old", oldest.as_millis());
    assert!(number("stdout_bytes") * 100 >= SECONDS * rate * 95_000_000, "it was slowed down: {metadata}");
    assert_eq!((number("log_lines"), metadata.get("log_error")), (number("stdout_bytes") / 100, None), "{metadata}");
}

/// A line of a key.
fn random() -> String {
    [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|part| part.simple().to_string()).concat()
}
