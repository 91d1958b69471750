//! The environment's proxy settings do not lead the worker's own peers astray.

use std::process::{Command, Stdio};

use axum::Router;
use axum::http::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn proxy_variables_are_not_followed_and_a_refusal_reaches_the_caller() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let registry = format!("http://{}", listener.local_addr().expect("address"));
    let refuses = Router::new().fallback(async || StatusCode::UNAUTHORIZED);
    tokio::spawn(async move { axum::serve(listener, refuses).await });
    let folder = tempfile::tempdir().expect("folder");
    let ticket = folder.path().join("ticket.json");
    std::fs::write(&ticket, r#"{"task_type":"EXECUTE","parameters":{"command":"true"}}"#).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-agents"));
    command.args(["submit", "--encoding", "avro"]).arg(&ticket).env_clear();
    // Nobody listens there: whoever follows one gets no answer.
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    command
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("KAFKA_SCHEMA_REGISTRY_URL", &registry)
        .env("SCHEMA_REGISTRY_TOKEN", "hunter2")
        .current_dir(folder.path())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("401") && said.contains("SCHEMA_REGISTRY_TOKEN") && !said.contains("hunter2"), "{said}");
}
