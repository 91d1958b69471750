//! The callbacks that every client has: errors that say something, tokens for OAUTHBEARER.

use std::error::Error;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::faults::Faults;
use super::{token, token_endpoint};
use crate::config::TokenSource;

/// A consumer that is in no group: metadata, watermarks, single partitions.
pub type Reader = BaseConsumer<Context>;
/// The same, as a stream.
pub type StreamReader = StreamConsumer<Context>;

/// Context of a client.
#[derive(Clone)]
pub struct Context {
    pub(super) client: &'static str,
    pub(super) tokens: Option<TokenSource>,
    pub(super) faults: Faults,
}

impl Context {
    /// Notes an error, for contexts that wrap this one and report errors themselves.
    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        self.faults.report(self.client, error.rdkafka_error_code(), reason);
    }

    /// A broker has served the client.
    pub(crate) fn served(&self) {
        self.faults.served(self.client);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        // The one only sums up what was said before it.
        let sums_up = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if sums_up || !self.faults.is_news(self.client, reason) {
            return;
        }
        tracing::warn!(client = self.client, %error, reason, "kafka_client_error");
        self.note(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let now_ms = ticket_activities::now_ms();
        Ok(match self.tokens.as_ref().ok_or("KAFKA_SASL_MECHANISM is not OAUTHBEARER")? {
            TokenSource::File(file) => token::read(file, now_ms)?,
            TokenSource::Endpoint(endpoint) => token_endpoint::ask(endpoint, now_ms)?,
        })
    }
}

impl ConsumerContext for Context {}
