//! Credentials that change while the worker runs, against a real broker with SASL_SSL (INC-13).
//!
//! Runs with `REAL_KAFKA=1`; else, or where Kafka cannot be had, it says that it was skipped.
#![cfg(feature = "dev-stack")]

#[path = "end_to_end/world.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::Value;

use world::{Worker, World, eventually};

/// Asked for, or not.
fn wanted() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let wanted = std::env::var("REAL_KAFKA").is_ok_and(|value| value == "1");
    if !wanted {
        eprintln!("skipped: REAL_KAFKA=1 asks for it; it starts a real broker");
    }
    wanted
}

/// A real broker; ends when dropped.
struct Kafka {
    folder: tempfile::TempDir,
    addresses: BTreeMap<String, String>,
}

impl Kafka {
    /// `None`: it cannot be had here.
    fn start() -> Option<Self> {
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

    fn run(&self, arguments: &[&str]) {
        let (code, said) = script(self.folder.path(), arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }

    /// Every connection ends, so that every client logs in again.
    fn restart(&self) {
        self.run(&["kill"]);
        self.run(&["restart"]);
    }

    fn password(&self, password: &str) {
        self.run(&["password", "SCRAM-SHA-512", password]);
    }

    fn address(&self, key: &str) -> &str {
        &self.addresses[key]
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = script(self.folder.path(), &["stop"]);
    }
}

fn script(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
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
struct Tickets<'a> {
    world: &'a World,
    producer: FutureProducer,
    names: Vec<&'static str>,
}

impl Tickets<'_> {
    async fn publish(&mut self, name: &'static str) {
        let ticket = self.world.ticket(name, "true").to_string();
        let record = FutureRecord::to("execution.tickets").key(name).payload(&ticket);
        self.producer.send(record, Timeout::After(Duration::from_secs(60))).await.expect("published");
        self.names.push(name);
    }

    async fn completed(&self, worker: &Worker) {
        let series = r#"worker_agent_results_published_total{status="COMPLETED"}"#;
        worker.reaches(series, self.names.len() as f64).await;
    }
}

async fn says(worker: &Worker, message: &str, times: usize) {
    let line = format!("\"message\":\"{message}\"");
    eventually(message, || (worker.log().matches(&line).count() >= times).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_13_a_new_password_reaches_every_client_without_a_restart_and_loses_nothing() {
    if !wanted() {
        return;
    }
    let Some(kafka) = tokio::task::spawn_blocking(Kafka::start).await.expect("joined") else { return };
    let world = World::new().await;
    let file = |name: &str| kafka.folder.path().join(name).to_str().expect("utf-8").to_owned();
    let write = |name: &str, text: &str| std::fs::write(file(name), format!("{text}\n")).expect("written");
    let first = kafka.address("KAFKA_SCRAM_SHA_512_PASSWORD").to_owned();
    write("user", kafka.address("KAFKA_SCRAM_SHA_512_USERNAME"));
    write("password", &first);
    let mut worker = world
        .worker(&[
            ("KAFKA_BOOTSTRAP_SERVERS", kafka.address("KAFKA_SASL_SSL_BOOTSTRAP_SERVERS")),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SASL_USERNAME_FILE", &file("user")),
            ("KAFKA_SASL_PASSWORD_FILE", &file("password")),
            ("KAFKA_SSL_CA_LOCATION", kafka.address("KAFKA_TLS_CA")),
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ])
        .await;
    let producer = ClientConfig::new()
        .set("bootstrap.servers", kafka.address("KAFKA_BOOTSTRAP_SERVERS"))
        .create()
        .expect("producer");
    let mut tickets = Tickets { world: &world, producer, names: Vec::new() };
    let consumers = "worker_agent_kafka_consumer_initialized_total";
    worker.wait_ready().await;
    tickets.publish("with-the-first").await;
    tickets.completed(&worker).await;

    // A password that no broker knows changes nothing.
    write("password", "a-mistake");
    says(&worker, "kafka_credentials_kept", 1).await;
    tickets.publish("during-a-mistake").await;
    tickets.completed(&worker).await;
    assert_eq!(worker.get("/ready").await.0, 200);
    assert!((worker.metric(consumers).await - 1.0).abs() < 0.1);

    // The broker's new password, then the file's: consumer and producer are replaced.
    kafka.password("the-second");
    write("password", "the-second");
    says(&worker, "kafka_credentials_renewed", 1).await;
    says(&worker, "kafka_consumer_replaced", 1).await;
    says(&worker, "kafka_producer_replaced", 1).await;
    tickets.publish("with-the-second").await;
    tickets.completed(&worker).await;
    assert!((worker.metric(consumers).await - 2.0).abs() < 0.1);
    assert_eq!(worker.get("/health").await.0, 200);

    // Whoever still had the first one is not let in after this.
    kafka.restart();
    tickets.publish("after-a-restart").await;
    tickets.completed(&worker).await;

    // A password that changed without the file: told, not silent.
    kafka.password("the-third");
    kafka.restart();
    worker.reaches(r#"worker_agent_kafka_consumer_errors_total{error_type="Authentication"}"#, 1.0).await;
    worker.reaches(r#"worker_agent_setup_faults_total{fault="kafka_authentication"}"#, 1.0).await;
    let (status, reason) = worker.get("/ready").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("kafka_access") && reason.contains("KAFKA_SASL_PASSWORD"), "{reason}");
    tickets.publish("while-locked-out").await;
    write("password", "the-third");
    says(&worker, "kafka_credentials_renewed", 2).await;
    tickets.completed(&worker).await;
    worker.wait_ready().await;

    // Foreign clients find each ticket's one run and nothing else.
    worker.signal("-TERM");
    let ended = tokio::task::spawn_blocking(move || {
        let status = worker.child.wait().expect("ended");
        (worker, status)
    });
    let (worker, status) = ended.await.expect("joined");
    assert!(status.success(), "{status}");
    for name in &tickets.names {
        assert_eq!(world.runs(name), 1, "{name}");
    }
    let results = results(kafka.address("KAFKA_BOOTSTRAP_SERVERS"), tickets.names.len());
    for name in &tickets.names {
        let copies = &results[&world.ticket_id(name)];
        assert!(copies.iter().all(|copy| copy == &copies[0] && copy["status"] == "COMPLETED"), "{name}: {copies:?}");
    }
    assert_eq!(results.len(), tickets.names.len());
    for secret in [first.as_str(), "a-mistake", "the-second", "the-third"] {
        assert!(!worker.log().contains(secret), "a password is in the log");
    }
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
    let deadline = std::time::Instant::now() + world::PATIENCE;
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
