//! What a test needs: peers, workers as processes, and oracles that read topics and histories.

#[path = "../support/dev_server.rs"]
mod dev_server;
#[path = "../support/temporal_cli.rs"]
mod temporal_cli;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};
use ticket_schemas::{decode_json_ticket, encode_avro_ticket};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker_agents::dev::kafka::MockKafka;
use worker_agents::dev::registry::SchemaRegistry;
use worker_agents::dev::temporal::{TemporalDevOptions, TemporalDevServer};

pub(crate) use dev_server::cli;

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_worker-agents");
/// Generous: machines are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a test waits for what so many do, `each` of which may take so long.
pub(crate) fn patience(each: Duration, count: usize) -> Duration {
    PATIENCE + each * u32::try_from(count).expect("few")
}

/// A size that whoever runs the test may change.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says how long it may take")]
pub(crate) fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Waits until `probe` answers; fails with `what` when it never does.
pub(crate) async fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(what, PATIENCE, probe).await
}

/// As [`eventually`], for what may take longer.
pub(crate) async fn eventually_within<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {} s", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn temporal_options(port: u16) -> TemporalDevOptions {
    TemporalDevOptions {
        port,
        search_attributes: ticket_workflows::search_attributes(),
        grace: Duration::from_secs(2),
        ..dev_server::options()
    }
}

/// Address of the server that the tests share. It ends with this process.
pub(crate) fn shared_temporal() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("runtime");
            runtime.block_on(async {
                let server = TemporalDevServer::start(temporal_options(0)).await.expect("Temporal");
                tell.send(server.address().to_owned()).expect("told");
                std::future::pending::<()>().await;
            });
        });
        told.recv().expect("the address")
    })
}

/// Whatever is a Kafka to a test.
pub(crate) trait Brokers {
    fn bootstrap_servers(&self) -> &str;
}

impl Brokers for MockKafka {
    fn bootstrap_servers(&self) -> &str {
        self.bootstrap_servers()
    }
}

/// Peers of one test: embedded ones, unless it says otherwise.
pub(crate) struct World<K = MockKafka, R = SchemaRegistry> {
    pub(crate) kafka: K,
    pub(crate) registry: R,
    pub(crate) temporal: String,
    pub(crate) id: String,
    /// Settings of every worker of this test, over the usual ones.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
    pub(crate) registry_url: String,
    producer: FutureProducer,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl<K, R> Drop for World<K, R> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The embedded registry and its address; it ends with `stop`.
pub(crate) async fn embedded_registry(stop: &CancellationToken) -> (SchemaRegistry, String) {
    let registry = SchemaRegistry::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(registry.serve(listener, stop.clone()));
    (registry, url)
}

impl World {
    pub(crate) async fn new() -> Self {
        let temporal = tokio::task::spawn_blocking(shared_temporal).await.expect("Temporal").to_owned();
        Self::with_temporal(temporal).await
    }

    pub(crate) async fn with_temporal(temporal: String) -> Self {
        let topics =
            [("execution.tickets", 2), ("execution.results", 2), ("execution.tickets.dlq", 1), ("sre.alerts", 1)];
        let kafka = tokio::task::spawn_blocking(move || MockKafka::start(&topics)).await.expect("join").expect("Kafka");
        let stop = CancellationToken::new();
        let registry = embedded_registry(&stop).await;
        Self::with_peers(temporal, kafka, registry, stop)
    }
}

impl<K: Brokers, R> World<K, R> {
    /// The registry with its address. `stop` is cancelled when the test is over.
    pub(crate) fn with_peers(
        temporal: String,
        kafka: K,
        (registry, registry_url): (R, String),
        stop: CancellationToken,
    ) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap_servers())
            .set("message.max.bytes", "4000000")
            .create()
            .expect("producer");
        let id = uuid::Uuid::new_v4().simple().to_string();
        let folder = tempfile::tempdir().expect("folder");
        Self { kafka, registry, temporal, id, settings: Vec::new(), registry_url, producer, folder, stop }
    }

    /// A ticket id of this test.
    pub(crate) fn ticket_id(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// An EXECUTE ticket that runs `script`.
    pub(crate) fn ticket(&self, name: &str, script: &str) -> Value {
        let now = ticket_activities::now_ms();
        json!({
            "ticket_id": self.ticket_id(name), "plan_id": "plan", "intent_id": "intent", "decision_id": "decision",
            "task_id": name, "task_type": "EXECUTE", "description": name, "dependencies": [], "status": "PENDING",
            "priority": "NORMAL", "risk_band": "low", "security_level": "INTERNAL",
            "sla": { "deadline": now + 600_000, "timeout_ms": 60_000, "max_retries": 0 },
            "parameters": { "command": "sh", "args": ["-c", script] },
            "created_at": now,
        })
    }

    /// A sample of the contract as a ticket of this test, made now.
    pub(crate) fn sample(&self, name: &str, text: &str) -> Value {
        let mut ticket: Value = serde_json::from_str(text).expect("a ticket");
        let now = ticket_activities::now_ms();
        ticket["ticket_id"] = json!(self.ticket_id(name));
        ticket["created_at"] = json!(now);
        if !ticket["sla"]["deadline"].is_null() {
            ticket["sla"]["deadline"] = json!(now + 600_000);
        }
        ticket
    }

    /// A ticket whose attempts, and all tickets that name it, work in one folder and leave there what they write.
    pub(crate) fn ticket_in(&self, folder: &str, name: &str, script: &str) -> Value {
        let mut ticket = self.ticket(name, script);
        ticket["parameters"]["working_dir"] = json!(folder);
        ticket
    }

    /// Where that folder is.
    pub(crate) fn shared(&self, folder: &str) -> PathBuf {
        self.working_dir().join(folder)
    }

    fn working_dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) async fn publish(&self, ticket: &Value) {
        self.publish_raw("key", Some(ticket.to_string().as_bytes())).await;
    }

    pub(crate) async fn publish_avro(&self, ticket: &Value) {
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let id = self.schema_id("execution.tickets-value", ticket_schemas::TICKET_SCHEMA_JSON).await;
        let value = encode_avro_ticket(&ticket, id).expect("encoded");
        self.publish_raw("key", Some(&value)).await;
    }

    pub(crate) async fn schema_id(&self, subject: &str, schema: &str) -> u32 {
        let url = format!("{}/subjects/{subject}/versions", self.registry_url);
        worker_agents::net::install_crypto();
        let client = reqwest::Client::builder().build().expect("client");
        let answer = client.post(url).json(&json!({ "schema": schema })).send().await.expect("registry");
        let answer: Value = answer.json().await.expect("JSON");
        u32::try_from(answer["id"].as_u64().expect("id")).expect("u32")
    }

    pub(crate) async fn publish_raw(&self, key: &str, value: Option<&[u8]>) {
        self.publish_to("execution.tickets", key, value, &[]).await;
    }

    pub(crate) async fn publish_to(&self, topic: &str, key: &str, value: Option<&[u8]>, headers: &[(&str, &str)]) {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_bytes()) })
        });
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(topic).key(key).headers(headers);
        record.payload = value;
        self.producer
            .send(record, Timeout::After(Duration::from_secs(30)))
            .await
            .map_err(|(error, _)| error)
            .expect("published");
    }

    /// Publishes many, spread over the partitions, without waiting for each.
    pub(crate) async fn publish_all(&self, tickets: &[Value]) {
        for some in tickets.chunks(200) {
            let sent = some.iter().map(|ticket| async move {
                let key = ticket["ticket_id"].as_str().expect("id");
                self.publish_raw(key, Some(ticket.to_string().as_bytes())).await;
            });
            futures::future::join_all(sent).await;
        }
    }

    /// Its workers keep the logs of tickets as a whole, in this folder.
    pub(crate) fn keeping_logs(mut self) -> (Self, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("folder");
        let sink: &'static str = format!("file://{}", folder.path().display()).leak();
        self.settings.extend([("EXECUTION_LOG_SINK", sink), ("EXECUTION_LOG_MAX_MB", "200")]);
        (self, folder)
    }

    /// Starts a worker process with these settings over the usual ones.
    pub(crate) async fn worker(&self, settings: &[(&str, &str)]) -> Worker {
        let worker = self.spawn(settings);
        worker.addresses().await;
        worker
    }

    pub(crate) fn spawn(&self, settings: &[(&str, &str)]) -> Worker {
        let log = self.folder.path().join(format!("worker-{}.log", uuid::Uuid::new_v4().simple()));
        let usual = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers()),
            ("KAFKA_SCHEMA_REGISTRY_URL", &self.registry_url),
            // Above the embedded broker's three seconds for a first assignment, or no member lives to see it.
            ("KAFKA_SESSION_TIMEOUT_MS", "4000"),
            ("KAFKA_FETCH_WAIT_MAX_MS", "10"),
            ("RESULT_ENCODING", "json"),
            ("TEMPORAL_ADDRESS", &self.temporal),
            ("TEMPORAL_TASK_QUEUE", &self.id),
            ("HTTP_BIND", "127.0.0.1"),
            ("HTTP_PORT", "0"),
            ("PROMETHEUS_PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("SHUTDOWN_GRACE_SECONDS", "1"),
            ("LOCAL_RUNTIME_KILL_GRACE_SECONDS", "1"),
            ("LOCAL_RUNTIME_ALLOWED_COMMANDS", "sh,true"),
        ];
        let mut command = Command::new(WORKER);
        command
            .arg("run")
            .env_clear()
            .envs(usual)
            .env("LOCAL_RUNTIME_WORKING_DIR", self.working_dir())
            .envs(self.settings.iter().copied())
            .envs(settings.iter().copied());
        let child = command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("log"))
            .spawn()
            .expect("worker");
        Worker { child, log }
    }

    /// Runs a command of the worker to its end; it finds this test's peers.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> Output {
        self.command_with(arguments, input, &[])
    }

    /// The same with further settings.
    pub(crate) fn command_with(&self, arguments: &[&str], input: &str, settings: &[(&str, &str)]) -> Output {
        let mut child = Command::new(WORKER)
            .args(arguments)
            .env_clear()
            .env("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers())
            .env("KAFKA_SCHEMA_REGISTRY_URL", &self.registry_url)
            .env("KAFKA_FETCH_WAIT_MAX_MS", "10")
            .env("TEMPORAL_ADDRESS", &self.temporal)
            .env("TEMPORAL_TASK_QUEUE", &self.id)
            .envs(self.settings.iter().copied())
            .envs(settings.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // A command that does not read its input is no failure.
        let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
        child.wait_with_output().expect("the command ends")
    }

    /// Everything in a topic, in partition order.
    pub(crate) fn topic(&self, topic: &str) -> Vec<Record> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.bootstrap_servers())
            .set("group.id", format!("oracle-{}", uuid::Uuid::new_v4()))
            .set("fetch.wait.max.ms", "10")
            .set("enable.auto.commit", "false")
            .create()
            .expect("consumer");
        let timeout = Duration::from_secs(20);
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), timeout) else { return Vec::new() };
        let mut offsets = TopicPartitionList::new();
        let mut expected = 0;
        for partition in metadata.topics()[0].partitions() {
            let Ok((low, high)) = consumer.fetch_watermarks(topic, partition.id(), timeout) else { return Vec::new() };
            expected += high - low;
            offsets.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("offset");
        }
        consumer.assign(&offsets).expect("assigned");
        let mut records = Vec::new();
        let deadline = Instant::now() + timeout;
        while (records.len() as i64) < expected && Instant::now() < deadline {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
            records.push(Record {
                key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
                value: message.payload().map(<[u8]>::to_vec).unwrap_or_default(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
                }),
            });
        }
        records
    }

    /// The offsets that a group has committed in a topic, all partitions together: how many records it is done with.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.bootstrap_servers())
            .set("group.id", group)
            .create()
            .expect("consumer");
        let timeout = Duration::from_secs(20);
        let metadata = consumer.fetch_metadata(Some(topic), timeout).expect("metadata");
        let mut offsets = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            offsets.add_partition(topic, partition.id());
        }
        let committed = consumer.committed_offsets(offsets, timeout).expect("committed offsets");
        let offset = |found: Offset| if let Offset::Offset(offset) = found { offset } else { 0 };
        committed.elements().iter().map(|element| offset(element.offset())).sum()
    }

    /// Results by ticket id. All workers of these tests publish JSON.
    pub(crate) fn results(&self) -> BTreeMap<String, Vec<Value>> {
        let mut results: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for record in self.topic("execution.results") {
            let result: Value = serde_json::from_slice(&record.value).expect("a JSON result");
            assert_eq!(record.key.as_deref(), result["ticket_id"].as_str(), "results are keyed by their ticket");
            results.entry(result["ticket_id"].as_str().expect("id").to_owned()).or_default().push(result);
        }
        results
    }

    /// The one result of a ticket, once it is there. Copies must be equal.
    pub(crate) async fn result(&self, name: &str) -> Value {
        let id = self.ticket_id(name);
        let copies = eventually(&format!("a result of {name}"), || self.results().remove(&id)).await;
        for copy in &copies[1..] {
            assert_eq!(copy, &copies[0], "two different results of {name}");
        }
        copies[0].clone()
    }

    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        self.topic("execution.tickets.dlq")
            .iter()
            .map(|record| serde_json::from_slice(&record.value).expect("JSON"))
            .collect()
    }
}

/// What a result says: status, error code, what is known of the work.
pub(crate) fn verdict(result: &Value) -> (&str, &str, &str) {
    let text = |key: &str| result["result"]["metadata"][key].as_str().unwrap_or_default();
    (result["status"].as_str().unwrap_or_default(), text("error_code"), text("external_state"))
}

/// A record, as the oracle reads it.
pub(crate) struct Record {
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Record {
    /// The text of a header, if the record has it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", self.log());
        }
    }
}

impl Worker {
    /// Ends it as a roll-out does, and waits for its end.
    pub(crate) async fn end_gracefully(mut self) {
        self.signal("-TERM");
        let status = tokio::task::spawn_blocking(move || self.child.wait().expect("ended")).await.expect("join");
        assert!(status.success(), "{status}");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Addresses of the HTTP port and of the metrics port, once the worker has told them.
    pub(crate) async fn addresses(&self) -> (String, String) {
        let log = &self.log;
        eventually("the worker starts", || {
            let text = std::fs::read_to_string(log).ok()?;
            let started = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let started = started.into_iter().find(|line| line["message"] == "worker_started");
            let Some(started) = started else {
                assert!(!text.contains("worker-agents: "), "{text}");
                return None;
            };
            Some((started["http"].as_str()?.to_owned(), started["metrics"].as_str()?.to_owned()))
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (http, _) = self.addresses().await;
        get(&format!("http://{http}{path}")).await
    }

    pub(crate) async fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/ready").await.0 != 200 {
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The value of a metric line that starts with `series`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits until a metric has reached `least`.
    pub(crate) async fn reaches(&self, series: &str, least: f64) {
        self.reaches_within(series, least, PATIENCE).await;
    }

    /// Waits so long until a metric has reached `least`.
    pub(crate) async fn reaches_within(&self, series: &str, least: f64, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.metric(series).await < least {
            assert!(Instant::now() < deadline, "{series} does not reach {least}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().expect("kill");
        assert!(status.success());
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("collected");
    }

    /// Resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.status_mib("VmRSS:")
    }

    /// What of it is the worker's own, without the pages of its code, which the system takes back when it needs them.
    pub(crate) fn own_mib(&self) -> f64 {
        self.status_mib("RssAnon:")
    }

    fn status_mib(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("number") / 1024.0
    }
}

pub(crate) async fn get(url: &str) -> (u16, String) {
    worker_agents::net::install_crypto();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("client");
    let response = client.get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

/// A script that runs until `gate` is there.
pub(crate) fn until(gate: &Path) -> String {
    format!("while [ ! -e {} ]; do sleep 0.1; done", gate.display())
}

/// Number and text of each line that `worker-agents logs --json` has printed.
pub(crate) fn log_lines(printed: &Output) -> Vec<(u64, String)> {
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        (line["seq"].as_u64().unwrap_or_default(), line["text"].as_str().unwrap_or_default().to_owned())
    };
    std::str::from_utf8(&printed.stdout).expect("text").lines().map(line).collect()
}

/// Processes whose command line holds `marker`: id and command line.
pub(crate) fn command_lines(marker: &str) -> Vec<(i32, String)> {
    let line = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned()))
    };
    let all = std::fs::read_dir("/proc").expect("proc").flatten().filter_map(line);
    all.filter(|(_, line)| line.contains(marker)).collect()
}

/// How many processes' command lines hold `marker`.
pub(crate) fn processes(marker: &str) -> usize {
    command_lines(marker).len()
}
