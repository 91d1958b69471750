//! An invocation's life: it is answered, refused, outlives its worker, and is never said to have stopped.

use serde_json::{Value, json};

use crate::gate::Gate;
use crate::lane::{DEFAULT, aws, settings, started, ticket, world};
use crate::world::verdict;

fn hello() -> Value {
    json!({ "exit_code": 0, "stdout": "hello world\n", "stderr": "" })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn the_contracts_ticket_runs_with_the_contracts_outputs() {
    let world = world().await;
    let worker = started(&world, &aws().url).await;
    aws().answer_next(&hello()).await;
    let before = aws().invocations(DEFAULT);
    let sample = include_str!("../../schemas/tests/samples/tickets/execute-lambda.json");
    world.publish_avro(&world.sample("sample", sample)).await;
    let result = world.result("sample").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    assert_eq!((&output["stdout"], &output["stderr"]), (&json!("hello world\n"), &json!("")), "{output}");
    assert_eq!(output["exit_code"], "0", "{output}");
    assert!(output["request_id"].as_str().is_some_and(|id| id.len() >= 32), "{output}");
    assert_eq!((&metadata["runtime"], &metadata["executor"]), (&json!("lambda"), &json!("ExecuteExecutor")));
    assert_eq!((&metadata["simulated"], &metadata["function_name"]), (&json!("false"), &json!("neural-hive-executor")));
    assert_eq!(aws().invocations(DEFAULT), before + 1);
    for series in [
        r#"worker_agent_lambda_invocations_total{status="success"}"#,
        "worker_agent_lambda_duration_seconds_count",
        r#"worker_agent_execute_tasks_executed_total{status="success"}"#,
        r#"worker_agent_execute_duration_seconds_count{runtime="lambda"}"#,
    ] {
        worker.reaches(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn a_function_is_told_the_command_and_which_ticket_asks() {
    let world = world().await;
    let _worker = started(&world, &aws().url).await;
    // Without another word the stand-in answers with what it was asked.
    world.publish(&ticket(&world, "echo", "echo")).await;
    let result = world.result("echo").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let told = result["result"]["output"]["stdout"].as_str().expect("text");
    let told: Value = serde_json::from_str(told).expect("the payload");
    assert_eq!((&told["command"], &told["args"]), (&json!("echo hello"), &json!(["hello"])), "{told}");
    assert_eq!(told["ticket"]["ticket_id"], world.ticket_id("echo"));
    assert_eq!(told["ticket"]["attempt"], 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn what_a_function_says_went_wrong_is_a_failure_of_the_ticket() {
    let world = world().await;
    let _worker = started(&world, &aws().url).await;
    aws().answer_next(&json!({ "exit_code": 3, "stdout": "begun\n", "stderr": "no such file\n" })).await;
    world.publish(&ticket(&world, "failed", "failing")).await;
    let result = world.result("failed").await;
    let (status, code, _) = verdict(&result);
    assert_eq!((status, code), ("FAILED", "execution_failed"), "{result}");
    assert_eq!(result["result"]["output"]["exit_code"], "3", "{result}");
    assert!(result["error_message"].as_str().is_some_and(|text| text.contains("no such file")), "{result}");
    assert_eq!(aws().invocations("failing"), 1, "a command's own failure is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn an_asynchronous_invocation_is_complete_when_it_is_accepted() {
    let world = world().await;
    let _worker = started(&world, &aws().url).await;
    let mut event = ticket(&world, "event", "event");
    event["parameters"]["invocation_type"] = json!("Event");
    world.publish(&event).await;
    let result = world.result("event").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    assert_eq!(metadata["invocation_type"], "Event", "{metadata}");
    assert_eq!(result["result"]["logs"], json!(["function returned 202"]), "{result}");
    assert!(output.get("stdout").is_none_or(Value::is_null), "no output is claimed: {output}");
    aws().invoked("event", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn inc_44_a_killed_workers_function_is_invoked_again_and_the_result_says_that_it_may_have_run_before() {
    let (world, gate) = (world().await, Gate::to(aws().address()).await);
    let mut worker = started(&world, &gate.url).await;
    world.publish(&ticket(&world, "killed", "killed")).await;
    aws().invoked("killed", 1).await;
    worker.kill_9();
    gate.open();
    let _next = started(&world, &gate.url).await;
    let result = world.result("killed").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let metadata = &result["result"]["metadata"];
    assert_eq!((&metadata["external_state"], &metadata["attempt_count"]), (&json!("unknown"), &json!("1")), "{result}");
    let told = result["result"]["output"]["stdout"].as_str().expect("text");
    assert!(told.contains(r#""attempt":1"#), "the function can tell a repetition: {told}");
    assert_eq!(aws().invocations("killed"), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn inc_44_a_killed_workers_function_is_not_invoked_again_when_it_may_run_only_once() {
    let (world, gate) = (world().await, Gate::to(aws().address()).await);
    let mut worker = started(&world, &gate.url).await;
    let mut once = ticket(&world, "once", "once");
    once["qos"] = json!({ "delivery_mode": "AT_MOST_ONCE", "consistency": "EVENTUAL", "durability": "PERSISTENT" });
    world.publish(&once).await;
    aws().invoked("once", 1).await;
    worker.kill_9();
    gate.open();
    let _next = started(&world, &gate.url).await;
    let result = world.result("once").await;
    assert_eq!(verdict(&result), ("FAILED", "lost_at_most_once", "unknown"), "{result}");
    assert_eq!(aws().invocations("once"), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn inc_44_a_cancelled_or_late_function_is_unknown_and_not_invoked_again() {
    let (world, gate) = (world().await, Gate::to(aws().address()).await);
    let _worker = started(&world, &gate.url).await;
    world.publish(&ticket(&world, "cancelled", "cancelled")).await;
    aws().invoked("cancelled", 1).await;
    world.cancel("cancelled");
    let result = world.result("cancelled").await;
    assert_eq!(verdict(&result), ("FAILED", "cancelled", "unknown"), "{result}");
    let mut late = ticket(&world, "late", "late");
    late["parameters"]["timeout_seconds"] = json!(2);
    world.publish(&late).await;
    let result = world.result("late").await;
    assert_eq!(verdict(&result), ("FAILED", "timeout", "unknown"), "{result}");
    assert_eq!((aws().invocations("cancelled"), aws().invocations("late")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn a_function_that_fails_or_is_not_there_is_told_from_a_lambda_that_does_not_answer() {
    let world = world().await;
    aws().set_strict(true).await;
    let worker = started(&world, &aws().url).await;
    world.publish(&ticket(&world, "broken", "broken")).await;
    let broken = world.result("broken").await;
    world.publish(&ticket(&world, "missing", "no-such-function")).await;
    let missing = world.result("missing").await;
    let mut by_settings = ticket(&world, "by-settings", "");
    by_settings["sla"]["max_retries"] = json!(0);
    world.publish(&by_settings).await;
    let by_settings = world.result("by-settings").await;
    aws().set_strict(false).await;
    for (result, code, words) in [
        (&broken, "execution_failed", "the function failed (Handled): error running docker"),
        (&missing, "invalid_parameters", "function no-such-function is not in region us-east-1"),
        (&by_settings, "provider_refused", "check LAMBDA_FUNCTION_NAME"),
    ] {
        let (status, found, state) = verdict(result);
        assert_eq!((status, found, state), ("FAILED", code, ""), "{result}");
        assert!(result["error_message"].as_str().is_some_and(|text| text.contains(words)), "{result}");
    }
    let (output, metadata) = (&broken["result"]["output"], &broken["result"]["metadata"]);
    assert_eq!((&output["exit_code"], &metadata["function_error"]), (&json!("1"), &json!("Handled")), "{broken}");
    assert_eq!((aws().invocations("broken"), aws().invocations("no-such-function")), (1, 1), "neither is tried again");
    worker.reaches(r#"worker_agent_lambda_invocations_total{status="failed"}"#, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a stand-in of AWS: make test-lambda"]
async fn doctor_asks_without_invoking() {
    let world = world().await;
    let found = |strict| {
        let output = world.command_with(&["doctor", "--json"], "", &settings(&aws().url));
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("neural-hive-executor"), "strict: {strict}: {text}");
        text.contains("this worker may invoke function neural-hive-executor")
    };
    assert!(found(false));
    aws().set_strict(true).await;
    let there = found(true);
    aws().set_strict(false).await;
    assert!(!there, "a function that is not there is found out");
}
