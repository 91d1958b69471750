//! What the Execution Ticket Service hears, and what becomes of tickets while it does not.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use worker_agents::dev::tickets::TicketStandIn;

use crate::world::{World, eventually};

/// A ticket service of this test and its address; it ends with the guard.
pub(crate) async fn ticket_service() -> (TicketStandIn, String, DropGuard) {
    let (service, (_, url), stop) = ticket_service_over(Transport::Http).await;
    (service, url, stop)
}

/// How the worker reaches the service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Http,
    Grpc,
}

/// The same, and the setting that names it.
async fn ticket_service_over(transport: Transport) -> (TicketStandIn, (&'static str, String), DropGuard) {
    let (service, stop) = (TicketStandIn::new(), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let setting = match transport {
        Transport::Http => {
            tokio::spawn(service.serve(listener, stop.clone()));
            ("EXECUTION_TICKET_SERVICE_URL", format!("http://{address}"))
        }
        Transport::Grpc => {
            tokio::spawn(service.serve_grpc(listener, stop.clone()));
            ("EXECUTION_TICKET_SERVICE_GRPC_ADDRESS", address)
        }
    };
    (service, setting, stop.drop_guard())
}

/// Makes two tests of one story, which is the same over both.
macro_rules! over_both {
    ($name:ident) => {
        mod $name {
            use super::Transport;

            #[tokio::test(flavor = "multi_thread")]
            async fn over_http() {
                super::$name(Transport::Http).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_grpc() {
                super::$name(Transport::Grpc).await;
            }
        }
    };
}

fn statuses(updates: &[Value]) -> Vec<&str> {
    updates.iter().filter_map(|update| update["status"].as_str()).collect()
}

async fn closed(world: &World, name: &str) -> Vec<Value> {
    eventually("the workflow is closed", || {
        let events = world.history(name);
        let last = events.last()?["eventType"].as_str()?.to_owned();
        (last.ends_with("EXECUTION_COMPLETED") || last.ends_with("EXECUTION_FAILED")).then_some(events)
    })
    .await
}

over_both!(inc_11_the_service_hears_running_and_then_the_end_and_a_simple_ticket_costs_no_event_more);

async fn inc_11_the_service_hears_running_and_then_the_end_and_a_simple_ticket_costs_no_event_more(
    transport: Transport,
) {
    let world = World::new().await;
    let (service, (setting, address), _stop) = ticket_service_over(transport).await;
    let worker = world.worker(&[(setting, &address)]).await;
    for (name, script, status) in [("good", "true", "COMPLETED"), ("bad", "exit 3", "FAILED")] {
        service.know(&world.ticket_id(name), "PENDING");
        world.publish(&world.ticket(name, script)).await;
        let result = world.result(name).await;
        let events = closed(&world, name).await;
        let updates = service.updates(&world.ticket_id(name));
        assert_eq!(statuses(&updates), ["RUNNING", status]);
        assert_eq!(updates[1]["error_message"], result["error_message"]);
        // gRPC has no field for it, and the service discards it (INC-34).
        let told = matches!(transport, Transport::Http).then(|| &result["actual_duration_ms"]);
        assert_eq!(updates[1].get("actual_duration_ms"), told);
        assert!(events.len() <= 13, "{} events", events.len());
    }
    assert_eq!(worker.metric("worker_agent_ticket_status_updates_total{status=\"RUNNING\"}").await, 2.0);
}

over_both!(a_service_that_is_away_delays_its_update_and_nothing_else);

async fn a_service_that_is_away_delays_its_update_and_nothing_else(transport: Transport) {
    let world = World::new().await;
    let (service, (setting, address), _stop) = ticket_service_over(transport).await;
    service.know_all();
    service.set_unavailable(true);
    // More tickets than places: those that owe only their status hold none.
    let worker = world
        .worker(&[(setting, &address), ("MAX_CONCURRENT_TICKETS", "2"), ("REPORT_STUCK_AFTER_SECONDS", "1")])
        .await;
    let names: Vec<_> = (0..6).map(|n| format!("t{n}")).collect();
    for name in &names {
        world.publish(&world.ticket(name, "true")).await;
    }
    for name in &names {
        assert_eq!(world.result(name).await["status"], "COMPLETED");
        assert!(service.updates(&world.ticket_id(name)).is_empty());
    }
    worker.reaches("worker_agent_report_stuck_total{peer=\"ticket_service\"}", 1.0).await;
    eventually("the state is told", || {
        let told = world.command(&["explain", "--json", &world.ticket_id("t0")], "");
        let told: Value = serde_json::from_slice(&told.stdout).ok()?;
        (told["state"] == "report_stuck" && told["waiting_for"]["owed"] == json!(["ticket_service"])).then_some(())
    })
    .await;
    service.set_unavailable(false);
    for name in &names {
        closed(&world, name).await;
        let updates = service.updates(&world.ticket_id(name));
        assert_eq!(statuses(&updates).last(), Some(&"COMPLETED"));
        assert_eq!(statuses(&updates).iter().filter(|status| **status == "COMPLETED").count(), 1);
    }
}

over_both!(inc_36_a_ticket_that_the_service_never_knows_is_recorded_and_closed);

async fn inc_36_a_ticket_that_the_service_never_knows_is_recorded_and_closed(transport: Transport) {
    let world = World::new().await;
    let (service, (setting, address), _stop) = ticket_service_over(transport).await;
    let settings = [(setting, address.as_str()), ("ETS_UNKNOWN_AFTER_SECONDS", "2")];
    let worker = world.worker(&settings).await;
    world.publish(&world.ticket("unknown", "true")).await;
    assert_eq!(world.result("unknown").await["status"], "COMPLETED");
    closed(&world, "unknown").await;
    assert!(service.updates(&world.ticket_id("unknown")).is_empty());
    assert_eq!(worker.metric("worker_agent_ticket_status_lost_total{reason=\"unknown_ticket\"}").await, 1.0);
}

over_both!(a_predecessor_that_ran_elsewhere_is_looked_up_and_a_parked_ticket_sends_nothing);

async fn a_predecessor_that_ran_elsewhere_is_looked_up_and_a_parked_ticket_sends_nothing(transport: Transport) {
    let world = World::new().await;
    let (service, (setting, address), _stop) = ticket_service_over(transport).await;
    service.know_all();
    service.know(&world.ticket_id("done"), "COMPLETED");
    service.know(&world.ticket_id("undone"), "COMPENSATED");
    service.know(&world.ticket_id("runs"), "RUNNING");
    let settings = [(setting, address.as_str()), ("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "2")];
    let _worker = world.worker(&settings).await;
    let publish = async |name: &str, on: &str| {
        let mut ticket = world.ticket(name, "true");
        ticket["dependencies"] = json!([world.ticket_id(on)]);
        world.publish(&ticket).await;
    };
    publish("after-done", "done").await;
    publish("after-undone", "undone").await;
    publish("after-runs", "runs").await;
    assert_eq!(world.result("after-done").await["status"], "COMPLETED");
    let failed = world.result("after-undone").await;
    assert_eq!(failed["result"]["metadata"]["error_code"], "dependency_failed", "{failed}");
    closed(&world, "after-undone").await;
    assert_eq!(statuses(&service.updates(&world.ticket_id("after-undone"))), ["FAILED"]);
    assert!(service.updates(&world.ticket_id("after-runs")).is_empty());
    service.know(&world.ticket_id("runs"), "COMPLETED");
    assert_eq!(world.result("after-runs").await["status"], "COMPLETED");
}
