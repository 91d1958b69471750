//! Client of AWS Lambda (`contracts/executors.md`, EXECUTE, Lambda): the invocations that activities ask for.
//!
//! AWS's SDK signs requests and finds credentials; the HTTP client is this worker's own (`connector.rs`), and the SDK repeats
//! nothing: an invocation is made once, and what its fault means is decided by the protocol of external work
//! (`docs/adr/0032-aws-lambda.md`).

mod answer;
mod connector;
mod credentials;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{BehaviorVersion, IdentityCache, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType as SdkInvocationType, LogType};
use futures::future::BoxFuture;
use opentelemetry::trace::SpanKind;
use ticket_activities::execute::lambda::{Invocation, InvocationType, Lambda, Reply, Usage};
use ticket_activities::external::Fault;
use ticket_activities::{border, trace};
use tokio::sync::OnceCell;

use self::answer::Asked;
use self::credentials::Keys;
use crate::config::LambdaRuntimeConfig;
use crate::metrics::Metrics;
use crate::spans::{Span, Spans};

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
        answer::of(answer, Asked { function, named_by_ticket: false, region }).map(|_| ())
    }

    async fn sdk(&self) -> &Client {
        self.sdk.get_or_init(|| Box::pin(self.make())).await
    }

    async fn make(&self) -> Client {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.config.region.clone()))
            .http_client(self.http.clone());
        if let Some(keys) = &self.config.keys {
            loader = loader.credentials_provider(Keys::new(keys.clone()));
        }
        let mut config = aws_sdk_lambda::config::Builder::from(&loader.load().await)
            .retry_config(RetryConfig::disabled())
            // The attempt's time is the protocol's, and a function that works says nothing meanwhile.
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if self.config.keys.is_some() {
            // Files and Vault may hold others by now.
            config = config.identity_cache(IdentityCache::no_cache());
        }
        if let Some(url) = &self.config.endpoint {
            config = config.endpoint_url(url);
        }
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
        let asked = Asked { function, named_by_ticket: *named_by_ticket, region: &self.config.region };
        answer::of(answer, asked)
    }
}

impl Lambda for LambdaClient {
    fn invoke<'a>(&'a self, invocation: &'a Invocation) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let (parent, began) = (trace::current(), SystemTime::now());
            let context = self.spans.begin(&parent);
            let answer = self.make_call(invocation).await;
            let mut span = Span::new("lambda.invoke", &context, &parent, began)
                .kind(SpanKind::Client)
                .with("lambda.function_name", invocation.function.as_str().to_owned())
                .with("lambda.invocation_type", invocation.invocation_type.as_str());
            if let Ok(reply) = &answer {
                if let Some(ms) = Usage::of(&reply.tail).billed_ms {
                    self.metrics.execute.lambda_billed_duration.observe(Duration::from_millis(ms).as_secs_f64());
                }
                span = span
                    .with("lambda.request_id", reply.request_id.clone())
                    .with("lambda.status_code", i64::from(reply.status))
                    .with("lambda.function_error", reply.function_error.clone().unwrap_or_default());
            }
            self.spans.end(span.failed(answer.as_ref().err().map(error_type)));
            answer
        })
    }
}

/// What spans say of a call that failed.
fn error_type(fault: &Fault) -> &'static str {
    match fault {
        Fault::Unavailable { .. } | Fault::Deferred { .. } => "unavailable",
        Fault::Errored { .. } | Fault::Lost { .. } => "lost",
        Fault::Malformed { .. } => "malformed",
        _ => "refused",
    }
}
