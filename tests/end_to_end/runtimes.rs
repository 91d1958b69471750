//! Which runtime an EXECUTE ticket gets, and what its result says when it is not the one that was asked for.

use serde_json::{Value, json};

use crate::world::{Worker, World, eventually};

/// A folder that nothing can be put into: the local runtime cannot begin anything there.
const BROKEN: (&str, &str) = ("LOCAL_RUNTIME_WORKING_DIR", "/dev/null/folder");

fn metadata(result: &Value) -> &Value {
    &result["result"]["metadata"]
}

fn asking(world: &World, name: &str, runtime: &str, script: &str) -> Value {
    let mut ticket = world.ticket(name, script);
    ticket["parameters"]["runtime"] = json!(runtime);
    ticket
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_72_a_runtime_that_is_not_here_is_replaced_by_those_that_were_named_for_it_and_the_result_says_so() {
    let world = World::new().await;
    let worker = world.worker(&[("RUNTIME_FALLBACK_CHAIN", "k8s,docker,local")]).await;
    world.publish(&asking(&world, "k8s", "k8s", "echo ran")).await;
    world.publish(&asking(&world, "made-up", "my-own-runtime", "echo ran")).await;
    let mut generated = world.ticket("generated", "echo ran");
    generated["parameters"]["template_id"] = json!("t");
    world.publish(&generated).await;

    let result = world.result("k8s").await;
    assert_eq!((&result["status"], &metadata(&result)["runtime"]), (&json!("COMPLETED"), &json!("local")), "{result}");
    let fallbacks = metadata(&result)["runtime_fallbacks"].as_str().expect("named");
    let fallbacks: Value = serde_json::from_str(fallbacks).expect("JSON");
    assert_eq!((&fallbacks[0]["from"], &fallbacks[0]["to"]), (&json!("k8s"), &json!("local")));
    assert!(fallbacks[0]["reason"].as_str().expect("text").contains("not available"), "{fallbacks}");
    assert_eq!(world.result("made-up").await["status"], "COMPLETED");
    let generated = world.result("generated").await;
    assert_eq!(metadata(&generated)["error_code"], "provider_not_available", "nothing else makes code of a template");

    for (from, count) in [("k8s", 1.0), ("other", 1.0)] {
        let metric =
            format!(r#"worker_agent_execute_runtime_fallbacks_total{{from_runtime="{from}",to_runtime="local"}}"#);
        assert_eq!(worker.metric(&metric).await, count, "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_54_nothing_is_simulated_unless_the_settings_say_so() {
    let world = World::new().await;
    for (name, settings, expected) in [
        // The local runtime is off, or cannot begin.
        ("production", &[("LOCAL_RUNTIME_ENABLED", "false")][..], "executor_not_available"),
        ("broken", &[BROKEN, ("ENVIRONMENT", "development")], "infrastructure"),
        ("unconfigured", &[("LOCAL_RUNTIME_ENABLED", "false"), ("ENVIRONMENT", "development")], "simulated"),
        ("always", &[BROKEN, ("SIMULATION_FALLBACK", "always")], "simulated"),
    ] {
        let worker = world.worker(settings).await;
        world.publish(&world.ticket(name, "echo ran")).await;
        let result = world.result(name).await;
        if expected == "simulated" {
            assert_eq!(result["status"], "COMPLETED", "{name}: {result}");
            assert_eq!(metadata(&result)["simulated"], "true", "{name}: {result}");
            assert_eq!(metadata(&result)["runtime"], "simulation", "{name}: {result}");
            let fallbacks = metadata(&result)["runtime_fallbacks"].as_str().expect("named");
            assert!(fallbacks.contains(r#""from":"local""#), "{name}: {fallbacks}");
            let counted = r#"worker_agent_tickets_simulated_total{task_type="EXECUTE"}"#;
            worker.reaches(counted, 1.0).await;
        } else {
            assert_eq!(metadata(&result)["error_code"], expected, "{name}: {result}");
        }
        // The next worker is another one.
        drop(worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_54_a_commands_own_failure_is_its_answer_whatever_may_take_over() {
    let world = World::new().await;
    let worker = world.worker(&[("SIMULATION_FALLBACK", "always")]).await;
    world.publish(&world.ticket("fails", "exit 3")).await;
    let mut refused = world.ticket("refused", "true");
    refused["parameters"] = json!({ "command": "no-such-program" });
    world.publish(&refused).await;
    let fails = world.result("fails").await;
    assert_eq!((&fails["status"], &metadata(&fails)["error_code"]), (&json!("FAILED"), &json!("execution_failed")));
    assert_eq!(metadata(&world.result("refused").await)["error_code"], "command_not_allowed");
    assert_eq!(metadata(&fails).get("runtime_fallbacks"), None);
    let metric = r#"worker_agent_execute_runtime_fallbacks_total{from_runtime="local",to_runtime="simulation"}"#;
    assert_eq!(worker.metric(metric).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_execute_move_with_what_the_local_runtime_does() {
    let world = World::new().await;
    let worker = world.worker(&[("RUNTIME_FALLBACK_CHAIN", "local")]).await;
    let mut slow = world.ticket("slow", "sleep 60");
    slow["parameters"]["timeout_seconds"] = json!(0.5);
    let mut refused = world.ticket("refused", "true");
    refused["parameters"] = json!({ "command": "no-such-program" });
    let (ok, fails) = (world.ticket("ok", "sleep 0.2"), world.ticket("fails", "exit 3"));
    world.publish_all(&[ok, fails, slow, refused, asking(&world, "elsewhere", "k8s", "true")]).await;
    for name in ["ok", "fails", "slow", "refused", "elsewhere"] {
        world.result(name).await;
    }
    for (series, count) in [
        (r#"worker_agent_execute_tasks_executed_total{status="success"}"#, 2.0),
        (r#"worker_agent_execute_tasks_executed_total{status="failed"}"#, 3.0),
        (r#"worker_agent_execute_duration_seconds_count{runtime="local"}"#, 5.0),
        (r#"worker_agent_execute_runtime_fallbacks_total{from_runtime="k8s",to_runtime="local"}"#, 1.0),
        (r#"worker_agent_local_executions_total{status="success"}"#, 2.0),
        (r#"worker_agent_local_executions_total{status="failed"}"#, 1.0),
        (r#"worker_agent_local_executions_total{status="timeout"}"#, 1.0),
        (r#"worker_agent_local_executions_total{status="not_allowed"}"#, 1.0),
        ("worker_agent_local_execution_duration_seconds_count", 4.0),
    ] {
        assert_eq!(worker.metric(series).await, count, "{series}");
    }
    let seconds = worker.metric("worker_agent_local_execution_duration_seconds_sum").await;
    assert!((0.7..60.0).contains(&seconds), "{seconds} s for one of 0.2 s and one stopped after 0.5 s");
}

/// Kills the worker once its log has this.
async fn killed_after(worker: Worker, said: &str) {
    eventually(said, || worker.log().contains(said).then_some(())).await;
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_from_a_lost_worker_goes_on_where_it_was_and_nowhere_else() {
    const ALWAYS: (&str, &str) = ("SIMULATION_FALLBACK", "always");
    // The lost worker had changed to another runtime: the first one is here, and does not begin.
    let world = World::new().await;
    killed_after(with_ticket(&world, "changed", "echo ran", &[BROKEN, ALWAYS]).await, "provider_changed").await;
    let _next = world.worker(&[ALWAYS]).await;
    let changed = world.result("changed").await;
    assert_eq!(metadata(&changed)["runtime"], "simulation", "{changed}");
    let fallbacks = metadata(&changed)["runtime_fallbacks"].as_str().expect("named");
    assert!(fallbacks.contains("working folder"), "the reason is the lost worker's: {fallbacks}");

    // It was at a runtime that cannot begin here: that is no reason to simulate what it may have done.
    let world = World::new().await;
    killed_after(with_ticket(&world, "begun", "sleep 600", &[]).await, "process started").await;
    let _next = world.worker(&[BROKEN, ALWAYS]).await;
    let begun = world.result("begun").await;
    assert_eq!(
        (&begun["status"], &metadata(&begun)["external_state"]),
        (&json!("FAILED"), &json!("unknown")),
        "{begun}"
    );

    // It was at a runtime that is not here.
    let world = World::new().await;
    killed_after(with_ticket(&world, "gone", "sleep 600", &[]).await, "process started").await;
    let _next = world.worker(&[("LOCAL_RUNTIME_ENABLED", "false"), ALWAYS]).await;
    let gone = world.result("gone").await;
    assert_eq!(metadata(&gone)["error_code"], "provider_not_available", "{gone}");
    assert_eq!(metadata(&gone)["external_state"], "unknown", "{gone}");
}

async fn with_ticket(world: &World, name: &str, script: &str, settings: &[(&str, &str)]) -> Worker {
    let worker = world.worker(settings).await;
    world.publish(&world.ticket(name, script)).await;
    worker
}
