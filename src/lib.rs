//! The deployable: command line, configuration, bridge, platform clients, HTTP, telemetry.
//!
//! Owns the process. Never decides what a ticket does (`ticket-workflows`) and never does a ticket's work
//! (`ticket-activities`); it implements their ports and wires them together. `main.rs` is its only caller, tests and
//! benches aside.

pub mod bridge;
pub mod cli;
pub mod code_forge;
pub mod compensation;
pub mod config;
pub mod dead_letters;
#[cfg(feature = "dev-stack")]
pub mod dev;
pub mod events;
pub mod explain;
pub mod external;
pub mod health;
pub mod http;
pub mod kafka;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod logging;
pub mod logs;
pub mod metrics;
pub mod net;
pub mod orders;
pub mod registry;
pub mod rejections;
pub mod results;
pub mod sdk_metrics;
pub mod service_registry;
pub mod spans;
pub mod spiffe;
pub mod startup;
mod task;
pub mod temporal;
#[cfg(test)]
mod test_authority;
#[cfg(test)]
#[path = "../tests/support/collector.rs"]
mod test_collector;
#[cfg(test)]
mod test_peer;
#[cfg(all(test, feature = "dev-stack"))]
#[path = "../tests/support/workload_api.rs"]
mod test_workload_api;
pub mod ticket_service;
pub mod vault;
pub mod worker;
