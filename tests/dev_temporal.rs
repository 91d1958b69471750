//! The embedded Temporal dev server with the real CLI and the real supervisor.
#![cfg(feature = "dev-stack")]

#[path = "support/dev_server.rs"]
mod dev_server;

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use temporalio_client::{Connection, ConnectionOptions, Url, tonic};
use temporalio_common::protos::temporal::api::operatorservice::v1::ListSearchAttributesRequest;
use ticket_workflows::SearchAttribute;
use worker_agents::dev::temporal::{TemporalDevOptions, TemporalDevServer};

fn keyword(name: &'static str) -> SearchAttribute {
    SearchAttribute { name, kind: "Keyword" }
}

fn options() -> TemporalDevOptions {
    TemporalDevOptions {
        namespace: "tickets".into(),
        search_attributes: vec![keyword("TicketId")],
        ..dev_server::options()
    }
}

async fn custom_attributes(server: &TemporalDevServer) -> anyhow::Result<Vec<String>> {
    let url = Url::parse(&format!("http://{}", server.address()))?;
    let connection = Connection::connect(ConnectionOptions::new(url).build()).await?;
    let request = ListSearchAttributesRequest { namespace: "tickets".into() };
    let answer = connection.operator_service().list_search_attributes(tonic::Request::new(request)).await?;
    let mut names: Vec<String> = answer.into_inner().custom_attributes.into_keys().collect();
    names.retain(|name| name.starts_with("Ticket"));
    names.sort_unstable();
    Ok(names)
}

async fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..200 {
        if probe() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within 10 s");
}

fn listens(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[tokio::test]
async fn answers_until_it_is_stopped() {
    let server = TemporalDevServer::start(options()).await.unwrap();
    assert_eq!(custom_attributes(&server).await.unwrap(), ["TicketId"]);
    let ui = server.ui_url().trim_start_matches("http://").to_owned();
    eventually("the UI", || listens(&ui)).await;
    let (address, exited) = (server.address().to_owned(), server.exited());
    server.stop().await;
    assert!(!listens(&address));
    assert!(exited.await.contains("exit code 0"));
}

#[tokio::test]
async fn a_drop_ends_it_too() {
    let server = TemporalDevServer::start(options()).await.unwrap();
    let address = server.address().to_owned();
    drop(server);
    eventually("the end of the server", || !listens(&address)).await;
}

#[tokio::test]
async fn its_death_is_noticed() {
    let server = TemporalDevServer::start(options()).await.unwrap();
    let exited = server.exited();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let how = tokio::time::timeout(Duration::from_secs(10), exited).await.unwrap();
    assert!(how.contains("signal 9"), "{how}");
}

#[tokio::test]
async fn a_database_of_an_earlier_run_gets_new_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> Option<PathBuf> { Some(folder.path().join(name)) };
    let first = TemporalDevOptions { db_file: file("data/temporal.db"), log_file: file("temporal.log"), ..options() };
    TemporalDevServer::start(first.clone()).await.unwrap().stop().await;
    let mut second = first.clone();
    second.search_attributes.push(keyword("TicketPhase"));
    let server = TemporalDevServer::start(second).await.unwrap();
    assert_eq!(custom_attributes(&server).await.unwrap(), ["TicketId", "TicketPhase"]);
    let error = TemporalDevServer::start(first).await.unwrap_err();
    assert!(error.to_string().contains("is in use by another dev stack"), "{error}");
    server.stop().await;
    assert!(std::fs::read_to_string(folder.path().join("temporal.log")).unwrap().contains("Temporal Server:"));
}
