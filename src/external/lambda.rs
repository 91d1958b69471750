//! The Lambda runtime, made of settings, and the check of its function.

use std::sync::Arc;
use std::time::Duration;

use ticket_activities::ExecutorRegistry;
use ticket_activities::execute::lambda::{LambdaConfig, LambdaRuntime};
use ticket_activities::external::{External, Fault, Provider as _};
use ticket_schemas::TaskType;

use super::ExternalRuntimes;
use crate::config::LambdaRuntimeConfig;
use crate::lambda::LambdaClient;
use crate::metrics::Metrics;
use crate::spans::Spans;
use crate::startup::{Check, Finding};
use crate::worker::OUTPUT_LIMIT;

/// How long an answer is waited for before an invocation counts as running: longer than it takes to find that nobody can be connected
/// to, and what Lambda refuses it refuses in less than a second.
const SOON: Duration = Duration::from_secs(5);
/// How long a check waits: for credentials, too.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing is left behind that somebody could remove: Lambda has no call for it.
pub(super) fn add_to(
    registry: ExecutorRegistry,
    runtimes: &ExternalRuntimes,
    settings: &LambdaRuntimeConfig,
    metrics: &Arc<Metrics>,
    spans: &Spans,
) -> anyhow::Result<ExecutorRegistry> {
    let client = LambdaClient::new(settings, Arc::clone(metrics), spans.clone())?;
    let config = LambdaConfig {
        function: settings.function.clone(),
        allowed: settings.allowed.clone(),
        region: settings.region.clone(),
        timeout: settings.timeout,
        soon: SOON,
        output_limit: OUTPUT_LIMIT,
    };
    let external = External::new(Arc::new(LambdaRuntime::new(Arc::new(client), config)))
        .at(runtimes.endpoint(LambdaRuntime::NAME));
    Ok(registry.register(TaskType::Execute, LambdaRuntime::NAME, external))
}

/// Asks Lambda whether this worker may invoke the settings' function. `None`: there is no Lambda runtime.
pub(crate) async fn look(settings: Option<&LambdaRuntimeConfig>) -> Finding {
    let Some(settings) = settings else { return Finding::ok(Check::Lambda, "the Lambda runtime is off") };
    let answer = tokio::time::timeout(CHECK_TIMEOUT, ask(settings)).await;
    judge(settings, answer.unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))))
}

async fn ask(settings: &LambdaRuntimeConfig) -> Result<(), String> {
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let client =
        LambdaClient::new(settings, Arc::new(metrics), Spans::default()).map_err(|error| format!("{error:#}"))?;
    client.check().await.map_err(|fault: Fault| fault.to_string())
}

fn judge(settings: &LambdaRuntimeConfig, answer: Result<(), String>) -> Finding {
    let place = settings.endpoint.as_deref().map_or_else(
        || format!("function {} in region {}", settings.function, settings.region),
        |url| format!("function {} in region {} at {url}", settings.function, settings.region),
    );
    match answer {
        Ok(()) => Finding::ok(Check::Lambda, format!("this worker may invoke {place}")),
        Err(error) => Finding::failed(
            Check::Lambda,
            format!("{place} cannot be invoked: {error}"),
            "check LAMBDA_*, and that the worker's identity of AWS has lambda:InvokeFunction for it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MapSource};
    use crate::startup::State;

    fn settings() -> LambdaRuntimeConfig {
        let source = MapSource::from([("LAMBDA_ENABLED", "true"), ("LAMBDA_ENDPOINT_URL", "http://lambda:4566")]);
        Config::read(&source).expect("settings").lambda.expect("on")
    }

    #[tokio::test]
    async fn what_is_off_is_not_asked() {
        assert_eq!(look(None).await.state, State::Ok);
    }

    #[test]
    fn only_a_function_that_may_be_invoked_is_ok_and_anything_else_says_what_to_check() {
        let good = judge(&settings(), Ok(()));
        assert_eq!(good.state, State::Ok);
        let place = "function neural-hive-executor in region us-east-1 at http://lambda:4566";
        assert_eq!(good.what, format!("this worker may invoke {place}"));
        let bad = judge(&settings(), Err("Lambda answered 403: AccessDeniedException".to_owned()));
        assert_eq!(bad.state, State::Failed);
        assert!(bad.what.contains("403") && bad.fix.contains("lambda:InvokeFunction"), "{bad:?}");
    }
}
