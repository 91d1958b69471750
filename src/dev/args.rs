//! Arguments of the development commands.

use std::path::PathBuf;

use clap::Args;

use super::stack::Ports;
use crate::config::Source;

/// Arguments of `worker-agents dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Write a JSON object with all addresses once everything is up; free ports are used unless set
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Port of the embedded Kafka [usual: 9092; 0: any free one]
    #[arg(long, value_name = "PORT")]
    pub kafka_port: Option<u16>,
    /// Port of the embedded Schema Registry [usual: 8081]
    #[arg(long, value_name = "PORT")]
    pub registry_port: Option<u16>,
    /// Port of the Temporal dev server [usual: 7233]
    #[arg(long, value_name = "PORT")]
    pub temporal_port: Option<u16>,
    /// Port of the Temporal UI [usual: 8233]
    #[arg(long, value_name = "PORT")]
    pub ui_port: Option<u16>,
    /// Port of the worker's HTTP API [usual: HTTP_PORT or 8080]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Port of the worker's metrics [usual: PROMETHEUS_PORT or 9090]
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
}

impl DevArgs {
    /// The ports: those given; else any free ones with a ready file; else the usual ones.
    pub(super) fn ports(&self, source: &dyn Source) -> Ports {
        let set = |name: &str| source.get(name).and_then(|(text, _)| text.trim().parse().ok());
        let port = |given: Option<u16>, setting: Option<u16>, usual: u16| {
            given.or(setting).unwrap_or(if self.ready_file.is_some() { 0 } else { usual })
        };
        Ports {
            kafka: port(self.kafka_port, None, 9092),
            registry: port(self.registry_port, None, 8081),
            temporal: port(self.temporal_port, None, 7233),
            ui: port(self.ui_port, None, 8233),
            http: port(self.http_port, set("HTTP_PORT"), 8080),
            metrics: port(self.metrics_port, set("PROMETHEUS_PORT"), 9090),
        }
    }
}

/// Arguments of `worker-agents demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the stack running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}
