//! Why there is no identity to use.

/// Why this worker cannot prove who it is, or find out who somebody else is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The Workload API has not delivered it since the start.
    #[error(
        "no {what} has come from the SPIFFE Workload API at {endpoint}; check that its agent runs, SPIFFE_SOCKET_PATH, and this worker's registration entry"
    )]
    NotYet {
        /// What is missing.
        what: &'static str,
        /// The Workload API.
        endpoint: String,
    },
    /// What it has delivered does not count any more.
    #[error("the {what} is of no use any more ({reason}); check the SPIFFE agent and this worker's registration entry")]
    Gone {
        /// What was delivered.
        what: &'static str,
        /// Expired, or withdrawn.
        reason: String,
    },
    /// It issues no JWT-SVID.
    #[error("no JWT-SVID for audience {audience:?} ({reason}); check the SPIFFE agent and SPIFFE_SOCKET_PATH")]
    NoToken {
        /// For whom.
        audience: String,
        /// What was said.
        reason: String,
    },
}
