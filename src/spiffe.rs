//! This worker's identity by the public SPIFFE standard (INC-31): X.509- and JWT-SVIDs and trust bundles as a Workload API
//! delivers them, followed for as long as the worker runs.
//!
//! Nothing waits for the agent. It may be away at the start or later: what it has delivered counts until it expires, and is
//! asked for again meanwhile ([ADR 0020](../../docs/adr/0020-spiffe.md)). No key and no token is ever logged.

mod certificate;
mod error;
mod identity;
mod jwt;
mod recorder;
mod tokens;
mod x509;

pub(crate) use certificate::spiffe_id;
pub use error::IdentityError;
pub(crate) use identity::SETTLING;
pub use identity::{Standing, WorkloadIdentity};
