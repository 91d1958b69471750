//! Refusals of brokers, made visible. A wrong password or authority shows in a client's error callback and nowhere else:
//! a delivery report only says that it timed out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::events::KafkaRefused;
use crate::health::Health;
use crate::metrics::Metrics;

/// The readiness check that a refusal takes away. It does not exist before the first one.
pub const ACCESS_CHECK: &str = "kafka_access";
/// One error of librdkafka arrives twice from a producer, within microseconds.
const ECHO: Duration = Duration::from_secs(1);
/// A refusal that has not been repeated for so long is over. librdkafka tries again every 2 s and reports the same error
/// of one broker at most every 30 s.
const MEMORY: Duration = Duration::from_secs(40);

/// The refusals that stand, by client. Clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

/// By client.
type Standing = BTreeMap<&'static str, Refusal>;

struct Refusal {
    since: Instant,
    fault: &'static str,
    text: String,
}

#[derive(Default)]
struct Inner {
    standing: Mutex<Standing>,
    /// What each client said last.
    said: Mutex<BTreeMap<&'static str, (Instant, String)>>,
    /// Of a worker; commands have neither.
    surface: Option<(Arc<Metrics>, Health)>,
}

impl Faults {
    /// Refusals that are counted and take readiness away.
    pub(super) fn of_worker(metrics: Arc<Metrics>, health: Health) -> Self {
        Self(Arc::new(Inner { surface: Some((metrics, health)), ..Inner::default() }))
    }

    /// Notes what a client's error callback said, when it is a refusal.
    pub(super) fn report(&self, client: &'static str, code: Option<RDKafkaErrorCode>, reason: &str) {
        let Some((fault, advice)) = code.and_then(|code| meaning(code, reason)) else { return };
        let text = format!("Kafka refused the {client} ({reason}); check {advice}");
        // Held until readiness is told, so that it is not told in another order.
        let mut standing = self.standing();
        standing.insert(client, Refusal { since: Instant::now(), fault, text: text.clone() });
        if let Some((metrics, health)) = &self.0.surface {
            metrics.emit(KafkaRefused { client, fault, error: &text });
            health.not_ready(ACCESS_CHECK, text);
        }
    }

    /// Whether this is not what the client has said just before.
    pub(super) fn is_news(&self, client: &'static str, reason: &str) -> bool {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = said.insert(client, (now, reason.to_owned()));
        before.is_none_or(|(when, before)| before != reason || now.saturating_duration_since(when) > ECHO)
    }

    /// What a client has said last.
    pub(super) fn last_said(&self, client: &'static str) -> Option<String> {
        let said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(client).map(|(_, reason)| reason.clone())
    }

    /// A broker has served this client: it is let in.
    pub(crate) fn served(&self, client: &'static str) {
        self.settle(|name, _| name == client);
    }

    /// What stands, in a line.
    pub(super) fn standing_text(&self) -> Option<String> {
        self.standing().values().map(|refusal| refusal.text.clone()).reduce(|all, text| format!("{all}; {text}"))
    }

    /// Ends refusals that were not repeated. A missing right is said once only, so it stands until the client is served.
    pub(super) fn forget_old(&self, now: Instant) {
        self.settle(|_, refusal| {
            refusal.fault != AUTHORIZATION && now.saturating_duration_since(refusal.since) > MEMORY
        });
    }

    fn settle(&self, over: impl Fn(&str, &Refusal) -> bool) {
        let mut standing = self.standing();
        let before = standing.len();
        standing.retain(|client, refusal| !over(client, refusal));
        let Some((_, health)) = self.0.surface.as_ref().filter(|_| standing.len() < before) else { return };
        match standing.values().next() {
            Some(refusal) => health.not_ready(ACCESS_CHECK, refusal.text.clone()),
            None => health.ready_again(ACCESS_CHECK),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A right that is missing.
const AUTHORIZATION: &str = "kafka_authorization";
/// A TLS connection that was refused for what this client shows or accepts.
const CERTIFICATES: (&str, &str) = (
    "kafka_tls",
    "KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION, KAFKA_SSL_CA_LOCATION and KAFKA_SECURITY_PROTOCOL",
);

/// The kind of a refusal, and the settings to look at.
fn meaning(code: RDKafkaErrorCode, reason: &str) -> Option<(&'static str, &'static str)> {
    use RDKafkaErrorCode as Code;
    match code {
        // Before the next one: librdkafka gives a token that cannot be had this code.
        Code::Authentication if reason.contains("OAUTHBEARER") => {
            Some(("kafka_authentication", "the KAFKA_SASL_OAUTHBEARER_* settings and whatever issues the tokens"))
        }
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Some((
            "kafka_authentication",
            "KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (or their _FILE), or the KAFKA_SASL_OAUTHBEARER_* settings",
        )),
        Code::SSL if reason.contains("ssl.ca.location") || reason.contains("certificate verify") => {
            Some(("kafka_tls", "KAFKA_SSL_CA_LOCATION: the broker's certificate is of another authority"))
        }
        // With TLS 1.3 a broker refuses a client's certificate after the handshake, when it already counts as transport.
        Code::SSL => Some(CERTIFICATES),
        Code::BrokerTransportFailure if reason.contains("SSL routines") && reason.contains("alert") => {
            Some(CERTIFICATES)
        }
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Some((AUTHORIZATION, "the rights of this user on the topics and on KAFKA_CONSUMER_GROUP_ID"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> (Faults, Arc<Metrics>, Health) {
        let (metrics, health) = (Arc::new(Metrics::new().expect("metrics")), Health::default());
        health.ready("other");
        (Faults::of_worker(Arc::clone(&metrics), health.clone()), metrics, health)
    }

    #[test]
    fn a_refusal_names_the_setting_is_counted_and_takes_readiness_away() {
        for (code, reason, setting, fault) in [
            (
                RDKafkaErrorCode::Authentication,
                "SASL authentication error",
                "KAFKA_SASL_PASSWORD",
                "kafka_authentication",
            ),
            (
                RDKafkaErrorCode::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: expired",
                "KAFKA_SASL_OAUTHBEARER_",
                "kafka_authentication",
            ),
            (
                RDKafkaErrorCode::SSL,
                "broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
                "KAFKA_SSL_CA_LOCATION",
                "kafka_tls",
            ),
            (RDKafkaErrorCode::SSL, "tlsv13 alert certificate required", "KAFKA_SSL_CERTIFICATE_LOCATION", "kafka_tls"),
            (
                RDKafkaErrorCode::BrokerTransportFailure,
                "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42",
                "KAFKA_SSL_CERTIFICATE_LOCATION",
                "kafka_tls",
            ),
            (RDKafkaErrorCode::GroupAuthorizationFailed, "group", "KAFKA_CONSUMER_GROUP_ID", "kafka_authorization"),
        ] {
            let (faults, metrics, health) = worker();
            faults.report("consumer", Some(code), reason);
            let (ready, checks) = health.readiness();
            let detail = checks[ACCESS_CHECK].detail.clone().expect("a reason");
            assert!(!ready && detail.contains(setting) && detail.contains(reason), "{detail}");
            assert_eq!(metrics.setup_faults.with_label_values(&[fault]).get(), 1);
        }
    }

    #[test]
    fn an_outage_is_no_refusal() {
        let (faults, _, health) = worker();
        faults.report("consumer", Some(RDKafkaErrorCode::BrokerTransportFailure), "connection refused");
        faults.report("consumer", Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        faults.report("consumer", None, "unknown");
        assert!(health.readiness().0 && faults.standing_text().is_none());
    }

    #[test]
    fn a_refusal_ends_when_the_client_is_served_or_it_is_not_repeated() {
        let (faults, _, health) = worker();
        faults.report("consumer", Some(RDKafkaErrorCode::Authentication), "no");
        faults.report("producer", Some(RDKafkaErrorCode::Authentication), "no");
        faults.served("consumer");
        assert!(!health.readiness().0, "the producer is still refused");
        faults.served("producer");
        assert!(health.readiness().0);
        faults.report("consumer", Some(RDKafkaErrorCode::Authentication), "no");
        faults.forget_old(Instant::now() + Duration::from_secs(30));
        assert!(!health.readiness().0, "librdkafka may be silent for so long");
        faults.forget_old(Instant::now() + Duration::from_secs(41));
        assert!(health.readiness().0);
        faults.report("consumer", Some(RDKafkaErrorCode::TopicAuthorizationFailed), "no");
        faults.forget_old(Instant::now() + Duration::from_secs(3600));
        assert!(!health.readiness().0, "a missing right is said once");
        faults.served("consumer");
        assert!(health.readiness().0);
    }
}
