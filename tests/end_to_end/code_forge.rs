//! Tickets that ask for code of a template, at a Code Forge on a real socket that ends a generation when a test says so. How
//! often anything was asked for is counted there.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::code_forge_stand_in::{COMPLETED, CodeForgeStandIn, Ending};
use crate::world::{Worker, World, eventually, verdict};

/// What upstream makes of any error (INC-54).
const SIMULATE: (&str, &str) = ("SIMULATION_FALLBACK", "always");
/// Looks, a second apart, after which the server has heard of the request by a heartbeat.
const LOOKS: usize = 5;

/// The Code Forge of one test.
struct Forge {
    stand_in: CodeForgeStandIn,
    url: String,
    stop: CancellationToken,
}

impl Drop for Forge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Forge {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let (stand_in, stop) = (CodeForgeStandIn::default(), CancellationToken::new());
        tokio::spawn(stand_in.clone().serve(listener, stop.clone()));
        Self { stand_in, url, stop }
    }

    fn settings(&self) -> [(&str, &str); 2] {
        [("CODE_FORGE_URL", &self.url), ("CODE_FORGE_POLL_INTERVAL_SECONDS", "1")]
    }

    async fn worker(&self, world: &World) -> Worker {
        world.worker(&self.settings()).await
    }

    /// Waits until a heartbeat has told the server of the request; its id.
    async fn recorded(&self) -> String {
        eventually("the generation is watched", || (self.stand_in.looks() >= LOOKS).then_some(())).await;
        let running = self.stand_in.running();
        assert_eq!(running.len(), 1, "{running:?}");
        running[0].clone()
    }

    fn creates(&self, world: &World, name: &str) -> usize {
        self.stand_in.creates().get(&world.ticket_id(name)).copied().unwrap_or_default()
    }
}

fn ticket(world: &World, name: &str) -> Value {
    let mut ticket = world.ticket(name, "");
    ticket["parameters"] = json!({ "template_id": "fastapi-microservice", "language": "python" });
    ticket
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_ticket_has_the_contracts_request_and_output() {
    let (world, forge) = (World::new().await, Forge::start().await);
    let worker = forge.worker(&world).await;
    let sample = include_str!("../../schemas/tests/samples/tickets/execute-code-forge.json");
    world.publish_avro(&world.sample("sample", sample)).await;
    let request = forge.recorded().await;
    forge.stand_in.end_all(Ending::Completed);

    let result = world.result("sample").await;
    assert_eq!(result["status"], "COMPLETED", "{result}");
    let (output, metadata) = (&result["result"]["output"], &result["result"]["metadata"]);
    let made: Value = serde_json::from_str(COMPLETED).expect("JSON");
    let artifacts: Value = serde_json::from_str(output["artifacts"].as_str().expect("text")).expect("JSON");
    assert_eq!((&artifacts, &output["pipeline_id"]), (&made["artifacts"], &made["pipeline_id"]));
    assert_eq!(output["request_id"], request);
    assert_eq!(output.as_object().expect("an object").len(), 3, "{output}");
    assert_eq!((&metadata["runtime"], &metadata["executor"]), (&json!("code_forge"), &json!("ExecuteExecutor")));
    assert_eq!((&metadata["simulated"], metadata.get("external_state")), (&json!("false"), None), "{metadata}");
    assert_eq!(result["result"]["logs"], json!(["generation completed"]));

    let asked = include_str!("../samples/http/code-forge/generate-request.json");
    let mut asked: Value = serde_json::from_str(asked).expect("JSON");
    asked["ticket_id"] = json!(world.ticket_id("sample"));
    assert_eq!(forge.stand_in.requests(), [asked]);
    for series in [
        r#"worker_agent_code_forge_api_calls_total{method="generate",status="success"}"#,
        r#"worker_agent_code_forge_api_calls_total{method="status",status="success"}"#,
        r#"worker_agent_execute_tasks_executed_total{status="success"}"#,
        r#"worker_agent_execute_duration_seconds_count{runtime="code_forge"}"#,
    ] {
        worker.reaches(series, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_44_a_killed_workers_generation_is_gone_on_with_and_asked_for_once() {
    let (world, forge) = (World::new().await, Forge::start().await);
    let mut worker = forge.worker(&world).await;
    world.publish(&ticket(&world, "killed")).await;
    let request = forge.recorded().await;
    worker.kill_9();
    let _next = forge.worker(&world).await;
    let looks = forge.stand_in.looks();
    eventually("the next worker looks", || (forge.stand_in.looks() > looks).then_some(())).await;
    forge.stand_in.end_all(Ending::Completed);
    let result = world.result("killed").await;
    assert_eq!(verdict(&result), ("COMPLETED", "", ""), "nothing is in doubt: {result}");
    assert_eq!(result["result"]["output"]["request_id"], request);
    assert_eq!(result["result"]["metadata"]["attempt_count"], "1");
    assert_eq!(forge.creates(&world, "killed"), 1);
}

/// Nobody can find what was asked for and not written down.
#[tokio::test(flavor = "multi_thread")]
async fn inc_44_what_a_worker_asked_for_as_it_died_is_in_doubt_and_not_asked_for_again_where_once_is_the_most() {
    for (mode, expected, creates) in [
        ("AT_LEAST_ONCE", ("COMPLETED", "", "unknown"), 2),
        ("AT_MOST_ONCE", ("FAILED", "lost_at_most_once", "unknown"), 1),
    ] {
        let (world, forge) = (World::new().await, Forge::start().await);
        let [url, poll] = forge.settings();
        let dying = world.spawn(&[url, poll, ("WORKER_AGENTS_KILL_AT", "code_forge.generate.after:1")]);
        let mut ticket = ticket(&world, "doubtful");
        ticket["qos"] = json!({ "delivery_mode": mode, "consistency": "EVENTUAL", "durability": "PERSISTENT" });
        world.publish(&ticket).await;
        eventually("it was asked for", || (forge.creates(&world, "doubtful") == 1).then_some(())).await;
        forge.stand_in.end_all(Ending::Completed);
        drop(dying);
        let _next = forge.worker(&world).await;
        let result = world.result("doubtful").await;
        assert_eq!(verdict(&result), expected, "{mode}: {result}");
        assert_eq!(forge.creates(&world, "doubtful"), creates, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_the_generation_alone_and_the_next_worker_goes_on_with_it() {
    let (world, forge) = (World::new().await, Forge::start().await);
    let worker = forge.worker(&world).await;
    world.publish(&ticket(&world, "drained")).await;
    let request = forge.recorded().await;
    worker.end_gracefully().await;
    assert!(world.results().is_empty(), "nothing is reported for work that was handed back");
    let _next = forge.worker(&world).await;
    forge.stand_in.end_all(Ending::Completed);
    let result = world.result("drained").await;
    assert_eq!(verdict(&result), ("COMPLETED", "", ""), "nothing is in doubt: {result}");
    assert_eq!(result["result"]["output"]["request_id"], request);
    assert_eq!(forge.creates(&world, "drained"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_44_a_cancelled_generation_is_not_said_to_have_stopped() {
    let (world, forge) = (World::new().await, Forge::start().await);
    let _worker = forge.worker(&world).await;
    world.publish(&ticket(&world, "cancelled")).await;
    let request = forge.recorded().await;
    world.cancel("cancelled");
    let result = world.result("cancelled").await;
    assert_eq!(verdict(&result), ("FAILED", "cancelled", "unknown"), "{result}");
    assert_eq!(result["result"]["output"]["request_id"], request, "it can be looked for");
    assert_eq!(forge.stand_in.running(), [request]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_outlives_its_time_or_its_deadline_is_not_said_to_have_stopped_and_no_other_is_asked_for() {
    let (world, forge) = (World::new().await, Forge::start().await);
    let _worker = forge.worker(&world).await;
    let mut late = ticket(&world, "late");
    let mut slow = ticket(&world, "slow");
    slow["parameters"]["timeout_seconds"] = json!(3);
    slow["sla"]["max_retries"] = json!(2);
    world.publish(&slow).await;
    // Long enough to begin before it, on a busy machine too.
    late["sla"]["deadline"] = json!(ticket_activities::now_ms() + 20_000);
    world.publish(&late).await;
    for name in ["slow", "late"] {
        let result = world.result(name).await;
        assert_eq!(verdict(&result), ("FAILED", "timeout", "unknown"), "{name}: {result}");
        assert_eq!(result["result"]["metadata"]["attempt_count"], "1", "{name}");
        assert_eq!(forge.creates(&world, name), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_54_what_code_forge_cannot_make_is_neither_simulated_nor_run_elsewhere() {
    let (world, forge) = (World::new().await, Forge::start().await);
    forge.stand_in.end_all(Ending::Failed);
    let [url, poll] = forge.settings();
    let worker = world.worker(&[url, poll, SIMULATE]).await;
    world.publish(&ticket(&world, "failing")).await;
    let failing = world.result("failing").await;
    assert_eq!(verdict(&failing), ("FAILED", "execution_failed", ""), "{failing}");
    let message = failing["error_message"].as_str().expect("text");
    assert!(message.contains("the template cannot be rendered"), "{message}");
    assert_eq!(failing["result"]["metadata"]["simulated"], "false");
    drop(worker);

    // Nobody listens any more where somebody did.
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address");
    let worker = world.worker(&[("CODE_FORGE_URL", &format!("http://{nobody}")), SIMULATE]).await;
    world.publish(&ticket(&world, "away")).await;
    let away = world.result("away").await;
    assert_eq!(verdict(&away), ("FAILED", "provider_unavailable", ""), "{away}");
    assert_eq!(away["result"]["metadata"].get("runtime_fallbacks"), None, "{away}");
    let errors = r#"worker_agent_code_forge_api_calls_total{method="generate",status="error"}"#;
    worker.reaches(errors, 1.0).await;
}
