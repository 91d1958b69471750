//! Who calls, and how that is known.

use std::sync::Arc;

use axum::http::request::Parts;
use spiffe::SpiffeId;

use super::problem::{Kind, Problem};
use super::svids::{Certificates, JwtSvids};
use super::tokens::StaticTokens;
use crate::config::HttpApiConfig;
use crate::spiffe::WorkloadIdentity;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Anybody: authentication is off.
    Anyone,
    /// Whoever holds a static bearer token of this identity.
    Token(String),
    /// Whoever has proved this id.
    Spiffe(SpiffeId),
}

impl Caller {
    /// The name that the allow-list goes by, and that orders are given under.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Anyone => "anyone".to_owned(),
            Self::Token(identity) => identity.clone(),
            Self::Spiffe(id) => id.to_string(),
        }
    }

    /// The SPIFFE id that the caller has proved. A token proves none, whatever its identity is called.
    pub(super) fn spiffe_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Anyone | Self::Token(_) => None,
            Self::Spiffe(id) => Some(id),
        }
    }
}

/// One way in which a caller can prove who it is: by what it presents in the request, or by what the connection has put
/// into the request's extensions. What any client can write is no proof: `X-Forwarded-Client-Cert` and
/// `X-Internal-Caller` are never looked at (INC-50).
pub(super) trait Authenticator: Send + Sync {
    /// The caller; `None` when the request proves nothing in this way.
    ///
    /// # Errors
    /// When it cannot be found out now. Why is in the log, once and not for each request.
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, Problem>;
}

/// The ways that count, in the order in which they are asked. Without any, nobody gets in.
pub(super) struct Authentication {
    ways: Vec<Box<dyn Authenticator>>,
    /// Who proves nothing may do everything: development only.
    open: bool,
}

impl Authentication {
    /// A certificate counts more than what is in a request: it is the connection's own.
    pub(super) fn of(config: &HttpApiConfig, identity: Option<&Arc<WorkloadIdentity>>) -> Self {
        if !config.authenticated {
            return Self { ways: Vec::new(), open: true };
        }
        let mut ways: Vec<Box<dyn Authenticator>> = Vec::new();
        if let Some(identity) = identity {
            ways.push(Box::new(Certificates));
            ways.push(Box::new(JwtSvids(Arc::clone(identity))));
        }
        if let Some(tokens) = config.tokens.clone() {
            ways.push(Box::new(StaticTokens::new(tokens)));
        }
        Self { ways, open: identity.is_some_and(|identity| identity.settings().fallback) }
    }

    /// Who calls.
    pub(super) fn caller(&self, request: &Parts) -> Result<Caller, Problem> {
        let proved = self.proved(request);
        if self.open && !matches!(proved, Ok(Some(_))) {
            return Ok(Caller::Anyone);
        }
        proved?.ok_or_else(|| {
            Problem::new(Kind::Unauthenticated, "the request has no bearer token, or one that is not known")
        })
    }

    fn proved(&self, request: &Parts) -> Result<Option<Caller>, Problem> {
        for way in &self.ways {
            if let Some(caller) = way.caller(request)? {
                return Ok(Some(caller));
            }
        }
        Ok(None)
    }
}
