//! The Service Registry over gRPC (`contracts/service-registry.md`): this worker is registered there for as long as it
//! runs, so that the orchestrator finds it, and others can be looked up.
//!
//! Nothing waits for the registry. It may be away at the start or later; tickets run meanwhile, and the worker registers
//! when it is back ([ADR 0018](../../docs/adr/0018-service-registry.md)).

mod agent;
mod bearer;
mod channel;
mod client;
mod known;
mod registrar;
mod registration;
mod telemetry;
#[cfg(all(test, feature = "dev-stack"))]
mod tests;

pub use client::{ServiceRegistryClient, ServiceRegistryError};
pub use known::KnownAs;
pub use registrar::Registrar;
pub use telemetry::Executions;
