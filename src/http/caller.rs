//! Who calls, and how that is known.

use axum::http::request::Parts;

use super::problem::{Kind, Problem};
use super::tokens::StaticTokens;
use crate::config::HttpApiConfig;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Anybody: authentication is off.
    Anyone,
    /// Whoever holds a static bearer token of this identity.
    Token(String),
}

impl Caller {
    /// The name that the allow-list goes by, and that orders are given under.
    pub(super) fn identity(&self) -> &str {
        match self {
            Self::Anyone => "anyone",
            Self::Token(identity) => identity,
        }
    }

    /// The SPIFFE id that the caller has proved. A token proves none, whatever its identity is called.
    pub(super) fn spiffe_id(&self) -> Option<&str> {
        match self {
            Self::Anyone | Self::Token(_) => None,
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

/// The ways that count. Without any, nobody gets in.
pub(super) enum Authentication {
    Off,
    On(Vec<Box<dyn Authenticator>>),
}

impl Authentication {
    pub(super) fn of(config: &HttpApiConfig) -> Self {
        if !config.authenticated {
            return Self::Off;
        }
        let tokens = config.tokens.clone().map(|tokens| Box::new(StaticTokens::new(tokens)) as Box<dyn Authenticator>);
        Self::On(tokens.into_iter().collect())
    }

    /// Who calls.
    pub(super) fn caller(&self, request: &Parts) -> Result<Caller, Problem> {
        let Self::On(ways) = self else { return Ok(Caller::Anyone) };
        for way in ways {
            if let Some(caller) = way.caller(request)? {
                return Ok(caller);
            }
        }
        Err(Problem::new(Kind::Unauthenticated, "the request has no bearer token, or one that is not known"))
    }
}
