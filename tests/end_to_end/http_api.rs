//! The API of a running worker: orders that tickets take, tickets told about, the orchestrator's calls.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Worker, World, eventually, processes};

const TOKEN: &str = "end-to-end-0123456789";
const OPEN: [(&str, &str); 2] = [("HTTP_API_TOKEN", "ana=end-to-end-0123456789"), ("HTTP_API_ALLOW", "ana=*")];

/// A caller with a token.
struct Caller {
    client: reqwest::Client,
    base: String,
}

impl Caller {
    async fn of(worker: &Worker) -> Self {
        worker_agents::net::install_crypto();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("client");
        Self { client, base: format!("http://{}", worker.addresses().await.0) }
    }

    /// Status and body of an answer, which comes within the orchestrator's 10 s.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer within 10 s");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    /// An order that the ticket takes: what follows.
    async fn order(&self, world: &World, name: &str, verb: &str, more: Value) -> String {
        let (status, answer) = self.try_order(world, name, verb, more).await;
        assert_eq!(status, StatusCode::OK, "{verb} {name}: {answer}");
        answer["note"].as_str().expect("a note").to_owned()
    }

    async fn try_order(&self, world: &World, name: &str, verb: &str, mut body: Value) -> (StatusCode, Value) {
        body["why"] = json!("the plan changed");
        self.ask(Method::POST, &format!("/api/v1/tickets/{}/{verb}", world.ticket_id(name)), Some(body)).await
    }

    /// The ticket once it is in this state.
    async fn is(&self, world: &World, name: &str, state: &str) -> Value {
        let path = format!("/api/v1/tickets/{}", world.ticket_id(name));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, answer) = self.ask(Method::GET, &path, None).await;
            if answer["state"] == state && answer["unanswered"].is_null() {
                return answer;
            }
            assert!(Instant::now() < deadline, "{name} is not {state}: {answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn marker(world: &World, number: u32) -> String {
    format!("{number}.7{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"))
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_47_the_orchestrator_cancels_within_its_time_out_and_the_result_says_for_whom() {
    let world = World::new().await;
    let worker = world.worker(&OPEN).await;
    let caller = Caller::of(&worker).await;
    let marker = marker(&world, 94);
    world.publish(&world.ticket("victim", &format!("sleep {marker}"))).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;

    let body = json!({ "reason": "preemption", "preempted_by": "ticket-9", "grace_period_seconds": 30 });
    let path = format!("/api/v1/tasks/{}/cancel", world.ticket_id("victim"));
    let (status, answer) = caller.ask(Method::POST, &path, Some(body.clone())).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["success"], &answer["reason"]), (&json!(true), &json!("preemption")));
    assert_eq!((&answer["checkpoint_saved"], &answer["checkpoint_key"]), (&json!(false), &Value::Null));
    let result = world.result("victim").await;
    let metadata = &result["result"]["metadata"];
    assert_eq!(
        (&result["status"], &metadata["cancel_reason"], &metadata["preempted_by"]),
        (&json!("FAILED"), &json!("preemption"), &json!("ticket-9"))
    );
    assert!(metadata["orders"].to_string().contains("ana"), "the order is in the caller's name: {metadata}");
    assert_eq!(processes(&marker), 0);

    caller.is(&world, "victim", "cancelled").await;
    for id in [world.ticket_id("victim"), world.ticket_id("never")] {
        let (status, problem) =
            caller.ask(Method::POST, &format!("/api/v1/tasks/{id}/cancel"), Some(body.clone())).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
        assert_eq!(problem["detail"], format!("Task {id} not found or not active"));
        assert_eq!(problem["ticket_id"], id);
    }
    assert!(worker.metric(r#"worker_agent_http_api_orders_total{outcome="done",verb="cancel"}"#).await > 0.9);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_reaches_its_ticket_and_refusals_are_in_the_tickets_words() {
    let world = World::new().await;
    let slow = [("RETRY_BACKOFF_BASE_SECONDS", "600"), ("RETRY_BACKOFF_MAX_SECONDS", "600")];
    let more = [("COMPENSATION_ENABLED", "true"), ("TEMPORAL_UI_URL", "http://ui.example")];
    let worker = world.worker(&[&OPEN[..], &slow, &more].concat()).await;
    let caller = Caller::of(&worker).await;

    let mut waiting = world.ticket("waiting", "echo ran");
    waiting["dependencies"] = json!([world.ticket_id("later")]);
    world.publish(&waiting).await;
    let told = caller.is(&world, "waiting", "parked").await;
    assert_eq!(told["waiting_for"]["tickets"], json!([world.ticket_id("later")]), "{told}");
    assert_eq!(told["attempts"]["count"], 0, "{told}");
    assert!(told["url"].as_str().is_some_and(|url| url.starts_with("http://ui.example/namespaces/")), "{told}");
    let (status, problem) = caller.try_order(&world, "waiting", "retry", json!({})).await;
    assert_eq!((status, &problem["ticket_id"]), (StatusCode::CONFLICT, &json!(world.ticket_id("waiting"))));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("waiting for 1 ticket")), "{problem}");
    caller.order(&world, "waiting", "pause", json!({})).await;
    let later = json!({ "dependency": world.ticket_id("later") });
    caller.order(&world, "waiting", "skip-dependency", later).await;
    caller.is(&world, "waiting", "paused").await;
    let deadline = ticket_activities::now_ms() + 86_400_000;
    caller.order(&world, "waiting", "extend-deadline", json!({ "deadline_ms": deadline })).await;
    caller.order(&world, "waiting", "resume", json!({})).await;
    assert_eq!(world.result("waiting").await["status"], "COMPLETED");
    caller.is(&world, "waiting", "completed").await;
    assert_eq!(caller.try_order(&world, "waiting", "pause", json!({})).await.0, StatusCode::CONFLICT);
    assert_eq!(caller.try_order(&world, "nobody", "pause", json!({})).await.0, StatusCode::NOT_FOUND);

    let mut again = world.ticket_in("again", "again", "test -e flag && exit 0; : > flag; sleep 60");
    again["sla"]["timeout_ms"] = json!(1_000);
    again["sla"]["max_retries"] = json!(2);
    world.publish(&again).await;
    caller.is(&world, "again", "retry_wait").await;
    assert!(caller.order(&world, "again", "retry", json!({})).await.contains("attempt 2"));
    assert_eq!(world.result("again").await["status"], "COMPLETED");

    // It says nothing of how it is undone: the undo fails, and is tried again, and is left.
    world.publish(&world.ticket("broken", "exit 3")).await;
    caller.is(&world, "broken", "compensation_failed").await;
    caller.order(&world, "broken", "compensation/resume", json!({})).await;
    caller.is(&world, "broken", "compensation_failed").await;
    caller.order(&world, "broken", "compensation/skip", json!({})).await;
    caller.is(&world, "broken", "failed").await;

    let mut unwanted = world.ticket("unwanted", "true");
    unwanted["dependencies"] = json!([world.ticket_id("later")]);
    world.publish(&unwanted).await;
    caller.is(&world, "unwanted", "parked").await;
    caller.order(&world, "unwanted", "cancel", json!({ "grace_seconds": 1 })).await;
    assert_eq!(world.result("unwanted").await["result"]["metadata"]["error_code"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_c_is_acknowledged_and_runs_nothing_by_itself() {
    let world = World::new().await;
    let worker = world.worker(&OPEN).await;
    let caller = Caller::of(&worker).await;
    let (ticket_id, task) = (world.ticket_id("task"), format!("/api/v1/tasks/task_{}", world.ticket_id("task")));
    let body = json!({
        "task_id": format!("task_{ticket_id}"), "ticket_id": ticket_id, "task_type": "EXECUTE",
        "payload": { "command": "true" }, "sla_deadline": "2026-03-16T10:00:00Z",
    });
    let (status, answer) = caller.ask(Method::POST, "/api/v1/tasks", Some(body)).await;
    assert_eq!((status, &answer["ticket_id"]), (StatusCode::ACCEPTED, &json!(ticket_id)));
    assert_eq!(caller.ask(Method::GET, &task, None).await.0, StatusCode::NOT_FOUND, "only Kafka brings tickets");

    world.publish(&world.ticket("task", "exit 4")).await;
    world.result("task").await;
    caller.is(&world, "task", "failed").await;
    let (status, answer) = caller.ask(Method::GET, &task, None).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("FAILED")));
    assert!(answer["error"].as_str().is_some_and(|error| error.starts_with("execution_failed")), "{answer}");
    assert_eq!((&answer["progress"], &answer["result"]), (&json!(1.0), &Value::Null));

    let mut parked = world.ticket("parked", "true");
    parked["dependencies"] = json!([world.ticket_id("later")]);
    world.publish(&parked).await;
    caller.is(&world, "parked", "parked").await;
    let task = format!("/api/v1/tasks/task_{}", world.ticket_id("parked"));
    assert_eq!(caller.ask(Method::GET, &task, None).await.1["status"], "PENDING");
    assert_eq!(caller.ask(Method::DELETE, &task, None).await.0, StatusCode::OK);
    assert_eq!(world.result("parked").await["result"]["metadata"]["error_code"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_106_inc_50_a_worker_lets_nobody_in_without_a_token_whatever_headers_say() {
    let world = World::new().await;
    let worker = world.worker(&OPEN).await;
    let mut caller = Caller::of(&worker).await;
    let (status, answer) = caller.ask(Method::GET, "/api/v1/status", None).await;
    assert_eq!((status, &answer["agent_type"]), (StatusCode::OK, &json!("WORKER")));
    assert_eq!((&answer["registered"], &answer["max_concurrent_tasks"]), (&json!(false), &json!(5)));
    assert_eq!(answer["telemetry"]["namespace"], "neural-hive");

    let forged = "URI=spiffe://neural-hive.local/orchestrator-dynamic";
    caller.base.push_str("/api/v1/status");
    let request = caller.client.get(&caller.base).header("x-forwarded-client-cert", forged);
    let request = request.header("x-internal-caller", "spiffe://neural-hive.local/orchestrator-dynamic");
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let silent = world.worker(&[]).await;
    assert_eq!(silent.get("/api/v1/status").await.0, 401, "on unless said otherwise");
    assert_eq!(silent.get("/health").await.0, 200);
    assert!(worker.metric(r#"worker_agent_http_api_refusals_total{reason="unauthenticated"}"#).await > 0.9);
    assert!(!worker.log().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_worker_takes_is_answered_in_time_and_counted_without_its_client() {
    let world = World::new().await;
    let mut worker = world.worker(&OPEN).await;
    let caller = Caller::of(&worker).await;
    let mut ticket = world.ticket("stuck", "true");
    ticket["dependencies"] = json!([world.ticket_id("later")]);
    world.publish(&ticket).await;
    caller.is(&world, "stuck", "parked").await;
    worker.kill_9();
    // It serves the API, and polls another task queue.
    let elsewhere = world.worker(&[&OPEN[..], &[("TEMPORAL_TASK_QUEUE", "elsewhere")]].concat()).await;
    let caller = Caller::of(&elsewhere).await;
    let asked = Instant::now();
    let (status, problem) = caller.try_order(&world, "stuck", "pause", json!({})).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{problem}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let (status, told) = caller.ask(Method::GET, &format!("/api/v1/tickets/{}", world.ticket_id("stuck")), None).await;
    assert_eq!((status, &told["state"]), (StatusCode::OK, &json!("parked")), "the server tells what it knows: {told}");
    assert!(told["unanswered"].is_string(), "{told}");

    // A client that does not wait for it: the order is counted all the same.
    let path = format!("{}/api/v1/tickets/{}/resume", caller.base, world.ticket_id("stuck"));
    let request = caller.client.post(path).bearer_auth(TOKEN).json(&json!({ "why": "the plan changed" }));
    let gone = request.timeout(Duration::from_secs(1)).send().await.expect_err("no answer yet");
    assert!(gone.is_timeout(), "{gone}");
    elsewhere.reaches(r#"worker_agent_http_api_orders_total{outcome="not_done",verb="resume"}"#, 1.0).await;
}
