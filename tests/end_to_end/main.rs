//! The worker as a process, against an in-process Kafka, an in-process registry and a real Temporal dev server.
//!
//! Each test has a Kafka, a registry, a task queue and ticket ids of its own; they share one Temporal server. What
//! happened is read from the topics and from the server's histories, not asked of the worker.
#![cfg(feature = "dev-stack")]

mod backpressure;
mod bad_input;
mod code_forge;
#[expect(dead_code, reason = "what other tests use")]
#[path = "../support/code_forge.rs"]
mod code_forge_stand_in;
mod compensation;
mod cost;
mod dependencies;
mod dlq;
mod explain;
mod http_api;
mod kills;
mod local_load;
mod logs;
mod memory;
mod outages;
mod peers;
mod priority;
mod races;
mod raw_produce;
mod rejections;
mod results;
mod runtimes;
mod scale;
mod secrets;
mod service_registry;
mod shutdown;
mod spiffe;
mod start_protocol;
mod startup;
mod surface;
mod ticket_service;
mod tracing;
mod undoing;
mod verbs;
mod versions;
#[expect(dead_code, reason = "what the tests beside the code use")]
#[path = "../support/workload_api.rs"]
mod workload_api;
mod world;
