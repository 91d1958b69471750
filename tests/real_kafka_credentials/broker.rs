//! A real broker with credentials, tickets through it, and their results as another client reads them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

use crate::world::{PATIENCE, Worker, World, eventually};

/// Asked for, or not.
pub(crate) fn wanted() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let wanted = std::env::var("REAL_KAFKA").is_ok_and(|value| value == "1");
    if !wanted {
        eprintln!("skipped: REAL_KAFKA=1 asks for it; it starts a real broker");
    }
    wanted
}

/// A real broker; ends when dropped.
pub(crate) struct Kafka {
    pub(crate) folder: tempfile::TempDir,
    addresses: BTreeMap<String, String>,
}

impl Kafka {
    /// `None`: it cannot be had here.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let (code, said) = script(folder.path(), &["start", "--sasl-ssl"]);
        if code == Some(77) {
            eprintln!("{said}");
            return None;
        }
        assert_eq!(code, Some(0), "{said}");
        let addresses = said.lines().filter_map(|line| line.split_once('='));
        let addresses = addresses.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let kafka = Self { folder, addresses };
        kafka.run(&["topics", "execution.tickets:2", "execution.results:2", "execution.tickets.dlq:1"]);
        Some(kafka)
    }

    pub(crate) fn run(&self, arguments: &[&str]) {
        let (code, said) = script(self.folder.path(), arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }

    /// Every connection ends, so that every client logs in again.
    pub(crate) fn restart(&self) {
        self.run(&["kill"]);
        self.run(&["restart"]);
    }

    pub(crate) fn password(&self, password: &str) {
        self.run(&["password", "SCRAM-SHA-512", password]);
    }

    pub(crate) fn address(&self, key: &str) -> &str {
        &self.addresses[key]
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = script(self.folder.path(), &["stop"]);
    }
}

pub(crate) fn script(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/real/kafka");
    let output = Command::new(script)
        .arg(arguments[0])
        .arg("--dir")
        .arg(folder.join("kafka"))
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .output()
        .expect("the script runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

/// A ticket's way through, start to acknowledged result.
pub(crate) struct Tickets<'a> {
    world: &'a World,
    producer: FutureProducer,
    pub(crate) names: Vec<String>,
}

impl<'a> Tickets<'a> {
    pub(crate) fn on(world: &'a World, kafka: &Kafka) -> Self {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", kafka.address("KAFKA_BOOTSTRAP_SERVERS"));
        Self { world, producer: settings.create().expect("producer"), names: Vec::new() }
    }

    pub(crate) async fn publish(&mut self, name: &str) {
        let ticket = self.world.ticket(name, "true").to_string();
        let record = FutureRecord::to("execution.tickets").key(name).payload(&ticket);
        self.producer.send(record, Timeout::After(Duration::from_secs(60))).await.expect("published");
        self.names.push(name.to_owned());
    }

    pub(crate) async fn completed(&self, worker: &Worker) {
        let series = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
        worker.reaches(series, self.names.len() as f64).await;
    }
}

pub(crate) async fn says(worker: &Worker, message: &str, times: usize) {
    let line = format!("\"message\":\"{message}\"");
    eventually(message, || (worker.log().matches(&line).count() >= times).then_some(())).await;
}

/// Results by ticket, read without credentials of the worker.
pub(crate) fn results(servers: &str, least: usize) -> BTreeMap<String, Vec<Value>> {
    use rdkafka::Message as _;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "oracle")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("consumer");
    consumer.subscribe(&["execution.results"]).expect("subscribed");
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut quiet = 0;
    while (found.len() < least || quiet < 10) && std::time::Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let result: Value = serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
                found.entry(result["ticket_id"].as_str().expect("id").to_owned()).or_default().push(result);
                quiet = 0;
            }
            _ => quiet += 1,
        }
    }
    found
}
