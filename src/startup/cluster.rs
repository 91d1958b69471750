//! What Kafka says about the topics, the consumer group and the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use ticket_activities::now_ms;

use crate::bridge::decision::CLOCK_SKEW_MARGIN;
use crate::config::KafkaConfig;
use crate::kafka::{self, Clients, Context, METADATA_TIMEOUT, Reader, TopicState};

/// How long brokers get to describe their settings.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Tickets,
    Results,
    DeadLetters,
    Rejected,
    /// Of alerts about dead letters; they wait while it is missing.
    Alerts,
}

impl Role {
    /// The setting that names it.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Tickets => "KAFKA_TICKETS_TOPIC",
            Self::Results => "KAFKA_RESULTS_TOPIC",
            Self::DeadLetters => "KAFKA_DLQ_TOPIC",
            Self::Rejected => "KAFKA_REJECTED_TOPIC",
            Self::Alerts => "DLQ_ALERT_KAFKA_TOPIC",
        }
    }
}

/// Settings of a topic or a broker, as they are in force; or why they are not known.
pub(super) type Options = Result<BTreeMap<String, String>, String>;

/// One topic.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) state: TopicState,
    /// The same name with hyphens, when only that exists (INC-01).
    pub(super) hyphenated: Option<String>,
    pub(super) options: Options,
}

/// The cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) topics: Vec<Topic>,
    pub(super) broker: Options,
    /// Whether the group's offsets may be read.
    pub(super) group: Result<(), String>,
    /// Whether a record of the tickets topic is stamped later than this machine's clock and [`CLOCK_SKEW_MARGIN`].
    pub(super) record_ahead: Result<bool, String>,
}

/// The topics of `config`, in the order of their importance, and that of alerts when they are on.
fn wanted(config: &KafkaConfig, alerts: Option<&str>) -> Vec<(Role, String)> {
    let mut topics = vec![
        (Role::Tickets, config.tickets_topic.clone()),
        (Role::Results, config.results_topic.clone()),
        (Role::DeadLetters, config.dlq_topic.clone()),
    ];
    topics.extend(config.rejected_topic.clone().map(|name| (Role::Rejected, name)));
    topics.extend(alerts.map(|name| (Role::Alerts, name.to_owned())));
    topics
}

/// Asks for the topics alone.
///
/// # Errors
/// When no broker answers: the sentence names the brokers and the setting.
pub(super) async fn topics(config: &KafkaConfig) -> anyhow::Result<Vec<Topic>> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || {
        let client = Clients::new(&config)?.reader(&config.group_id)?;
        find_topics(&config, None, &client)
    })
    .await?
}

/// Asks for everything.
///
/// # Errors
/// As [`topics`].
pub(super) async fn look(config: &KafkaConfig, alerts: Option<&str>) -> anyhow::Result<Cluster> {
    let (asked, alerts) = (config.clone(), alerts.map(str::to_owned));
    let (mut topics, broker, group, record_ahead) = tokio::task::spawn_blocking(move || {
        let client = Clients::new(&asked)?.reader(&asked.group_id)?;
        let topics = find_topics(&asked, alerts.as_deref(), &client)?;
        let broker = client.fetch_metadata(None, METADATA_TIMEOUT).ok();
        let broker = broker.and_then(|metadata| metadata.brokers().first().map(|broker| broker.id()));
        let partitions = match topics.first().map(|topic| &topic.state) {
            Some(TopicState::Partitions(partitions)) => *partitions,
            _ => 0,
        };
        let group = may_use_group(&client, &asked.tickets_topic, partitions);
        let record_ahead = record_ahead(&client, &asked.tickets_topic, partitions);
        anyhow::Ok((topics, broker, group, record_ahead))
    })
    .await??;
    let admin = Clients::new(config)?.admin()?;
    let names: Vec<String> = topics
        .iter()
        .filter(|topic| matches!(topic.state, TopicState::Partitions(_)))
        .map(|topic| topic.name.clone())
        .collect();
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let described = describe(&admin, &resources).await;
    for (n, name) in names.iter().enumerate() {
        let options = described.get(n).cloned().unwrap_or_else(|| Err("the broker left it out".to_owned()));
        if let Some(topic) = topics.iter_mut().find(|topic| topic.name == *name) {
            topic.options = options;
        }
    }
    let broker = match broker {
        Some(id) => describe(&admin, &[ResourceSpecifier::Broker(id)]).await.pop(),
        None => None,
    };
    // Its end waits for its thread.
    tokio::task::spawn_blocking(move || drop(admin)).await?;
    Ok(Cluster { topics, broker: broker.unwrap_or_else(|| Err("no broker is known".to_owned())), group, record_ahead })
}

fn find_topics(config: &KafkaConfig, alerts: Option<&str>, client: &Reader) -> anyhow::Result<Vec<Topic>> {
    let mut topics = Vec::new();
    for (role, name) in wanted(config, alerts) {
        let state = kafka::describe_topic(config, client, &name)?;
        let other = name.replace('.', "-");
        let hyphenated = (state == TopicState::Missing
            && other != name
            && matches!(kafka::describe_topic(config, client, &other)?, TopicState::Partitions(_)))
        .then_some(other);
        topics.push(Topic { role, name, state, hyphenated, options: Err("the topic is not there".to_owned()) });
    }
    Ok(topics)
}

/// Settings of each resource, in the order asked for.
async fn describe(admin: &AdminClient<Context>, resources: &[ResourceSpecifier<'_>]) -> Vec<Options> {
    if resources.is_empty() {
        return Vec::new();
    }
    let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
    let answer = tokio::time::timeout(DESCRIBE_TIMEOUT * 2, admin.describe_configs(resources, &options)).await;
    match answer {
        Err(_) => vec![Err("the brokers did not answer in time".to_owned()); resources.len()],
        Ok(Err(error)) => vec![Err(error.to_string()); resources.len()],
        Ok(Ok(results)) => results
            .into_iter()
            .map(|result| result.map(settings).map_err(|code| format!("the brokers refuse it: {code}")))
            .collect(),
    }
}

fn settings(resource: ConfigResource) -> BTreeMap<String, String> {
    resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

fn may_use_group(client: &Reader, topic: &str, partitions: usize) -> Result<(), String> {
    let mut asked = TopicPartitionList::new();
    for partition in numbers(partitions) {
        asked.add_partition(topic, partition);
    }
    let offsets = client.committed_offsets(asked, METADATA_TIMEOUT).map_err(|error| error.to_string())?;
    match offsets.elements().iter().find_map(|partition| partition.error().err()) {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

/// Asks the brokers for the first record at or after a time ahead of ours: no record is read for it.
fn record_ahead(client: &Reader, topic: &str, partitions: usize) -> Result<bool, String> {
    let ahead = now_ms().saturating_add(i64::try_from(CLOCK_SKEW_MARGIN.as_millis()).unwrap_or(i64::MAX));
    let mut asked = TopicPartitionList::new();
    for partition in numbers(partitions) {
        asked.add_partition_offset(topic, partition, Offset::Offset(ahead)).map_err(|error| error.to_string())?;
    }
    let found = client.offsets_for_times(asked, METADATA_TIMEOUT).map_err(|error| error.to_string())?;
    Ok(found.elements().iter().any(|partition| matches!(partition.offset(), Offset::Offset(_))))
}

fn numbers(partitions: usize) -> std::ops::Range<i32> {
    0..i32::try_from(partitions).unwrap_or(i32::MAX)
}
