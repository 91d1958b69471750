//! A world with a real engine, and what all its tests look at.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::instance::Instance;
use crate::world::{World, eventually};

/// The engine that the tests share, each with tickets of its own.
pub(crate) struct Engine {
    pub(crate) address: String,
    cli: PathBuf,
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test run, not of the product")]
    std::env::var(name).ok()
}

/// `scripts/test-docker` says where it is, and ends it.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let folder =
            PathBuf::from(variable("REAL_DOCKER_DIR").expect("REAL_DOCKER_DIR, as scripts/test-docker sets it"));
        let started = Instance::start("docker", &folder, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let address = |key| started.address(key).expect("an address").to_owned();
        let engine = Engine { address: address("DOCKER_BASE_URL"), cli: address("DOCKER_CLI").into() };
        // Statics are not dropped.
        std::mem::forget(started);
        engine
    })
}

impl Engine {
    /// What Docker's own client says.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.cli)
            .args(["--host", &self.address])
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .output()
            .expect("the client runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Ids of the containers of a ticket. `all`: those that do not run, too.
    pub(crate) fn containers(&self, ticket_id: &str, all: bool) -> Vec<String> {
        let label = format!("label=neural-hive.io/ticket-id={ticket_id}");
        let mut arguments = vec!["ps", "--no-trunc", "--quiet", "--filter", &label];
        if all {
            arguments.push("--all");
        }
        self.cli(&arguments).lines().map(str::to_owned).collect()
    }

    /// How often the engine did `event` for containers of a ticket, as its own log of events tells.
    pub(crate) fn events(&self, ticket_id: &str, event: &str) -> usize {
        let label = format!("label=neural-hive.io/ticket-id={ticket_id}");
        let event = format!("event={event}");
        let told = self.cli(&["events", "--since", "1h", "--until", "0s", "--filter", &label, "--filter", &event]);
        told.lines().count()
    }
}

/// Settings of a worker with the engine.
pub(crate) fn settings() -> [(&'static str, &'static str); 6] {
    [
        ("DOCKER_ENABLED", "true"),
        ("DOCKER_BASE_URL", &engine().address),
        ("DOCKER_DEFAULT_MEMORY_LIMIT", "32m"),
        ("DOCKER_SCRATCH_SIZE", "16m"),
        ("DOCKER_STOP_GRACE_SECONDS", "1"),
        ("DOCKER_SWEEP_INTERVAL_SECONDS", "2"),
    ]
}

pub(crate) async fn world() -> World {
    tokio::task::spawn_blocking(engine).await.expect("an engine");
    let mut world = World::new().await;
    world.settings.extend(settings());
    world
}

/// A ticket that runs `script` in a container.
pub(crate) fn ticket(world: &World, name: &str, script: &str) -> Value {
    let mut ticket = world.ticket(name, script);
    ticket["parameters"]["runtime"] = json!("docker");
    ticket["parameters"]["image"] = json!("busybox:1");
    ticket
}

/// Waits until the ticket's container runs; its id.
pub(crate) async fn running(world: &World, name: &str) -> String {
    let id = world.ticket_id(name);
    eventually("the container runs", || engine().containers(&id, false).pop()).await
}

/// Waits until nothing of the ticket is left at the engine.
pub(crate) async fn removed(world: &World, name: &str) {
    let id = world.ticket_id(name);
    eventually("the container is removed", || engine().containers(&id, true).is_empty().then_some(())).await;
}
