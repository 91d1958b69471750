//! Who calls, and how that is known.

use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::{Kind, Problem};
use crate::config::{ApiTokens, HttpApiConfig};

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
    /// Why it cannot be found out now, without any secret.
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, String>;
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
        let tokens = config.tokens.clone().map(|tokens| Box::new(StaticTokens(tokens)) as Box<dyn Authenticator>);
        Self::On(tokens.into_iter().collect())
    }

    /// Who calls.
    pub(super) fn caller(&self, request: &Parts) -> Result<Caller, Problem> {
        let Self::On(ways) = self else { return Ok(Caller::Anyone) };
        for way in ways {
            match way.caller(request) {
                Ok(Some(caller)) => return Ok(caller),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error, "http_api_callers_unknown");
                    return Err(Problem::new(Kind::Unavailable, "who calls cannot be checked now")
                        .next("look at the worker's log; send it again once that is mended"));
                }
            }
        }
        Err(Problem::new(Kind::Unauthenticated, "the request has no bearer token, or one that is not known"))
    }
}

/// `HTTP_API_TOKEN`.
struct StaticTokens(ApiTokens);

impl Authenticator for StaticTokens {
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, String> {
        let Some(presented) = bearer(request) else { return Ok(None) };
        let presented = Sha256::digest(presented);
        let mut found = None;
        // All of them, digests of one length: the time tells neither which one is near nor how long it is.
        for (identity, token) in self.0.read()? {
            if bool::from(Sha256::digest(token.expose()).as_slice().ct_eq(presented.as_slice())) {
                found = Some(Caller::Token(identity));
            }
        }
        Ok(found)
    }
}

/// The one bearer token of the request.
fn bearer(request: &Parts) -> Option<&str> {
    let mut headers = request.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
