//! Ports, logs and shutdown.

use std::net::IpAddr;
use std::time::Duration;

use super::reader::Reader;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless standard error is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Settings of the process's surface.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `HTTP_BIND`: address of both listeners.
    pub bind: IpAddr,
    /// `HTTP_PORT`: health, readiness, metrics and the API; 0: any free one.
    pub port: u16,
    /// `PROMETHEUS_PORT`: health, readiness and metrics again; 0: any free one.
    pub metrics_port: u16,
    /// `LOG_LEVEL`: a `tracing` filter, such as `INFO` or `info,rdkafka=debug`.
    pub log_level: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `SHUTDOWN_GRACE_SECONDS`: time running work gets when the worker is told to stop.
    pub shutdown_grace: Duration,
    /// `STRICT_STARTUP_CHECKS`: whether a start-up check that is not ok keeps the worker from being ready.
    pub strict_startup_checks: bool,
}

impl HttpConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            bind: reader.parsed(
                "HTTP_BIND",
                IpAddr::from([0, 0, 0, 0]),
                "an IP address",
                "address of both ports; added by this product",
            ),
            port: reader.parsed("HTTP_PORT", 8080, "a port number", "health, readiness, metrics and the API"),
            metrics_port: reader.parsed(
                "PROMETHEUS_PORT",
                9090,
                "a port number",
                "health, readiness and metrics again",
            ),
            log_level: log_level(reader),
            log_format: reader
                .one_of(
                    "LOG_FORMAT",
                    &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)],
                    "auto",
                    "json, text, or auto (text on a terminal); added by this product",
                )
                .unwrap_or(LogFormat::Auto),
            shutdown_grace: reader.seconds(
                "SHUTDOWN_GRACE_SECONDS",
                10.0,
                "time running work gets at shutdown; keep it below the pod's grace period; added by this product",
            ),
            strict_startup_checks: reader.boolean(
                "STRICT_STARTUP_CHECKS",
                false,
                "whether a start-up check that is not ok keeps the worker from being ready; added by this product",
            ),
        }
    }
}

fn log_level(reader: &mut Reader<'_>) -> String {
    let level = reader.text("LOG_LEVEL", "INFO", "log level or filter");
    if let Err(error) = crate::logging::filter(&level) {
        reader.error(format!("{error:#}"));
    }
    level
}
