//! Whether Temporal remembers a ticket for as long as Kafka may still deliver its record. Without I/O.

use std::time::Duration;

use super::cluster::{Options, Topic};
use super::finding::{Check, Finding};
use super::topics::{number, text};
use crate::bridge::decision::remembered;

/// Between two looks of a broker for what it may delete (`log.retention.check.interval.ms`), where it does not tell: its
/// default.
const CHECK_INTERVAL_MS: u64 = 300_000;

/// The oldest record that a consumer may still get, in milliseconds; `None`: records are kept for ever.
///
/// A segment goes when its newest record is older than `retention.ms`, at the broker's next look. Its oldest record may
/// have been there for `segment.ms` by then.
fn oldest_record(topic: &Options, broker: &Options) -> Result<Option<u64>, String> {
    // -1 is no number of ours: for ever.
    if text(topic, "retention.ms")?.starts_with('-') {
        return Ok(None);
    }
    let (kept, segment) = (number(topic, "retention.ms")?, number(topic, "segment.ms")?);
    let interval = number(broker, "log.retention.check.interval.ms").unwrap_or(CHECK_INTERVAL_MS);
    Ok(Some(kept.saturating_add(segment).saturating_add(interval)))
}

/// Compares the namespace's retention with the tickets topic's.
pub(super) fn judge(
    topic: Option<&Topic>,
    broker: &Options,
    namespace: &str,
    retention: Result<Option<Duration>, String>,
) -> Finding {
    let check = Check::Retention;
    let unknown = |why: &str| {
        Finding::unknown(
            check,
            format!("the retention of namespace {namespace:?} could not be compared with the tickets topic's: {why}"),
            "keep it longer than retention.ms + segment.ms of the topic, by an hour at least",
        )
    };
    let retention = match retention {
        Ok(Some(retention)) => retention,
        Ok(None) => return unknown("Temporal does not tell it"),
        Err(why) => return unknown(&why),
    };
    let Some(topic) = topic else { return unknown("Kafka did not answer") };
    let name = &topic.name;
    let update = |to: Duration| {
        // In whole hours, as the command takes it.
        let hours = to.as_secs().div_ceil(3600);
        format!("temporal operator namespace update --namespace {namespace} --retention {hours}h")
    };
    match oldest_record(&topic.options, broker) {
        Err(why) => unknown(&why),
        Ok(None) => Finding::failed(
            check,
            format!(
                "Kafka topic {name} keeps records for ever, and Temporal remembers tickets for {}",
                spell(retention)
            ),
            format!("give {name} a retention.ms below the namespace's retention"),
        ),
        Ok(Some(oldest)) => {
            let oldest = Duration::from_millis(oldest);
            let facts = format!(
                "Temporal remembers tickets for {}, and Kafka topic {name} may deliver records of {}",
                spell(retention),
                spell(oldest)
            );
            if remembered(retention) >= oldest {
                return Finding::ok(check, facts);
            }
            let needed = needed(oldest);
            Finding::failed(check, facts, format!("`{}`, or lower the topic's retention.ms", update(needed)))
        }
    }
}

/// The shortest retention that covers records of this age, with the margin of [`remembered`].
fn needed(oldest: Duration) -> Duration {
    let hour = Duration::from_secs(3600);
    if remembered(oldest + hour) >= oldest {
        oldest + hour
    } else {
        oldest.mul_f64(10.0 / 9.0) + Duration::from_secs(1)
    }
}

fn spell(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 1440, minutes % 1440 / 60, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, 0) => format!("{days} d"),
        (days, hours, 0) => format!("{days} d {hours} h"),
        (days, hours, minutes) => format!("{days} d {hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Role;
    use super::super::finding::State;
    use super::super::topics::tests::{options, topic};
    use super::*;

    const HOUR: u64 = 3600;

    fn judged(retention_ms: &str, segment_ms: &str, namespace_hours: u64) -> Finding {
        let topic = topic(Role::Tickets, options([("retention.ms", retention_ms), ("segment.ms", segment_ms)]));
        let broker = options([("log.retention.check.interval.ms", "300000")]);
        judge(Some(&topic), &broker, "default", Ok(Some(Duration::from_secs(namespace_hours * HOUR))))
    }

    #[test]
    fn the_namespace_must_remember_what_the_topic_may_still_deliver() {
        // The platform's topic: 7 days, segments of an hour, a look every 5 minutes; the margin is an hour.
        for (retention_ms, segment_ms, namespace_hours, expected) in [
            ("604800000", "3600000", 171, State::Ok),
            ("604800000", "3600000", 170, State::Failed),
            ("604800000", "3600000", 168, State::Failed),
            ("604800000", "604800000", 171, State::Failed),
            ("604800000", "604800000", 338, State::Ok),
            ("3600000", "60000", 2, State::Ok),
            ("-1", "3600000", 100_000, State::Failed),
            ("many", "3600000", 171, State::Unknown),
        ] {
            let finding = judged(retention_ms, segment_ms, namespace_hours);
            assert_eq!(
                finding.state,
                expected,
                "{retention_ms} {segment_ms} {namespace_hours}: {}",
                finding.sentence()
            );
        }
    }

    #[test]
    fn the_fix_is_a_command_that_ends_the_finding() {
        for (retention_ms, segment_ms) in [("604800000", "3600000"), ("604800000", "604800000"), ("60000", "60000")] {
            let finding = judged(retention_ms, segment_ms, 0);
            assert_eq!(finding.state, State::Failed);
            let hours = finding.fix.split("--retention ").nth(1).and_then(|rest| rest.split('h').next());
            let hours: u64 = hours.expect("a number of hours").parse().expect("a number");
            assert_eq!(judged(retention_ms, segment_ms, hours).state, State::Ok, "{}", finding.fix);
        }
    }

    #[test]
    fn what_one_side_does_not_tell_is_unknown() {
        let known = topic(Role::Tickets, options([("retention.ms", "1"), ("segment.ms", "1")]));
        let untold = topic(Role::Tickets, Err("Feature not supported".to_owned()));
        let day = || Ok(Some(Duration::from_secs(24 * HOUR)));
        let broker = Err("no right".to_owned());
        for (topic, retention) in
            [(Some(&known), Ok(None)), (Some(&known), Err("away".to_owned())), (Some(&untold), day()), (None, day())]
        {
            let finding = judge(topic, &broker, "default", retention);
            assert_eq!(finding.state, State::Unknown, "{}", finding.sentence());
        }
        // A broker that does not tell its interval has the default.
        assert_eq!(judge(Some(&known), &broker, "default", day()).state, State::Ok);
    }

    #[test]
    fn durations_are_spelled_for_people() {
        for (seconds, text) in
            [(59, "0 min"), (300, "5 min"), (7200, "2 h"), (5400, "1 h 30 min"), (608_700, "7 d 1 h 5 min")]
        {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
    }
}
