//! The start protocol's answers, from the real server (`docs/adr/0003-start-protocol.md`).

use serde_json::json;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, Url};
use ticket_schemas::{Ticket, decode_json_ticket};
use ticket_workflows::{RecordPosition, TicketPolicy};
use worker_agents::bridge::Starter;
use worker_agents::bridge::decision::Decision;
use worker_agents::dev::temporal::TemporalDevServer;

use crate::world::{World, temporal_options};

async fn starter(address: &str, namespace: &str) -> Starter {
    let target: Url = format!("http://{address}").parse().expect("address");
    let connection = Connection::connect(ConnectionOptions::new(target).build()).await.expect("connected");
    let client = Client::new(connection, ClientOptions::new(namespace).build()).expect("client");
    Starter::new(client, "nobody-polls".to_owned(), "agent".to_owned(), TicketPolicy::default())
}

fn at(offset: i64) -> RecordPosition {
    RecordPosition { topic: "execution.tickets".to_owned(), partition: 0, offset }
}

fn ticket(world: &World, script: &str) -> Ticket {
    decode_json_ticket(world.ticket("t", script).to_string().as_bytes()).expect("ticket")
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_duplicates_and_collisions_are_told_apart_open_or_closed() {
    let world = World::new().await;
    let starter = starter(&world.temporal, "default").await;
    let (same, other) = (ticket(&world, "one"), ticket(&world, "two"));
    let Decision::Started { run_id } = starter.start(&same, &at(1)).await else { panic!("not started") };
    for closed in [false, true] {
        if closed {
            let workflow = format!("ticket-{}", world.ticket_id("t"));
            let terminated = std::process::Command::new(crate::world::cli())
                .args(["workflow", "terminate", "--workflow-id", &workflow, "--address", &world.temporal])
                .env_clear()
                .status()
                .expect("CLI");
            assert!(terminated.success());
        }
        let again = starter.start(&same, &at(1)).await;
        assert_eq!(again, Decision::Started { run_id: run_id.clone() }, "the same record is our own earlier start");
        let duplicate = starter.start(&same, &at(2)).await;
        assert!(matches!(&duplicate, Decision::Duplicate { first } if first.contains("/0@1#")), "{duplicate:?}");
        let collision = starter.start(&other, &at(3)).await;
        assert!(matches!(&collision, Decision::Collision { first } if first.contains("/0@1#")), "{collision:?}");
    }
    assert_eq!(world.runs("t"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_faults_and_tickets_that_are_too_large_are_told_apart() {
    let world = World::new().await;
    let nowhere = starter(&world.temporal, "nobody-made-it").await;
    let fault = nowhere.start(&ticket(&world, "x"), &at(1)).await;
    assert!(matches!(&fault, Decision::SetupFault { fault: "namespace", .. }), "{fault:?}");

    let bare = TemporalDevServer::start(dev_without_attributes()).await.expect("Temporal");
    let fault = starter(bare.address(), "default").await.start(&ticket(&world, "x"), &at(1)).await;
    assert!(matches!(&fault, Decision::SetupFault { fault: "search_attributes", .. }), "{fault:?}");

    let mut large = world.ticket("large", "x");
    // Control characters take six bytes each as JSON: a record of legal size becomes an input that is too large.
    large["parameters"]["note"] = json!("\u{1}".repeat(500_000));
    let large: Ticket = serde_json::from_value(large).expect("ticket");
    let refused = starter(&world.temporal, "default").await.start(&large, &at(2)).await;
    assert!(matches!(&refused, Decision::TicketRefused { .. }), "{refused:?}");

    let gone = starter(bare.address(), "default").await;
    bare.stop().await;
    let away = gone.start(&ticket(&world, "x"), &at(1)).await;
    assert!(matches!(&away, Decision::Unavailable { .. }), "{away:?}");
}

fn dev_without_attributes() -> worker_agents::dev::temporal::TemporalDevOptions {
    worker_agents::dev::temporal::TemporalDevOptions { search_attributes: Vec::new(), ..temporal_options(0) }
}
