//! A real broker with credentials, tickets through it, and their results as another client reads them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

use crate::instance::Instance;
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

/// Starts a real peer in a folder of its own; `None`: it cannot be had here.
pub(crate) fn start(component: &str, folder: &Path, options: &[&str]) -> Option<Instance> {
    match Instance::start(component, &folder.join(component), options) {
        Ok(instance) => Some(instance),
        Err(error) if error.to_string().starts_with("skipped") => {
            eprintln!("{error}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A real broker; ends when dropped.
pub(crate) struct Kafka {
    broker: Instance,
    pub(crate) folder: tempfile::TempDir,
}

impl Kafka {
    /// `None`: it cannot be had here.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let kafka = Self { broker: start("kafka", folder.path(), &["--sasl-ssl"])?, folder };
        kafka.run("topics", &["execution.tickets:2", "execution.results:2", "execution.tickets.dlq:1"]);
        Some(kafka)
    }

    fn run(&self, verb: &str, options: &[&str]) {
        self.broker.run(verb, options).expect(verb);
    }

    /// Every connection ends, so that every client logs in again.
    pub(crate) fn restart(&self) {
        self.run("kill", &[]);
        self.run("restart", &[]);
    }

    pub(crate) fn password(&self, password: &str) {
        self.run("password", &["SCRAM-SHA-512", password]);
    }

    pub(crate) fn address(&self, key: &str) -> &str {
        self.broker.address(key).expect(key)
    }
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

    /// The worker, told to end and ended in good order. Foreign clients find each ticket's one result and nothing else.
    pub(crate) async fn ended(&self, kafka: &Kafka, mut worker: Worker) -> Worker {
        worker.signal("-TERM");
        let ended = tokio::task::spawn_blocking(move || {
            let status = worker.child.wait().expect("ended");
            (worker, status)
        });
        let (worker, status) = ended.await.expect("joined");
        assert!(status.success(), "{status}");
        let results = results(kafka.address("KAFKA_BOOTSTRAP_SERVERS"), self.names.len());
        for name in &self.names {
            let copies = &results[&self.world.ticket_id(name)];
            let one = copies.iter().all(|copy| copy == &copies[0] && copy["status"] == "COMPLETED");
            assert!(one, "{name}: {copies:?}");
        }
        assert_eq!(results.len(), self.names.len());
        worker
    }
}

pub(crate) async fn says(worker: &Worker, message: &str, times: usize) {
    let line = format!("\"message\":\"{message}\"");
    eventually(message, || (worker.log().matches(&line).count() >= times).then_some(())).await;
}

/// Results by ticket, read without credentials of the worker.
fn results(servers: &str, least: usize) -> BTreeMap<String, Vec<Value>> {
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
