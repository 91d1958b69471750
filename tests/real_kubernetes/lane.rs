//! A world with a real cluster, and what all its tests look at.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::instance::Instance;
use crate::world::{World, eventually};

/// Namespace of the Jobs; it enforces the restricted Pod Security Standard.
pub(crate) const NAMESPACE: &str = "jobs";

/// The cluster that the tests share, each with tickets of its own.
pub(crate) struct Cluster {
    /// What a worker is given: it may do what it has to, and nothing else.
    pub(crate) kubeconfig: String,
    api: String,
    authority: String,
    certificate: String,
    key: String,
    audit_log: PathBuf,
    /// Most processes of a pod on the real node.
    pub(crate) pod_processes: usize,
    pub(crate) instance: Instance,
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test run, not of the product")]
    std::env::var(name).ok()
}

/// `scripts/test-k8s` says where it is, and ends it.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let folder = variable("REAL_KUBERNETES_DIR").expect("REAL_KUBERNETES_DIR, as scripts/test-k8s sets it");
        let started =
            Instance::start("kubernetes", &PathBuf::from(folder), &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let address = |key| started.address(key).expect("an address").to_owned();
        Cluster {
            kubeconfig: address("K8S_KUBECONFIG"),
            api: address("K8S_API"),
            authority: address("K8S_CA"),
            certificate: address("K8S_ADMIN_CERTIFICATE"),
            key: address("K8S_ADMIN_KEY"),
            audit_log: address("K8S_AUDIT_LOG").into(),
            pod_processes: address("K8S_POD_PROCESSES").parse().expect("a number"),
            // Statics are not dropped.
            instance: started,
        }
    })
}

impl Cluster {
    /// What the API server answers to its administrator, by another client than the worker's.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--request", method]);
        command.args(["--cacert", &self.authority, "--cert", &self.certificate, "--key", &self.key]);
        if let Some(body) = body {
            let format = if method == "PATCH" { "merge-patch+json" } else { "json" };
            command.args(["--header", &format!("Content-Type: application/{format}"), "--data", &body.to_string()]);
        }
        let output = command.arg(format!("{}{path}", self.api)).output().expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{method} {path}: {said}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path}: {error}: {said}"))
    }

    /// What a list holds.
    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        self.ask("GET", path, None)["items"].as_array().cloned().unwrap_or_default()
    }

    /// The Jobs of a ticket.
    pub(crate) fn jobs(&self, ticket_id: &str) -> Vec<Value> {
        self.items(&format!(
            "/apis/batch/v1/namespaces/{NAMESPACE}/jobs?labelSelector=neural-hive.io/ticket-id={ticket_id}"
        ))
    }

    /// The pods of a ticket.
    pub(crate) fn pods(&self, ticket_id: &str) -> Vec<Value> {
        self.items(&format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=neural-hive.io/ticket-id={ticket_id}"))
    }

    /// What workers did to Jobs, as the API server's own log tells.
    fn done_to_jobs(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.audit_log).expect("an audit log");
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["responseStatus"]["code"].as_u64() < Some(300))
            .filter(|event| event["user"]["username"] == "worker-agents")
            .collect()
    }

    /// How often the API server did `verb` to Jobs of a ticket for a worker.
    pub(crate) fn changes(&self, ticket_id: &str, verb: &str) -> usize {
        let events = self.done_to_jobs();
        let created = events.iter().filter(|event| created_for(event) == Some(ticket_id));
        let created: Vec<&Value> = created.map(|event| &event["objectRef"]["name"]).collect();
        events.iter().filter(|event| event["verb"] == verb && created.contains(&&event["objectRef"]["name"])).count()
    }

    /// How many Jobs the API server created for a worker, for each ticket.
    pub(crate) fn creates(&self) -> BTreeMap<String, usize> {
        let mut creates = BTreeMap::new();
        for event in self.done_to_jobs() {
            if let Some(ticket_id) = created_for(&event) {
                *creates.entry(ticket_id.to_owned()).or_default() += 1;
            }
        }
        creates
    }
}

/// The ticket of a Job that was created. Of other changes the log has no object.
fn created_for(event: &Value) -> Option<&str> {
    event["requestObject"]["metadata"]["annotations"]["neural-hive.io/ticket-id"].as_str()
}

/// Settings of a worker with the cluster.
pub(crate) fn settings() -> [(&'static str, &'static str); 10] {
    [
        ("K8S_JOBS_ENABLED", "true"),
        ("K8S_JOBS_NAMESPACE", NAMESPACE),
        ("K8S_JOBS_KUBECONFIG_PATH", &cluster().kubeconfig),
        ("K8S_JOBS_DEFAULT_CPU_REQUEST", "10m"),
        ("K8S_JOBS_DEFAULT_MEMORY_REQUEST", "16Mi"),
        ("K8S_JOBS_DEFAULT_MEMORY_LIMIT", "32Mi"),
        ("K8S_JOBS_SCRATCH_SIZE", "8Mi"),
        ("K8S_JOBS_STOP_GRACE_SECONDS", "2"),
        ("K8S_JOBS_SWEEP_INTERVAL_SECONDS", "2"),
        ("K8S_JOBS_IMAGE_PULL_POLICY", "never"),
    ]
}

pub(crate) async fn world() -> World {
    tokio::task::spawn_blocking(cluster).await.expect("a cluster");
    let mut world = World::new().await;
    world.settings.extend(settings());
    world
}

/// A ticket that runs `script` as a Job, once.
pub(crate) fn ticket(world: &World, name: &str, script: &str) -> Value {
    let mut ticket = world.ticket(name, script);
    ticket["parameters"]["runtime"] = json!("k8s");
    ticket["parameters"]["image"] = json!("localhost/busybox:1");
    ticket["sla"]["max_retries"] = json!(0);
    ticket
}

/// Waits until the ticket's command runs; the name of its pod.
pub(crate) async fn running(world: &World, name: &str) -> String {
    let id = world.ticket_id(name);
    eventually("the pod runs", || {
        let pods = cluster().pods(&id);
        let pod = pods.iter().find(|pod| pod["status"]["phase"] == "Running")?;
        pod["metadata"]["name"].as_str().map(str::to_owned)
    })
    .await
}

/// Whether a pod of the ticket may still run something.
pub(crate) fn runs(world: &World, name: &str) -> bool {
    let pods = cluster().pods(&world.ticket_id(name));
    pods.iter().any(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
}

/// Waits until nothing of the ticket is left in the cluster.
pub(crate) async fn removed(world: &World, name: &str) {
    let id = world.ticket_id(name);
    eventually("Job and pod are removed", || {
        (cluster().jobs(&id).is_empty() && cluster().pods(&id).is_empty()).then_some(())
    })
    .await;
}
