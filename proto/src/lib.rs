//! The gRPC contracts of the platform.
//!
//! **Owns** the `.proto` files and the messages, clients and servers generated from them. The files are written from the
//! contracts (`contracts/service-registry.md §1`, `execution-ticket-service.md §5`): what is on the wire is the platform's, comments are ours.
//! `tests/contract.rs` holds them to it.
//!
//! **Never** opens a connection, reads a clock or decides anything.
//!
//! **Called by** the clients of `worker-agents` and by the stand-ins of its development stack.

/// The Service Registry.
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "the generator writes them")]
pub mod service_registry {
    tonic::include_proto!("neural_hive.service_registry");
}

/// The SPIFFE Workload API, for those who serve it to tests.
#[cfg(feature = "workload-api")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "the generator writes them")]
pub mod workload_api {
    tonic::include_proto!("_");
}

/// The Execution Ticket Service.
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "the generator writes them")]
pub mod ticket_service {
    tonic::include_proto!("ticket_service");
}
