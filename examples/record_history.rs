//! Records the history of a ticket's workflow for the replay gate, in the form the SDK's replayer reads:
//!
//! `cargo run --example record_history -- 127.0.0.1:7233 ticket-ID > tests/histories/VERSION/NAME.json`

use std::io::Write as _;

use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, WorkflowFetchHistoryOptions, WorkflowHandle,
};
use ticket_workflows::TicketWorkflow;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(workflow_id), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("expected ADDRESS and WORKFLOW_ID");
    };
    let target: Url = format!("http://{address}").parse()?;
    let connection = Connection::connect(ConnectionOptions::new(target).build()).await?;
    let client = Client::new(connection, ClientOptions::new("default").build())?;
    let handle: WorkflowHandle<Client, TicketWorkflow> = client.get_workflow_handle(workflow_id);
    let json = handle.fetch_history(WorkflowFetchHistoryOptions::default()).to_json().await?;
    std::io::stdout().write_all(&json)?;
    Ok(())
}
