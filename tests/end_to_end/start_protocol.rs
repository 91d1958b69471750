//! The start protocol's answers, from the real server (`docs/adr/0003-start-protocol.md`).

use serde_json::json;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, Url};
use ticket_schemas::{Ticket, decode_json_ticket};
use ticket_workflows::{RecordPosition, TicketPolicy, TraceContext};
use worker_agents::bridge::decision::{Decision, Refusal};
use worker_agents::bridge::{Provenance, Starter};
use worker_agents::dev::temporal::TemporalDevServer;

use crate::world::{World, temporal_options};

async fn starter(address: &str, namespace: &str) -> Starter {
    let target: Url = format!("http://{address}").parse().expect("address");
    let connection = Connection::connect(ConnectionOptions::new(target).build()).await.expect("connected");
    let client = Client::new(connection, ClientOptions::new(namespace).build()).expect("client");
    Starter::new(client, "nobody-polls".to_owned(), "agent".to_owned(), TicketPolicy::default())
}

fn at(offset: i64) -> Provenance {
    let position = RecordPosition { topic: "execution.tickets".to_owned(), partition: 0, offset };
    Provenance { position, written_at_ms: None, redrive: false, trace: TraceContext::default() }
}

fn ticket(world: &World, script: &str) -> Ticket {
    decode_json_ticket(world.ticket("t", script).to_string().as_bytes()).expect("ticket")
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_21_starts_duplicates_and_collisions_are_told_apart_open_or_closed() {
    let world = World::new().await;
    let starter = starter(&world.temporal, "default").await;
    let (same, other) = (ticket(&world, "one"), ticket(&world, "two"));
    let Decision::Started { run_id } = starter.start(&same, &at(1)).await else { panic!("not started") };
    for closed in [false, true] {
        if closed {
            world.operator_of("t", &["workflow", "terminate"]);
        }
        let again = starter.start(&same, &at(1)).await;
        assert_eq!(again, Decision::Started { run_id: run_id.clone() }, "the same record is our own earlier start");
        let duplicate = starter.start(&same, &at(2)).await;
        assert!(matches!(&duplicate, Decision::Duplicate { first } if first.contains("/0@1#")), "{duplicate:?}");
        let collision = starter.start(&other, &at(3)).await;
        assert!(
            matches!(&collision, Decision::Refused(Refusal::Collision { first }) if first.contains("/0@1#")),
            "{collision:?}"
        );
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
    assert!(matches!(&refused, Decision::Refused(Refusal::Ticket { .. })), "{refused:?}");

    let gone = starter(bare.address(), "default").await;
    bare.stop().await;
    let away = gone.start(&ticket(&world, "x"), &at(1)).await;
    assert!(matches!(&away, Decision::Unavailable { .. }), "{away:?}");
}

/// A record of now plus `seconds`.
fn later(offset: i64, seconds: i64) -> Provenance {
    Provenance { written_at_ms: Some(ticket_activities::now_ms() + seconds * 1000), ..at(offset) }
}

fn redrive(offset: i64) -> Provenance {
    Provenance { redrive: true, ..later(offset, 0) }
}

/// A worker of this test's tickets, and a starter for its queue.
async fn running(world: &World) -> (crate::world::Worker, Starter) {
    let worker = world.worker(&[]).await;
    let target: Url = format!("http://{}", world.temporal).parse().expect("address");
    let connection = Connection::connect(ConnectionOptions::new(target).build()).await.expect("connected");
    let client = Client::new(connection, ClientOptions::new("default").build()).expect("client");
    (worker, Starter::new(client, world.id.clone(), "agent".to_owned(), TicketPolicy::default()))
}

async fn closed(world: &World, status: &str) {
    let query = format!("WorkflowId = 'ticket-{}' AND ExecutionStatus = '{status}'", world.ticket_id("t"));
    crate::world::eventually(&format!("a run that is {status}"), || {
        let found = world.temporal_cli(&["workflow", "list", "--query", &query]);
        found.as_array().is_some_and(|runs| !runs.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_ticket_runs_again_by_header_or_by_a_later_record_and_each_record_once() {
    let world = World::new().await;
    let (_worker, starter) = running(&world).await;
    let (same, edited) = (ticket(&world, "exit 3"), ticket(&world, "echo edited"));
    let first = starter.start(&same, &at(1)).await;
    assert!(matches!(first, Decision::Started { .. }), "{first:?}");
    closed(&world, "Failed").await;

    // A late duplicate, written before it failed, and an edited ticket without the header, do not run it again.
    let duplicate = starter.start(&same, &later(2, 0)).await;
    assert!(matches!(duplicate, Decision::Duplicate { .. }), "{duplicate:?}");
    let collision = starter.start(&edited, &later(3, 3600)).await;
    assert!(matches!(collision, Decision::Refused(Refusal::Collision { .. })), "{collision:?}");
    // The platform's procedure: the same ticket, published later, without the header.
    let again = starter.start(&same, &later(4, 3600)).await;
    assert!(matches!(&again, Decision::Redriven { previous, .. } if previous.contains("@1#")), "{again:?}");
    crate::world::eventually("the second run has failed", || (world.runs("t") == 2).then_some(())).await;
    let query = format!("WorkflowId = 'ticket-{}' AND ExecutionStatus = 'Running'", world.ticket_id("t"));
    let open = || world.temporal_cli(&["workflow", "list", "--query", &query]);
    crate::world::eventually("no run is open", || open().as_array().is_none_or(Vec::is_empty).then_some(())).await;

    // Read again after a crash, both records have had their runs.
    let Decision::Redriven { run_id: second, .. } = again else { unreachable!() };
    assert_eq!(starter.start(&same, &later(4, 3600)).await, Decision::Started { run_id: second });
    let superseded = starter.start(&same, &Provenance { redrive: true, ..later(1, 7200) }).await;
    assert!(matches!(superseded, Decision::Duplicate { .. }), "{superseded:?}");

    // By header, with other content. A completed ticket never runs again.
    let redriven = starter.start(&edited, &redrive(5)).await;
    assert!(matches!(&redriven, Decision::Redriven { previous, .. } if previous.contains("@4#")), "{redriven:?}");
    closed(&world, "Completed").await;
    let completed = starter.start(&edited, &redrive(6)).await;
    assert!(matches!(completed, Decision::Duplicate { .. }), "{completed:?}");
    let other = starter.start(&same, &redrive(7)).await;
    assert!(matches!(other, Decision::Refused(Refusal::Collision { .. })), "{other:?}");
    assert_eq!(world.runs("t"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_and_terminated_tickets_run_again_only_by_header() {
    let world = World::new().await;
    let starter = starter(&world.temporal, "default").await;
    let same = ticket(&world, "one");
    let mut offset = 0;
    for end in ["terminate", "cancel"] {
        offset += 10;
        let begun = starter.start(&same, &redrive(offset)).await;
        assert!(matches!(begun, Decision::Started { .. } | Decision::Redriven { .. }), "{begun:?}");
        let open = starter.start(&same, &redrive(offset + 1)).await;
        assert!(matches!(open, Decision::Duplicate { .. }), "{end}: {open:?}");
        if end == "cancel" {
            // Nobody polls; a worker of the queue carries the cancel out.
            let _worker = world.worker(&[("TEMPORAL_TASK_QUEUE", "nobody-polls")]).await;
            world.cancel("t");
            closed(&world, "Canceled").await;
        } else {
            world.operator_of("t", &["workflow", "terminate", "--reason", "test"]);
        }
        let duplicate = starter.start(&same, &later(offset + 2, 3600)).await;
        assert!(matches!(duplicate, Decision::Duplicate { .. }), "{end}: {duplicate:?}");
    }
    let last = starter.start(&same, &redrive(30)).await;
    assert!(matches!(last, Decision::Redriven { .. }), "{last:?}");
    world.operator_of("t", &["workflow", "terminate", "--reason", "test"]);
    assert_eq!(world.runs("t"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_run_is_recognised_by_its_memo() {
    let world = World::new().await;
    let (_worker, starter) = running(&world).await;
    let same = ticket(&world, "exit 3");
    starter.start(&same, &at(1)).await;
    closed(&world, "Failed").await;
    world.operator_of("t", &["workflow", "reset", "--type", "FirstWorkflowTask", "--reason", "test"]);
    crate::world::eventually("the reset run", || (world.runs("t") == 2).then_some(())).await;
    let own = starter.start(&same, &at(1)).await;
    assert!(matches!(own, Decision::Started { .. }), "our own record: {own:?}");
    let duplicate = starter.start(&same, &at(2)).await;
    assert!(matches!(&duplicate, Decision::Duplicate { first } if first.contains("@1#")), "{duplicate:?}");
    let collision = starter.start(&ticket(&world, "other"), &at(3)).await;
    assert!(
        matches!(&collision, Decision::Refused(Refusal::Collision { first }) if first.contains("@1#")),
        "{collision:?}"
    );
    assert_eq!(world.runs("t"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_older_than_retention_is_not_started() {
    let world = World::new().await;
    let starter =
        starter(&world.temporal, "default").await.with_retention(Some(std::time::Duration::from_secs(86_400)));
    let old = starter.start(&ticket(&world, "x"), &later(1, -86_000)).await;
    assert!(matches!(old, Decision::Refused(Refusal::TooOld { .. })), "{old:?}");
    assert_eq!(world.runs("t"), 0);
}

fn dev_without_attributes() -> worker_agents::dev::temporal::TemporalDevOptions {
    worker_agents::dev::temporal::TemporalDevOptions { search_attributes: Vec::new(), ..temporal_options(0) }
}
