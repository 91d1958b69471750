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

/// What is logged at `level`. The SDK's words about its own life are for those who look for them, and its spans cost
/// more than our own lines; directives of the setting come later and win.
///
/// # Errors
/// When `level` is no filter.
pub fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let directives = format!("temporalio_sdk_core=warn,temporalio_client=warn,{}", level.to_ascii_lowercase());
    EnvFilter::try_new(directives).map_err(|error| {
        anyhow::anyhow!("LOG_LEVEL={level:?} is no log level or filter ({error}); try INFO or info,rdkafka=debug")
    })
}
