//! Client of AWS Lambda (`contracts/executors.md`, EXECUTE, Lambda): the invocations that activities ask for.
//!
//! AWS's SDK signs requests and finds credentials; the HTTP client is this worker's own (`connector.rs`), and the SDK repeats
//! nothing: an invocation is made once, and what its fault means is decided by the protocol of external work
//! (`docs/adr/0032-aws-lambda.md`).

mod answer;
mod call;
mod connector;
mod credentials;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{BehaviorVersion, IdentityCache, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType as SdkInvocationType, LogType};
use futures::future::BoxFuture;
use ticket_activities::border;
use ticket_activities::execute::lambda::{Invocation, InvocationType, Lambda, Reply, Usage};
use ticket_activities::external::Fault;
use tokio::sync::OnceCell;

use self::answer::Asked;
use self::call::Call;
use self::credentials::Keys;
use crate::config::LambdaRuntimeConfig;
use crate::metrics::Metrics;
use crate::spans::Spans;

/// By which Lambda says that a function may be invoked (AWS, `Invoke`, `DryRun`).
const MAY_BE_INVOKED: u16 = 204;

/// The client.
pub struct LambdaClient {
    config: LambdaRuntimeConfig,
    http: SharedHttpClient,
    /// Made with the first call: AWS's default chain reads files then.
    sdk: OnceCell<Client>,
    metrics: Arc<Metrics>,
    spans: Spans,
}

impl LambdaClient {
    /// The client that the settings ask for. Looks for credentials and connects with the first call.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(config: &LambdaRuntimeConfig, metrics: Arc<Metrics>, spans: Spans) -> anyhow::Result<Self> {
        let http = connector::http_client(&config.peer).context("the client of AWS Lambda cannot be made")?;
        Ok(Self { config: config.clone(), http, sdk: OnceCell::new(), metrics, spans })
    }

    /// Asks whether the settings' function is there and may be invoked by this worker, without invoking it.
    ///
    /// # Errors
    /// As [`Lambda::invoke`].
    pub async fn check(&self) -> Result<(), Fault> {
        let LambdaRuntimeConfig { function, region, .. } = &self.config;
        let operation = self.sdk().await.invoke().function_name(function.as_str());
        let operation = operation.invocation_type(SdkInvocationType::DryRun);
        let answer = border("lambda.check", operation.send()).await;
        let asked = Asked { function, named_by_ticket: false, region, status: MAY_BE_INVOKED };
        answer::of(answer, asked).map(|_| ())
    }

    async fn sdk(&self) -> &Client {
        self.sdk.get_or_init(|| Box::pin(async { self.client(&self.load().await) })).await
    }

    /// What AWS's own variables and files say, and the settings beside them.
    async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.config.region.clone()))
            .http_client(self.http.clone());
        if let Some(keys) = &self.config.keys {
            loader = loader.credentials_provider(Keys::new(keys.clone()));
        }
        loader.load().await
    }

    fn client(&self, loaded: &SdkConfig) -> Client {
        let mut config = aws_sdk_lambda::config::Builder::from(loaded)
            .retry_config(RetryConfig::disabled())
            // The attempt's time is the protocol's, and a function that works says nothing meanwhile.
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if self.config.keys.is_some() {
            // Files and Vault may hold others by now.
            config = config.identity_cache(IdentityCache::no_cache());
        }
        // Never another's: AWS's own variables and profiles may name one, which nobody would see.
        config.set_endpoint_url(self.config.endpoint.clone());
        Client::from_conf(config.build())
    }

    async fn make_call(&self, invocation: &Invocation) -> Result<Reply, Fault> {
        let (kind, log) = match invocation.invocation_type {
            InvocationType::RequestResponse => (SdkInvocationType::RequestResponse, Some(LogType::Tail)),
            // Lambda gives no log of what has not run.
            InvocationType::Event => (SdkInvocationType::Event, None),
        };
        let Invocation { function, named_by_ticket, payload, .. } = invocation;
        let operation = self.sdk().await.invoke().function_name(function.as_str());
        let operation = operation.invocation_type(kind).set_log_type(log).payload(Blob::new(payload.clone()));
        let answer = border("lambda.invoke", operation.send()).await;
        let (region, status) = (self.config.region.as_str(), invocation.invocation_type.status());
        answer::of(answer, Asked { function, named_by_ticket: *named_by_ticket, region, status })
    }
}

impl Lambda for LambdaClient {
    fn invoke<'a>(&'a self, invocation: &'a Invocation) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let call = Call::begin(&self.spans, invocation);
            let answer = self.make_call(invocation).await;
            if let Some(ms) = answer.as_ref().ok().and_then(|reply| Usage::of(&reply.tail).billed_ms) {
                self.metrics.execute.lambda_billed_duration.observe(Duration::from_millis(ms).as_secs_f64());
            }
            call.end(&answer);
            answer
        })
    }
}
