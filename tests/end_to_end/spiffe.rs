//! A worker whose identity comes from a SPIFFE agent: what waits for the agent, and what does not. Connections, peers and callers
//! are tested beside the code (`src/service_registry/tests/spiffe.rs`, `src/http/tests/`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::workload_api::{Agent, TrustDomain};
use crate::world::{Worker, World, eventually};

const WORKER: &str = "spiffe://td/ns/neural-hive-execution/sa/worker-agents";
const CALLER: &str = "spiffe://td/ns/neural-hive/sa/orchestrator-dynamic";

/// `/api/v1/status` for whoever has this token.
async fn status(worker: &Worker, token: &str) -> (StatusCode, Value) {
    worker_agents::net::install_crypto();
    let url = format!("http://{}/api/v1/status", worker.addresses().await.0);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("client");
    let answer = client.get(url).bearer_auth(token).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// What `doctor` finds of the identity.
fn found(world: &World) -> Value {
    let report = world.command(&["doctor", "--json"], "");
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["check"] == "identity").expect("the check").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_31_a_worker_without_its_agent_runs_tickets_and_has_an_identity_once_it_is_there() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().expect("folder");
    let socket = folder.path().join("agent.sock");
    world.settings.extend([
        ("SPIFFE_ENABLED", "true"),
        ("SPIFFE_TRUST_DOMAIN", "td"),
        ("SPIFFE_SOCKET_PATH", &*socket.to_str().expect("UTF-8").to_owned().leak()),
        ("HTTP_API_TOKEN", "ops=end-to-end-0123456789"),
        ("HTTP_API_ALLOW", "ops=status, spiffe://td/ns/neural-hive/sa/orchestrator-dynamic=status"),
    ]);
    let worker = world.worker(&[("STRICT_STARTUP_CHECKS", "false")]).await;
    worker.wait_ready().await;
    world.publish(&world.ticket("without", "true")).await;
    assert_eq!(world.result("without").await["status"], "COMPLETED");
    let (_, told) = status(&worker, "end-to-end-0123456789").await;
    assert!(told["identity"]["missing"].as_str().is_some_and(|said| said.contains("SPIFFE_SOCKET_PATH")), "{told}");
    let missing = found(&world);
    assert_eq!(missing["state"], "failed", "{missing}");

    let domain = Arc::new(TrustDomain::new("td"));
    let agent = Agent::new(&domain, WORKER);
    let _serving = agent.serve(&socket);
    worker.reaches("spiffe_svid_ttl_seconds{svid_type=\"x509\"}", 3000.0).await;
    // Its X.509 bundles and its JWT bundles.
    worker.reaches("spiffe_trust_bundle_updates_total{status=\"success\"}", 2.0).await;
    let token = domain.token(CALLER, &["worker-agents.td".to_owned()], 600);
    let (code, told) = status(&worker, &token).await;
    assert_eq!((code, &told["authenticated_spiffe_id"]), (StatusCode::OK, &Value::from(CALLER)), "{told}");
    assert_eq!(told["identity"]["spiffe_id"], WORKER);
    let there = found(&world);
    assert_eq!(there["state"], "ok", "{there}");

    agent.rotate(600);
    eventually("the rotation is seen", || (worker.log().matches("svid_received").count() >= 2).then_some(())).await;
    let log = worker.log();
    for secret in [token.as_str(), "PRIVATE KEY", "end-to-end-0123456789"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
