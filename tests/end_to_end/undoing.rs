//! Failed commands that are undone by scripts of their own, and COMPENSATE tickets as the platform writes them: what their
//! results say, and what waits for an operator (`docs/adr/0027-undoing-commands.md`).

use serde_json::{Value, json};

use crate::compensation::{Undone, announced};
use crate::world::{World, eventually};

/// The result of a COMPENSATE ticket: status and error code, and its output.
fn told(result: &Value) -> (String, String, Value) {
    let metadata = &result["result"]["metadata"];
    assert_ne!(metadata["simulated"], "true", "{result}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&result["status"]), text(&metadata["error_code"]), result["result"]["output"].clone())
}

/// The result of the ticket that undoes, once it is there.
async fn undo_of(world: &World, name: &str) -> Value {
    let (id, action) = announced(&world.result(name).await);
    assert_eq!(action, "rollback_execution");
    eventually("the undo has a result", || world.results().remove(&id)).await.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_78_inc_83_a_failed_command_is_undone_by_its_own_script_in_a_clean_environment() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let worker = undone.worker(&[]).await;
    let mut ticket =
        world.ticket_in("work", "broken", "mkdir dist; echo x > dist/a; echo y > made; echo z > kept; exit 3");
    ticket["parameters"]["execution_id"] = json!("e-1");
    ticket["parameters"]["rollback_script"] = json!("sh -c 'rm made && env'");
    ticket["parameters"]["cleanup_outputs"] = json!(["dist"]);
    world.publish_avro(&ticket).await;
    let result = undo_of(world, "broken").await;
    let (status, _, output) = told(&result);
    assert_eq!(status, "COMPLETED", "{result}");
    for (key, expected) in
        [("execution_id", "e-1"), ("rollback_executed", "true"), ("cleanup_completed", "true"), ("return_code", "0")]
    {
        assert_eq!(output[key], expected, "{key}: {output}");
    }
    let variables: Vec<&str> = output["stdout"].as_str().expect("text").lines().collect();
    let ticket_id = format!("TICKET_ID={}", result["ticket_id"].as_str().expect("id"));
    let original = format!("ORIGINAL_TICKET_ID={}", world.ticket_id("broken"));
    for given in ["COMPENSATION=true", "EXECUTION_ID=e-1", &ticket_id, &original] {
        assert!(variables.contains(&given), "{given} in {variables:?}");
    }
    assert!(!variables.iter().any(|line| line.starts_with("KAFKA_") || line.starts_with("TEMPORAL_")), "{variables:?}");
    let metadata = &result["result"]["metadata"];
    assert_eq!(
        (&metadata["executor"], &metadata["action"]),
        (&json!("CompensateExecutor"), &json!("rollback_execution"))
    );
    assert!(metadata["sandbox"].is_string() && metadata["evidence"].is_string(), "{metadata}");
    let left = |file: &str| world.shared("work").join(file).exists();
    assert_eq!([left("made"), left("dist"), left("kept")], [false, false, true]);
    undone.failure("broken").await;
    for series in [
        r#"worker_agent_compensation_tasks_executed_total{action="rollback_execution",status="success"}"#,
        r#"worker_agent_compensation_duration_seconds_count{reason="task_failed",status="success"}"#,
    ] {
        worker.reaches(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_83_an_undo_that_fails_says_what_it_came_to_and_is_done_when_it_is_resumed() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let _worker = undone.worker(&[]).await;
    let mut ticket = world.ticket_in("work", "broken", "echo y > made; exit 3");
    ticket["parameters"]["rollback_script"] = json!("sh -c 'echo looked; [ -e ready ] && rm made'");
    world.publish(&ticket).await;
    let (status, code, output) = told(&undo_of(world, "broken").await);
    assert_eq!((status.as_str(), code.as_str()), ("FAILED", "execution_failed"));
    assert_eq!((&output["rollback_executed"], &output["return_code"]), (&json!("false"), &json!("1")), "{output}");
    assert_eq!((&output["cleanup_completed"], &output["stdout"]), (&json!("false"), &json!("looked\n")), "{output}");
    undone.explained("broken", "compensation_failed").await;
    assert!(world.shared("work/made").exists());
    std::fs::write(world.shared("work/ready"), "").expect("written");
    undone.order(0, &["compensation", "resume"], "broken");
    assert!(undone.failure("broken").await.contains("has undone what it did"));
    assert!(!world.shared("work/made").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_79_a_failed_command_without_an_undo_waits_for_an_operator_and_is_never_called_undone() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let _worker = undone.worker(&[]).await;
    world.publish(&world.ticket("plain", "exit 3")).await;
    let (status, code, output) = told(&undo_of(world, "plain").await);
    assert_eq!((status.as_str(), code.as_str()), ("FAILED", "compensation_not_defined"));
    assert_eq!((&output["rollback_executed"], &output["cleanup_completed"]), (&json!("false"), &json!("false")));
    let waits = undone.explained("plain", "compensation_failed").await;
    assert_eq!(waits["waiting_for"]["error_code"], "compensation_not_defined", "{waits}");
    undone.order(0, &["compensation", "skip"], "plain");
    assert!(undone.failure("plain").await.contains("was skipped"));
}

macro_rules! sample {
    ($name:literal) => {
        ($name, include_str!(concat!("../../schemas/tests/samples/", $name, ".json")))
    };
}

/// A sample of the contract, as a ticket of this test, made now.
fn renewed(world: &World, (name, sample): (&str, &str)) -> (String, Value) {
    let name = name.replace('/', "-");
    let ticket = world.sample(&name, sample);
    (name, ticket)
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_79_inc_83_the_contracts_compensations_are_done_or_fail_and_none_is_simulated() {
    let world = World::new().await;
    let _worker = world.worker(&[("LOCAL_RUNTIME_ALLOWED_COMMANDS", "python3")]).await;
    // What `python3 undo.py --all` undoes.
    let folder = world.shared("workspace");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("made"), "").expect("written");
    let script = "import os, sys\nos.remove('made')\nprint(sys.argv[1:], os.environ['EXECUTION_ID'])\n";
    std::fs::write(folder.join("undo.py"), script).expect("written");
    let (execute, mut ticket) = renewed(&world, sample!("tickets/compensate-execute"));
    ticket["parameters"]["working_dir"] = json!(folder);
    world.publish_avro(&ticket).await;

    let mut expected = Vec::new();
    for (sample, code) in [
        (sample!("tickets/compensate-build"), "provider_not_available"),
        (sample!("tickets/compensate-deploy-argocd"), "provider_not_available"),
        (sample!("tickets/compensate-deploy-flux"), "provider_not_available"),
        (sample!("tickets/compensate-test"), "provider_not_available"),
        (sample!("tickets/compensate-validate"), "provider_not_available"),
        (sample!("tickets-json-native/orchestrator-compensation"), "provider_not_available"),
        (sample!("tickets/compensate-generic"), "compensation_not_defined"),
    ] {
        let (name, ticket) = renewed(&world, sample);
        world.publish(&ticket).await;
        expected.push((name, code));
    }
    let (_, mut nameless) = renewed(&world, sample!("tickets/compensate-generic"));
    nameless["ticket_id"] = json!(world.ticket_id("nameless"));
    nameless["parameters"]["action"] = json!("");
    world.publish(&nameless).await;
    expected.push(("nameless".to_owned(), "invalid_parameters"));

    let (status, _, output) = told(&world.result(&execute).await);
    assert_eq!((status.as_str(), &output["rollback_executed"]), ("COMPLETED", &json!("true")), "{output}");
    assert_eq!(output["stdout"], "['--all'] f96a44e2-6133-5562-b896-4a22bd902708\n");
    assert_eq!(output["cleanup_completed"], "false", "its cleanup_outputs are true, and name nothing");
    assert!(!folder.join("made").exists() && folder.join("undo.py").exists());
    for (name, expected) in expected {
        let result = world.result(&name).await;
        let (status, code, _) = told(&result);
        assert_eq!((status.as_str(), code.as_str()), ("FAILED", expected), "{name}");
        if expected != "compensation_not_defined" {
            let message = result["error_message"].as_str().expect("a message");
            assert!(message.contains("generic_cleanup, rollback_execution"), "the known ones: {message}");
        }
    }
}
