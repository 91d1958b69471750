//! Kafka without a broker to install: librdkafka's mock cluster, in this process.
//!
//! A development and test tool. It is **not durable**, keeps 5 MiB of each partition and drops older records
//! silently, knows neither transactions nor topic administration, and serves plain text on 127.0.0.1 only. A topic
//! that nobody created appears with 4 partitions when a client first asks for it. Nothing outside `dev` and tests
//! may select it.
//!
//! Two things differ from a real cluster in ways that callers notice:
//!
//! * The first member of a group waits 3 s for its assignment: librdkafka offers no *safe* call that shortens the
//!   mock's initial rebalance delay, and this workspace has no unsafe code.
//! * It does not wake waiting fetches when a record arrives: clients set `fetch.wait.max.ms=10`.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// One broker: what `dev` shows does not depend on how many there are, and moving leaders is a matter for tests
/// against a real cluster.
const BROKERS: i32 = 1;
/// How librdkafka says "every broker".
const EVERY_BROKER: i32 = -1;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// An in-process Kafka. Ends, with everything it holds, when dropped.
///
/// The cluster itself may not change threads, so it lives on a thread of its own and takes commands.
#[derive(Debug)]
pub struct MockKafka {
    bootstrap_servers: String,
    /// `None` only while dropping: its end is what ends the thread.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl MockKafka {
    /// Starts the cluster and creates `topics`, each with its number of partitions, replication 1. Takes milliseconds.
    ///
    /// # Errors
    ///
    /// When the cluster does not start or a topic cannot be created (its name is used twice, or its number of
    /// partitions is below 1).
    pub fn start(topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let (commands, inbox) = mpsc::channel::<Command>();
        let (started, bootstrap_servers) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("mock-kafka".into())
            .spawn(move || own(&inbox, &started))
            .context("the thread of the in-process Kafka cannot be started")?;
        let bootstrap_servers = bootstrap_servers
            .recv()
            .context("the in-process Kafka ended while it started")?
            .context("the in-process Kafka cannot be started")?;
        let kafka = Self { bootstrap_servers, commands: Some(commands), thread: Some(thread) };
        for &(topic, partitions) in topics {
            kafka.create_topic(topic, partitions)?;
        }
        Ok(kafka)
    }

    /// What clients take as `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Creates one more topic. (The protocol's own CreateTopics is not served.)
    ///
    /// # Errors
    ///
    /// When the topic exists or `partitions` is below 1.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        let name = topic.to_owned();
        self.ask(move |cluster| cluster.create_topic(&name, partitions, 1))?.with_context(|| {
            format!("topic {topic} with {partitions} partitions cannot be created in the in-process Kafka")
        })
    }

    /// Fault: the next requests of this kind are answered with these errors, one request each, in this order.
    /// `RD_KAFKA_RESP_ERR__TRANSPORT` breaks the connection instead.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn request_errors(&self, api_key: RDKafkaApiKey, errors: &[RDKafkaRespErr]) -> anyhow::Result<()> {
        let errors = errors.to_vec();
        self.ask(move |cluster| cluster.request_errors(api_key, &errors))
    }

    /// Takes the errors back that [`MockKafka::request_errors`] put in line and no request has met.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn clear_request_errors(&self, api_key: RDKafkaApiKey) -> anyhow::Result<()> {
        self.ask(move |cluster| cluster.clear_request_errors(api_key))
    }

    /// Fault: the brokers say this of a topic whoever asks, as if it did not exist, for example. `RD_KAFKA_RESP_ERR_NO_ERROR`
    /// ends it.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn topic_error(&self, topic: &str, error: RDKafkaRespErr) -> anyhow::Result<()> {
        let topic = topic.to_owned();
        Ok(self.ask(move |cluster| cluster.topic_error(&topic, error))??)
    }

    /// Fault: the broker drops its connections and takes no new ones. What it holds is kept.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn broker_down(&self) -> anyhow::Result<()> {
        Ok(self.ask(|cluster| cluster.broker_down(EVERY_BROKER))??)
    }

    /// Ends [`MockKafka::broker_down`].
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn broker_up(&self) -> anyhow::Result<()> {
        Ok(self.ask(|cluster| cluster.broker_up(EVERY_BROKER))??)
    }

    /// Fault: the topic's partition has a leader no more, so nothing can be written to it or read from it; `true` gives it
    /// back.
    ///
    /// # Errors
    ///
    /// When the cluster is gone or there is no such partition.
    pub fn partition_leader(&self, topic: &str, partition: i32, leader: bool) -> anyhow::Result<()> {
        let topic = topic.to_owned();
        Ok(self.ask(move |cluster| cluster.partition_leader(&topic, partition, leader.then_some(BROKERS)))??)
    }

    /// Fault: every answer takes this long. Whole milliseconds; zero ends it.
    ///
    /// # Errors
    ///
    /// When the cluster is gone.
    pub fn broker_round_trip_time(&self, delay: Duration) -> anyhow::Result<()> {
        Ok(self.ask(move |cluster| cluster.broker_round_trip_time(EVERY_BROKER, delay))??)
    }

    /// Runs `question` on the cluster's thread and waits for its answer (a millisecond at most).
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Cluster) -> T + Send + 'static) -> anyhow::Result<T> {
        let (reply, answer) = mpsc::channel();
        let command: Command = Box::new(move |cluster| {
            // Whoever asked is waiting for it below.
            let _ = reply.send(question(cluster));
        });
        self.commands
            .as_ref()
            .and_then(|commands| commands.send(command).ok())
            .and_then(|()| answer.recv().ok())
            .context("the in-process Kafka has ended; start another")
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread of the in-process Kafka panicked");
        }
    }
}

/// The cluster's thread: makes it, serves commands until nobody can send one, and takes it down.
fn own(inbox: &mpsc::Receiver<Command>, started: &mpsc::Sender<Result<String, KafkaError>>) {
    let cluster = match MockCluster::new(BROKERS) {
        Ok(cluster) => cluster,
        Err(error) => {
            // `start` waits for it.
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(cluster.bootstrap_servers())).is_err() {
        return;
    }
    for command in inbox {
        command(&cluster);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rdkafka::ClientConfig;
    use rdkafka::Message as _;
    use rdkafka::consumer::{Consumer as _, StreamConsumer};
    use rdkafka::error::RDKafkaErrorCode;
    use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

    use super::*;

    fn producer(kafka: &MockKafka) -> FutureProducer {
        ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap_servers())
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .unwrap()
    }

    async fn send(producer: &FutureProducer, patience: Duration) -> Result<i64, KafkaError> {
        let record = FutureRecord::to("tickets").key("a").payload("work").partition(1);
        producer.send(record, patience).await.map(|delivery| delivery.offset).map_err(|(error, _)| error)
    }

    #[tokio::test]
    async fn a_record_comes_back_from_the_partition_it_went_to() {
        let kafka = MockKafka::start(&[("tickets", 3), ("results", 1)]).unwrap();
        let producer = producer(&kafka);
        let metadata = producer.client().fetch_metadata(Some("tickets"), Duration::from_secs(10)).unwrap();
        assert_eq!(metadata.topics()[0].partitions().len(), 3);
        assert_eq!(send(&producer, Duration::ZERO).await.unwrap(), 0);

        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap_servers())
            .set("group.id", "workers")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        consumer.subscribe(&["tickets"]).unwrap();
        let record = tokio::time::timeout(Duration::from_secs(20), consumer.recv()).await.unwrap().unwrap();
        assert_eq!((record.partition(), record.payload()), (1, Some("work".as_bytes())));
    }

    #[tokio::test]
    async fn errors_put_in_line_meet_one_request_each() {
        let kafka = MockKafka::start(&[("tickets", 3)]).unwrap();
        let producer = producer(&kafka);
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        kafka.request_errors(RDKafkaApiKey::Produce, &[refused]).unwrap();
        let error = send(&producer, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
        assert_eq!(send(&producer, Duration::ZERO).await.unwrap(), 0);

        kafka.request_errors(RDKafkaApiKey::Produce, &[refused; 3]).unwrap();
        kafka.clear_request_errors(RDKafkaApiKey::Produce).unwrap();
        assert_eq!(send(&producer, Duration::ZERO).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_broker_that_comes_back_still_has_its_records() {
        let kafka = MockKafka::start(&[("tickets", 3)]).unwrap();
        let producer = producer(&kafka);
        assert_eq!(send(&producer, Duration::ZERO).await.unwrap(), 0);
        kafka.broker_down().unwrap();
        assert!(producer.client().fetch_metadata(Some("tickets"), Duration::from_millis(500)).is_err());
        kafka.broker_up().unwrap();
        kafka.broker_round_trip_time(Duration::from_millis(200)).unwrap();
        let before = std::time::Instant::now();
        assert_eq!(send(&producer, Duration::ZERO).await.unwrap(), 1);
        assert!(before.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn a_topic_that_cannot_be_is_named() {
        let error = MockKafka::start(&[("tickets", 3), ("tickets", 3)]).unwrap_err();
        assert!(format!("{error:#}").contains("topic tickets with 3 partitions"), "{error:#}");
    }

    #[test]
    fn nothing_listens_after_the_drop() {
        let kafka = MockKafka::start(&[]).unwrap();
        let address = kafka.bootstrap_servers().to_owned();
        assert!(TcpStream::connect(&address).is_ok());
        drop(kafka);
        assert!(TcpStream::connect(&address).is_err());
    }
}
