//! Callers who prove a SPIFFE id: by the certificate of their connection, or by a JWT-SVID in the request (INC-50).

use std::sync::Arc;

use axum::http::request::Parts;
use spiffe::SpiffeId;

use super::caller::{Authenticator, Caller};
use super::problem::{Kind, Problem};
use super::tokens::bearer;
use crate::spiffe::WorkloadIdentity;

/// The SPIFFE id that a connection's certificate has proved in the handshake: in the extensions of its requests.
#[derive(Debug, Clone)]
pub(super) struct Proved(pub(super) SpiffeId);

/// Callers known by the connection's certificate.
pub(super) struct Certificates;

impl Authenticator for Certificates {
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, Problem> {
        Ok(request.extensions.get::<Proved>().map(|Proved(id)| Caller::Spiffe(id.clone())))
    }
}

/// Callers known by a JWT-SVID for this worker.
pub(super) struct JwtSvids(pub(super) Arc<WorkloadIdentity>);

impl Authenticator for JwtSvids {
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, Problem> {
        let Some(token) = bearer(request) else { return Ok(None) };
        match self.0.caller(token) {
            Ok(id) => Ok(id.map(Caller::Spiffe)),
            Err(error) => {
                // The identity's own log says it once.
                tracing::debug!(%error, "http_api_callers_unknown");
                Err(Problem::new(Kind::Unavailable, "who calls cannot be checked now")
                    .next("look at the worker's log; send it again once its SPIFFE agent answers"))
            }
        }
    }
}
