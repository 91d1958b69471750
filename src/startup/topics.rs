//! What the facts about Kafka mean. Without I/O.

use std::time::Duration;

use ticket_schemas::MAX_VALUE_BYTES;

use super::cluster::{Cluster, Options, Role, Topic};
use super::finding::{Check, Finding};
use crate::config::KafkaConfig;
use crate::kafka::TopicState;

/// What a topic must take, in bytes (`contracts/kafka.md §1`): a ticket of 1 MiB, a result of 1,000,000 bytes with its
/// headers, a dead letter with the original's bytes.
const TICKET_BYTES: u64 = MAX_VALUE_BYTES as u64;
const RESULT_BYTES: u64 = 1_048_576;
const DEAD_LETTER_BYTES: u64 = 2_097_152;

/// Whether the topics exist. What is missing is fatal.
pub(super) fn existence(topic: &Topic) -> Finding {
    let (name, setting) = (&topic.name, topic.role.setting());
    match (&topic.state, &topic.hyphenated) {
        (TopicState::Partitions(1), _) => Finding::ok(
            Check::KafkaTopics,
            format!("Kafka topic {name} exists with 1 partition: one worker at a time reads it"),
        ),
        (TopicState::Partitions(n), _) => {
            Finding::ok(Check::KafkaTopics, format!("Kafka topic {name} exists with {n} partitions"))
        }
        (TopicState::Missing | TopicState::Denied, _) if topic.role == Role::Alerts => Finding::failed(
            Check::KafkaTopics,
            format!("Kafka has no topic {name:?} that this worker may see: alerts about dead letters wait"),
            format!("create it, give the worker's user the right to write it, or correct {setting}"),
        ),
        (TopicState::Missing, Some(hyphenated)) => Finding::fatal(
            Check::KafkaTopics,
            format!("Kafka has no topic {name:?}, only {hyphenated:?}"),
            format!(
                "producers and consumers of the platform use the dotted name: set spec.topicName: {name} in the topic's \
                 manifest (or set {setting}={hyphenated} if everybody uses that)"
            ),
        ),
        (TopicState::Missing, None) => Finding::fatal(
            Check::KafkaTopics,
            format!("Kafka has no topic {name:?}"),
            format!("create it (names are dotted, not hyphenated) or correct {setting}"),
        ),
        (TopicState::Denied, _) => Finding::fatal(
            Check::KafkaTopics,
            format!("Kafka does not let this worker see topic {name:?}"),
            format!("give its user the right to describe and {}", right(topic.role)),
        ),
        (TopicState::Unclear(error), _) => Finding::unknown(
            Check::KafkaTopics,
            format!("Kafka topic {name} could not be checked: {error}"),
            "it is asked for again",
        ),
    }
}

fn right(role: Role) -> &'static str {
    match role {
        Role::Tickets | Role::Rejected => "read it",
        Role::Results | Role::DeadLetters | Role::Alerts => "write it",
    }
}

/// Everything else about Kafka.
pub(super) fn judge(config: &KafkaConfig, cluster: &Cluster) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cluster.topics.iter().map(existence).collect();
    findings.push(match &cluster.group {
        Ok(()) => Finding::ok(Check::KafkaGroup, format!("the consumer group {} may be used", config.group_id)),
        // librdkafka says so for a missing right.
        Err(error) if error.contains("authorization") || error.contains("Authorization") => Finding::failed(
            Check::KafkaGroup,
            format!("the consumer group {} may not be used: {error}", config.group_id),
            "give the worker's user the right to read the group, or correct KAFKA_CONSUMER_GROUP_ID",
        ),
        Err(error) => Finding::unknown(
            Check::KafkaGroup,
            format!("the consumer group {} could not be checked: {error}", config.group_id),
            "look at the group's coordinator; it is asked for again",
        ),
    });
    for topic in &cluster.topics {
        if matches!(topic.state, TopicState::Partitions(_)) {
            findings.extend(message_size(topic));
            findings.extend(cleanup_policy(topic));
        }
    }
    findings
}

fn message_size(topic: &Topic) -> Option<Finding> {
    let needed = match topic.role {
        Role::Tickets => TICKET_BYTES,
        Role::Results => RESULT_BYTES,
        Role::DeadLetters => DEAD_LETTER_BYTES,
        Role::Rejected | Role::Alerts => return None,
    };
    let name = &topic.name;
    Some(match number(&topic.options, "max.message.bytes") {
        Ok(bytes) if bytes >= needed => {
            Finding::ok(Check::KafkaMessageSize, format!("Kafka topic {name} takes records of {bytes} bytes"))
        }
        Ok(bytes) => Finding::failed(
            Check::KafkaMessageSize,
            format!("Kafka topic {name} takes records of {bytes} bytes, less than {needed}"),
            format!("set its max.message.bytes to {needed} or more"),
        ),
        Err(why) => not_described(Check::KafkaMessageSize, format!("max.message.bytes of topic {name}"), &why),
    })
}

fn cleanup_policy(topic: &Topic) -> Option<Finding> {
    if !matches!(topic.role, Role::Tickets | Role::DeadLetters) {
        return None;
    }
    let name = &topic.name;
    Some(match text(&topic.options, "cleanup.policy") {
        Ok("delete") => Finding::ok(Check::KafkaCleanupPolicy, format!("Kafka topic {name} is not compacted")),
        Ok(policy) => Finding::failed(
            Check::KafkaCleanupPolicy,
            format!("Kafka topic {name} has cleanup.policy={policy}"),
            "set it to delete: records that share a key are lost otherwise",
        ),
        Err(why) => not_described(Check::KafkaCleanupPolicy, format!("cleanup.policy of topic {name}"), &why),
    })
}

/// Times of the consumer, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConsumerTimes {
    pub(super) session: u64,
    /// How long a rebalance, and a poll, may take.
    pub(super) max_poll_interval: u64,
    /// How long this worker takes to hand partitions over, at most.
    pub(super) hand_over: Duration,
}

/// Whether the group has patience enough, and brokers take the session time-out.
pub(super) fn timeouts(times: ConsumerTimes, broker: &Options) -> Finding {
    let ConsumerTimes { session, max_poll_interval, hand_over } = times;
    let check = Check::KafkaTimeouts;
    if u128::from(max_poll_interval) <= hand_over.as_millis() || session > max_poll_interval {
        return Finding::failed(
            check,
            format!(
                "the consumer may be silent for {max_poll_interval} ms (max.poll.interval.ms), its session time-out is \
                 {session} ms, and handing partitions over takes up to {} ms",
                hand_over.as_millis()
            ),
            format!("lower KAFKA_SESSION_TIMEOUT_MS below {max_poll_interval}"),
        );
    }
    let bounds = number(broker, "group.min.session.timeout.ms")
        .and_then(|least| Ok((least, number(broker, "group.max.session.timeout.ms")?)));
    match bounds {
        Ok((least, most)) if session < least || session > most => Finding::failed(
            check,
            format!("brokers take session time-outs of {least} to {most} ms, and KAFKA_SESSION_TIMEOUT_MS={session}"),
            "set it within these bounds: the group refuses this worker",
        ),
        Ok((least, most)) => Finding::ok(
            check,
            format!(
                "session time-out {session} ms (brokers take {least} to {most}), hand-over up to {} ms of {max_poll_interval}",
                hand_over.as_millis()
            ),
        ),
        Err(why) => not_described(check, "what session time-outs brokers take".to_owned(), &why),
    }
}

fn not_described(check: Check, what: String, why: &str) -> Finding {
    Finding::unknown(
        check,
        format!("{what} could not be checked: {why}"),
        "give the worker's user the right DescribeConfigs, or look with the broker's tools",
    )
}

/// A setting as text; or why it is not known.
pub(super) fn text<'a>(options: &'a Options, name: &str) -> Result<&'a str, String> {
    match options {
        Ok(options) => options.get(name).map(|value| value.trim()).ok_or_else(|| format!("brokers do not tell {name}")),
        Err(why) => Err(why.clone()),
    }
}

/// A setting as a number; or why it is not known.
pub(super) fn number(options: &Options, name: &str) -> Result<u64, String> {
    let text = text(options, name)?;
    text.parse().map_err(|_| format!("{name}={text:?} is no number"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::config::{Config, MapSource};

    pub(in super::super) fn options<const N: usize>(pairs: [(&str, &str); N]) -> Options {
        Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(in super::super) fn topic(role: Role, options: Options) -> Topic {
        let name = match role {
            Role::Tickets => "execution.tickets",
            Role::Results => "execution.results",
            Role::DeadLetters => "execution.tickets.dlq",
            Role::Rejected => "execution.tickets.rejected",
            Role::Alerts => "sre.alerts",
        };
        Topic { role, name: name.to_owned(), state: TopicState::Partitions(12), hyphenated: None, options }
    }

    #[test]
    fn inc_01_a_topic_that_only_exists_with_hyphens_is_told_with_the_fix() {
        let missing = Topic {
            state: TopicState::Missing,
            hyphenated: Some("execution-tickets".to_owned()),
            ..topic(Role::Tickets, Err(String::new()))
        };
        let finding = existence(&missing);
        assert!(finding.fatal && finding.state == State::Failed);
        let sentence = finding.sentence();
        for word in ["\"execution.tickets\"", "\"execution-tickets\"", "spec.topicName", "KAFKA_TICKETS_TOPIC"] {
            assert!(sentence.contains(word), "{word} is missing in {sentence}");
        }
        let gone = existence(&Topic { hyphenated: None, ..missing });
        assert!(gone.fatal && gone.sentence().contains("create it"), "{}", gone.sentence());
    }

    #[test]
    fn a_topic_that_may_not_be_seen_is_not_called_missing() {
        let denied = existence(&Topic { state: TopicState::Denied, ..topic(Role::Results, Err(String::new())) });
        assert!(denied.fatal && denied.sentence().contains("write it"), "{}", denied.sentence());
        let state = TopicState::Unclear("Leader not available".to_owned());
        assert_eq!(existence(&Topic { state, ..topic(Role::Tickets, Err(String::new())) }).state, State::Unknown);
    }

    #[test]
    fn a_missing_topic_of_alerts_is_told_and_ends_nothing() {
        for state in [TopicState::Missing, TopicState::Denied] {
            let finding = existence(&Topic { state, ..topic(Role::Alerts, Err(String::new())) });
            assert!(!finding.fatal && finding.state == State::Failed, "{}", finding.sentence());
            assert!(finding.sentence().contains("DLQ_ALERT_KAFKA_TOPIC"), "{}", finding.sentence());
        }
    }

    #[test]
    fn topics_must_take_what_is_written_to_them_and_must_not_be_compacted() {
        use Role::{DeadLetters, Rejected, Results, Tickets};
        for (role, bytes, policy, expected) in [
            (Tickets, "1048576", "delete", vec![State::Ok, State::Ok]),
            (Tickets, "1048575", "delete", vec![State::Failed, State::Ok]),
            (Tickets, "1048588", "compact,delete", vec![State::Ok, State::Failed]),
            // Kafka's default is enough for results, and not for dead letters.
            (Results, "1048588", "compact", vec![State::Ok]),
            (Results, "100000", "delete", vec![State::Failed]),
            (DeadLetters, "1048588", "delete", vec![State::Failed, State::Ok]),
            (DeadLetters, "2097152", "delete", vec![State::Ok, State::Ok]),
            (Rejected, "1", "compact", vec![]),
            (Tickets, "many", "delete", vec![State::Unknown, State::Ok]),
        ] {
            let topic = topic(role, options([("max.message.bytes", bytes), ("cleanup.policy", policy)]));
            let found: Vec<_> = message_size(&topic).into_iter().chain(cleanup_policy(&topic)).collect();
            let states: Vec<_> = found.iter().map(|finding| finding.state).collect();
            assert_eq!(states, expected, "{role:?} {bytes} {policy}");
            assert!(
                found.iter().all(|finding| finding.fix.is_empty() == (finding.state == State::Ok) && !finding.fatal)
            );
        }
    }

    #[test]
    fn what_brokers_do_not_tell_is_neither_a_pass_nor_a_failure() {
        let config = Config::read(&MapSource::from([])).expect("defaults").kafka;
        let untold = |role| topic(role, Err("Feature not supported".to_owned()));
        let cluster = Cluster {
            topics: vec![untold(Role::Tickets), untold(Role::Results), untold(Role::DeadLetters)],
            broker: Err(String::new()),
            group: Err("Request timed out".to_owned()),
            record_ahead: Ok(false),
        };
        let findings = judge(&config, &cluster);
        let known = findings.iter().filter(|finding| finding.state != State::Unknown).count();
        assert_eq!(known, 3, "only that the topics exist is known: {findings:?}");
        assert!(findings.iter().filter(|finding| finding.state == State::Unknown).all(|one| !one.fix.is_empty()));
        let denied = Cluster { group: Err("Broker: Group authorization failed".to_owned()), ..cluster };
        assert!(judge(&config, &denied).iter().any(|one| one.check == Check::KafkaGroup && one.state == State::Failed));
    }

    #[test]
    fn the_group_must_have_the_patience_for_a_hand_over_and_brokers_must_take_the_session() {
        let broker =
            || options([("group.min.session.timeout.ms", "6000"), ("group.max.session.timeout.ms", "1800000")]);
        let hand_over = Duration::from_secs(8);
        for (session, max_poll_interval, broker, expected) in [
            (30_000, 300_000, broker(), State::Ok),
            (5_999, 300_000, broker(), State::Failed),
            (300_001, 300_000, broker(), State::Failed),
            (1_000, 8_000, broker(), State::Failed),
            (30_000, 300_000, Err("no right".to_owned()), State::Unknown),
            (30_000, 300_000, options([]), State::Unknown),
        ] {
            let finding = timeouts(ConsumerTimes { session, max_poll_interval, hand_over }, &broker);
            assert_eq!(finding.state, expected, "{session} {max_poll_interval}: {}", finding.sentence());
        }
    }
}
