//! The platform's stand-ins end in the middle of the demo's kind of work, and come back at their addresses.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker_agents::dev::service_registry::ServiceRegistryStandIn;
use worker_agents::dev::tickets::TicketStandIn;

use crate::world::{World, eventually};

/// A server that is killed and started again at its address.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(TcpListener, CancellationToken) -> F,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("port");
        let (address, stop) = (listener.local_addr().expect("address"), CancellationToken::new());
        let ended = tokio::spawn(serve(listener, stop.clone()));
        Self { address, stop, ended }
    }

    async fn kill(self) -> SocketAddr {
        self.stop.cancel();
        self.ended.await.expect("joined").expect("served");
        self.address
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_and_restarting_the_stand_ins_changes_nothing_in_the_end_state() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (tickets, agents) = (TicketStandIn::new(), ServiceRegistryStandIn::new());
    tickets.know_all();
    let service = Served::start(any, |listener, stop| tickets.serve(listener, stop)).await;
    let registry = Served::start(any, |listener, stop| agents.serve(listener, stop)).await;
    let world = World::new().await;
    let worker = world
        .worker(&[
            ("EXECUTION_TICKET_SERVICE_URL", &format!("http://{}", service.address)),
            ("SERVICE_REGISTRY_HOST", "127.0.0.1"),
            ("SERVICE_REGISTRY_PORT", &registry.address.port().to_string()),
            ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
        ])
        .await;
    eventually("the worker is registered", || (agents.agents().len() == 1).then_some(())).await;

    let script = |number: usize| if number % 3 == 2 { "sleep 0.2; exit 3" } else { "sleep 0.2" };
    let names: Vec<String> = (0..18).map(|number| format!("t{number}")).collect();
    let publish = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let mut ticket = world.ticket(&names[number], script(number));
            if number % 6 == 4 {
                ticket["dependencies"] = json!([world.ticket_id(&names[number - 1])]);
            }
            world.publish(&ticket).await;
        }
    };
    publish(0..6).await;
    world.result(&names[0]).await;
    let (service, registry) = (service.kill().await, registry.kill().await);
    publish(6..12).await;
    for name in &names[..12] {
        world.result(name).await;
    }
    // The ticket service has kept its tickets; the registry has forgotten its agents.
    let agents = ServiceRegistryStandIn::new();
    let _service = Served::start(service, |listener, stop| tickets.serve(listener, stop)).await;
    let _registry = Served::start(registry, |listener, stop| agents.serve(listener, stop)).await;
    publish(12..18).await;

    for (number, name) in names.iter().enumerate() {
        let expected = if number % 3 == 2 { "FAILED" } else { "COMPLETED" };
        assert_eq!(world.result(name).await["status"], expected, "{name}");
        let told = eventually(&format!("the service knows the end of {name}"), || {
            tickets.updates(&world.ticket_id(name)).into_iter().find(is_end)
        })
        .await;
        assert_eq!(told["status"], expected, "{name}");
        let ends = tickets.updates(&world.ticket_id(name)).iter().filter(|update| is_end(update)).count();
        assert_eq!((ends, world.runs(name)), (1, 1), "{name}");
    }
    eventually("the worker is registered again", || (agents.agents().len() == 1).then_some(())).await;
    assert_eq!(worker.metric("worker_agent_active_tasks").await, 0.0);
}

fn is_end(update: &Value) -> bool {
    matches!(update["status"].as_str(), Some("COMPLETED" | "FAILED"))
}
