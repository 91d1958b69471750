//! The logs of attempts in a bucket of the stand-in.

use std::process::Output;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::lane::{aws, world};
use crate::world::{World, eventually, log_lines, until};

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

/// Asks the stand-in, which believes everybody who says who he is.
async fn ask(method: Method, path: &str) -> String {
    let client = worker_agents::net::client(Duration::from_secs(10)).expect("a client");
    let who = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    );
    let asked = client.request(method, format!("{}/{path}", aws().url)).header("Authorization", who).send().await;
    let answer = asked.and_then(reqwest::Response::error_for_status).expect("the stand-in answers");
    answer.text().await.expect("text")
}

async fn make(bucket: &str) {
    ask(Method::PUT, bucket).await;
}

/// What a bucket has of logs, as the stand-in lists it.
async fn listed(bucket: &str) -> String {
    ask(Method::GET, &format!("{bucket}?list-type=2&prefix=logs/ticket-")).await
}

/// Settings of a worker whose logs go to this sink.
fn settings(sink: &str) -> [(&str, &str); 4] {
    [
        ("EXECUTION_LOG_SINK", sink),
        ("AWS_ENDPOINT_URL_S3", &aws().url),
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", "of-the-stand-in"),
    ]
}

fn logs(world: &World, name: &str, options: &[&str], sink: &str) -> Output {
    let id = world.ticket_id(name);
    world.command_with(&[&["logs", &id, "--json"], options].concat(), "", &settings(sink))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn a_long_log_is_in_the_bucket_as_a_whole_and_is_followed_to_its_end() {
    let world = world().await;
    make("long").await;
    let sink = "s3://long/logs";
    let _worker = world.worker(&settings(sink)).await;
    let gate = world.shared("gates/gate");
    let script = format!("echo begun; {}; seq -f 'line %.0f of a log that needs a few segments' 2 10000", until(&gate));
    world.publish(&world.ticket_in("gates", "long", &script)).await;
    eventually("its first line is kept", || {
        let output = logs(&world, "long", &[], sink);
        (output.status.code() == Some(0)).then(|| assert_eq!(log_lines(&output), [(1, "begun".to_owned())]))
    })
    .await;
    std::fs::write(&gate, "").expect("written");
    let followed = log_lines(&logs(&world, "long", &["-f"], sink));
    let result = world.result("long").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!((metadata.get("log_error"), &metadata["log_lines"]), (None, &Value::from("10000")), "{result}");
    let address = metadata["log"].as_str().expect("an address");
    assert!(address.starts_with(&format!("{sink}/ticket-{}/", world.ticket_id("long"))), "{address}");
    for read in [followed, log_lines(&logs(&world, "long", &[], sink))] {
        assert_eq!(read.len(), 10_000);
        assert!((1..).zip(&read).all(|(number, (seq, _))| number == *seq), "each line once, in order");
        assert!(read[9_999].1.starts_with("line 10000 of"), "{:?}", read[9_999]);
    }
    let listed = listed("long").await;
    assert!(listed.matches("<Key>").count() > 1, "more than one segment");

    // As whatever expires old objects does: the oldest one goes first.
    let (_, first) = listed.split_once("<Key>").expect("a segment");
    let (first, _) = first.split_once("</Key>").expect("its name");
    ask(Method::DELETE, &format!("long/{first}")).await;
    for options in [&[][..], &["-f"]] {
        let output = logs(&world, "long", options, sink);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("in the log of attempt 1 of") && said.contains(" are missing: they were removed"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn a_killed_workers_log_is_gone_on_with_by_the_next_one() {
    let world = world().await;
    make("killed").await;
    let sink = "s3://killed/logs";
    let mut worker = world.worker(&settings(sink)).await;
    let gate = world.shared("gates/gate");
    world.publish(&world.ticket_in("gates", "lost", &format!("echo begun; {}", until(&gate)))).await;
    eventually("its line is kept", || {
        let output = logs(&world, "lost", &[], sink);
        (output.status.code() == Some(0)).then(|| assert_eq!(log_lines(&output).len(), 1))
    })
    .await;
    worker.kill_9();
    std::fs::write(&gate, "").expect("written");
    let _next = world.worker(&settings(sink)).await;
    let result = world.result("lost").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!((metadata.get("log_error"), &metadata["log_lines"]), (None, &Value::from("3")), "{result}");
    let lines = log_lines(&logs(&world, "lost", &[], sink));
    assert_eq!(lines.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3], "{lines:?}");
    assert!(lines[1].1.contains("a worker was lost"), "{lines:?}");
    assert_eq!((lines[0].1.as_str(), lines[2].1.as_str()), ("begun", "begun"));
    assert_eq!(listed("killed").await.matches("<Key>").count(), 2, "a segment of each worker");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn doctor_tries_a_bucket_out_and_one_that_is_not_there_costs_no_ticket() {
    let world = world().await;
    make("tried-out").await;
    let doctor = |sink: &str| {
        let output = world.command_with(&["doctor", "--json"], "", &settings(sink));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("checks").clone();
        checks.into_iter().find(|check| check["check"] == "logs").expect("the check of logs")
    };
    let there = doctor("s3://tried-out/logs");
    assert_eq!(there["state"], "ok", "{there}");
    let missing = doctor("s3://no-such-bucket/logs");
    assert_eq!(missing["state"], "failed", "{missing}");
    assert!(missing["fix"].as_str().is_some_and(|fix| fix.contains("s3:PutObject")), "{missing}");
    assert!(missing.to_string().contains("NoSuchBucket"), "{missing}");

    let _worker = world.worker(&settings("s3://no-such-bucket/logs")).await;
    world.publish(&world.ticket("works", "echo done")).await;
    let result = world.result("works").await;
    assert_eq!((&result["status"], &result["result"]["output"]["stdout"]), (&"COMPLETED".into(), &"done\n".into()));
    let metadata = &result["result"]["metadata"];
    assert!(metadata["log_error"].as_str().is_some_and(|error| error.contains("NoSuchBucket")), "{result}");
}
