//! Log lines: JSON in production, readable on a terminal, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Installs the process-wide subscriber; a second call is ignored.
///
/// # Errors
/// When `level` is no filter.
pub fn install(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = filter(level)?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if installed.is_err() {
        tracing::debug!("a log subscriber is installed already");
    }
    Ok(())
}

/// What is logged at `level`. The words of SDKs about their own life are for those who look for them, and the spans of Temporal's
/// cost more than our own lines; directives of the setting that name a target come later and win. AWS's (whose crates all begin so)
/// logs whole requests at `trace`, with what they carry, so a bare `trace` does not reach it (INC-95).
///
/// # Errors
/// When `level` is no filter.
pub fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let directives = format!("temporalio_sdk_core=warn,temporalio_client=warn,aws=warn,{}", level.to_ascii_lowercase());
    EnvFilter::try_new(directives).map_err(|error| {
        anyhow::anyhow!("LOG_LEVEL={level:?} is no log level or filter ({error}); try INFO or info,rdkafka=debug")
    })
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{Level, enabled};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Where they are logged.
    const REQUESTS: &str = "aws_smithy_runtime::client::orchestrator";

    #[test]
    fn inc_95_the_requests_of_awss_sdk_are_logged_at_no_bare_level() {
        for (level, sdk, own) in
            [("trace", false, true), ("TRACE", false, true), ("info,aws_smithy_runtime=trace", true, false)]
        {
            let subscriber = tracing_subscriber::registry().with(filter(level).expect("a filter"));
            with_default(subscriber, || {
                assert_eq!(enabled!(target: REQUESTS, Level::TRACE), sdk, "{level}");
                assert_eq!(enabled!(target: "worker_agents::lambda", Level::TRACE), own, "{level}");
            });
        }
    }
}
