//! Worlds with real brokers, and what all their tests look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use worker_agents::dev::registry::SchemaRegistry;

use crate::instance::Instance;
use crate::world::{Brokers, PATIENCE, World, embedded_registry, eventually, shared_temporal};

/// A world on real brokers.
pub(crate) type RealWorld<R = SchemaRegistry> = World<Instance, R>;

/// Partitions of the tickets topic.
pub(crate) const PARTITIONS: usize = 6;
/// The group that workers are in when nothing else is set.
const GROUP: &str = "worker-agents";
/// Over the usual settings: a broker refuses session time-outs below six seconds, and wakes a fetch that waits.
const SETTINGS: [(&str, &str); 2] = [("KAFKA_SESSION_TIMEOUT_MS", "6000"), ("KAFKA_FETCH_WAIT_MAX_MS", "500")];

/// Whether more is tried than a CI run has time for.
pub(crate) fn full() -> bool {
    variable("FULL").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "no" | "false"))
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test run, not of the product")]
    std::env::var(name).ok()
}

/// A folder for one instance. `scripts/test-kafka` says where, and ends whatever a killed run leaves there.
fn folder(component: &str) -> PathBuf {
    static OWN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let place = variable("REAL_KAFKA_DIR")
        .map_or_else(|| OWN.get_or_init(|| tempfile::tempdir().expect("folder")).path().to_owned(), PathBuf::from);
    place.join(format!("{component}-{}", uuid::Uuid::new_v4().simple()))
}

async fn start(component: &'static str, options: Vec<&'static str>) -> Instance {
    let started = tokio::task::spawn_blocking(move || Instance::start(component, &folder(component), &options));
    started.await.expect("join").unwrap_or_else(|error| panic!("{error:#}"))
}

impl Brokers for Instance {
    fn bootstrap_servers(&self) -> &str {
        self.address("KAFKA_BOOTSTRAP_SERVERS").expect("a Kafka")
    }
}

/// A Kafka of its own, with topics.
async fn kafka(options: &[&'static str]) -> Instance {
    let kafka = start("kafka", options.to_vec()).await;
    let topics =
        [format!("execution.tickets:{PARTITIONS}"), "execution.results:2".into(), "execution.tickets.dlq:1".into()];
    verb(&kafka, "topics", &topics.iter().map(String::as_str).collect::<Vec<_>>());
    kafka
}

async fn temporal() -> String {
    tokio::task::spawn_blocking(shared_temporal).await.expect("Temporal").to_owned()
}

/// Real brokers, an embedded registry.
pub(crate) async fn world(options: &[&'static str]) -> RealWorld {
    let stop = CancellationToken::new();
    let registry = embedded_registry(&stop).await;
    let mut world = World::with_peers(temporal().await, kafka(options).await, registry, stop);
    world.settings.extend(SETTINGS);
    world
}

/// Everything real.
pub(crate) async fn world_with_registry() -> RealWorld<Instance> {
    let registry = start("schema-registry", Vec::new()).await;
    let url = registry.address("KAFKA_SCHEMA_REGISTRY_URL").expect("address").to_owned();
    let mut world = World::with_peers(temporal().await, kafka(&[]).await, (registry, url), CancellationToken::new());
    world.settings.extend(SETTINGS);
    world
}

/// Runs a verb of an instance's script, which blocks.
pub(crate) fn verb(instance: &Instance, verb: &str, options: &[&str]) -> BTreeMap<String, String> {
    tokio::task::block_in_place(|| instance.run(verb, options)).unwrap_or_else(|error| panic!("{error:#}"))
}

impl<R> RealWorld<R> {
    /// Publishes a ticket under its own id, so that tickets spread over the partitions.
    pub(crate) async fn publish_spread(&self, ticket: &Value) {
        let id = ticket["ticket_id"].as_str().expect("id");
        self.publish_raw(id, Some(ticket.to_string().as_bytes())).await;
    }

    /// Waits until each of the tickets has a result; every one must be COMPLETED, and copies must be equal.
    pub(crate) async fn all_completed(&self, names: &[String]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| self.ticket_id(name)).collect();
        let results = eventually("a result of every ticket", || {
            let results = self.results();
            wanted.iter().all(|id| results.contains_key(id)).then_some(results)
        })
        .await;
        for (id, copies) in &results {
            assert_eq!(copies[0]["status"], "COMPLETED", "{id}: {}", copies[0]);
            assert!(copies.iter().all(|copy| copy == &copies[0]), "two different results of {id}: {copies:?}");
        }
        assert_eq!(results.into_keys().collect::<BTreeSet<_>>(), wanted, "results of other tickets");
    }

    /// Each of the tickets was started, and has had one run.
    pub(crate) async fn one_run_each(&self, names: &[String]) {
        let wanted: BTreeMap<String, usize> =
            names.iter().map(|name| (format!("ticket-{}", self.ticket_id(name)), 1)).collect();
        let query = format!("TaskQueue = '{}'", self.id);
        // The server lists what happened a moment ago.
        eventually("as many runs as tickets", || {
            let listed = self.temporal_cli(&["workflow", "list", "--query", &query]);
            let mut runs: BTreeMap<String, usize> = BTreeMap::new();
            for run in listed.as_array().expect("a list") {
                *runs.entry(run["execution"]["workflowId"].as_str().expect("id").to_owned()).or_default() += 1;
            }
            let most = runs.values().max().copied().unwrap_or_default();
            assert!(most <= 1, "doubled: {:?}", runs.iter().filter(|(_, count)| **count > 1).collect::<Vec<_>>());
            (runs == wanted).then_some(())
        })
        .await;
    }

    /// Waits until the group has committed everything, as Kafka's admin API tells another client.
    pub(crate) async fn drained(&self, records: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let offsets = verb(&self.kafka, "offsets", &["--group", GROUP]);
            let positions: Vec<(usize, usize)> = offsets
                .iter()
                .filter(|(partition, _)| partition.starts_with("execution.tickets/"))
                .filter_map(|(_, position)| position.split_once('/'))
                .map(|(committed, end)| (committed.parse().expect("number"), end.parse().expect("number")))
                .collect();
            let sum: usize = positions.iter().map(|(committed, _)| committed).sum();
            if sum == records && positions.iter().all(|(committed, end)| committed == end) {
                return;
            }
            assert!(sum <= records, "{records} records were published: {offsets:?}");
            assert!(Instant::now() < deadline, "not all of {records} records are committed: {offsets:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
