//! Static bearer tokens (`HTTP_API_TOKEN`), by their digests. A file of them is read at most once a second, and what is wrong
//! with it is logged once: whoever reaches the port can ask, and must not cost more than that.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::caller::{Authenticator, Caller};
use super::problem::{Kind, Problem};
use crate::config::{ApiTokens, Secret};

/// How old what is known of the tokens may be.
const MOST_AGE: Duration = Duration::from_secs(1);

/// Callers known by a token.
pub(super) struct StaticTokens {
    source: ApiTokens,
    known: Mutex<Known>,
}

/// The tokens as they were last read.
struct Known {
    /// `None`: not yet.
    read: Option<Instant>,
    holders: Result<Vec<Holder>, String>,
}

/// An identity and the digest of one of its tokens.
struct Holder {
    identity: String,
    digest: [u8; 32],
}

impl StaticTokens {
    pub(super) fn new(source: ApiTokens) -> Self {
        Self { source, known: Mutex::new(Known { read: None, holders: Ok(Vec::new()) }) }
    }
}

impl Authenticator for StaticTokens {
    fn caller(&self, request: &Parts) -> Result<Option<Caller>, Problem> {
        let Some(presented) = bearer(request) else { return Ok(None) };
        let presented = digest(presented);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.renew(&self.source);
        let Ok(holders) = &known.holders else {
            return Err(Problem::new(Kind::Unavailable, "who calls cannot be checked now")
                .next("look at the worker's log; send it again once that is mended"));
        };
        let mut found = None;
        // All of them, digests of one length: the time tells neither which one is near nor how long it is.
        for holder in holders {
            if bool::from(holder.digest.as_slice().ct_eq(presented.as_slice())) {
                found = Some(Caller::Token(holder.identity.clone()));
            }
        }
        Ok(found)
    }
}

impl Known {
    /// Reads the tokens again if that was long ago.
    fn renew(&mut self, source: &ApiTokens) {
        if self.read.is_some_and(|at| at.elapsed() < MOST_AGE) {
            return;
        }
        let holders = source.read().map(|tokens| {
            let holder = |(identity, token): (String, Secret)| Holder { identity, digest: digest(token.expose()) };
            tokens.into_iter().map(holder).collect::<Vec<_>>()
        });
        match (&self.holders, &holders) {
            (before, Err(error)) if before.as_ref().err() != Some(error) => {
                tracing::error!(error, "http_api_callers_unknown");
            }
            (Err(_), Ok(holders)) => tracing::info!(tokens = holders.len(), "http_api_callers_known"),
            _ => {}
        }
        *self = Self { read: Some(Instant::now()), holders };
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The one bearer token of the request.
pub(super) fn bearer(request: &Parts) -> Option<&str> {
    let mut headers = request.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::config::{Config, MapSource, Origin};

    /// The caller with this token, and whether that could be found out.
    fn ask(tokens: &StaticTokens, token: &str) -> Result<Option<Caller>, Problem> {
        let request = Request::builder().header("authorization", format!("Bearer {token}"));
        tokens.caller(&request.body(()).expect("a request").into_parts().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_once_a_second_and_what_is_wrong_with_it_is_logged_once() {
        let folder = tempfile::tempdir().expect("folder");
        let (file, log) = (folder.path().join("tokens"), folder.path().join("log"));
        let writer = std::fs::File::create(&log).expect("log");
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let errors = || std::fs::read_to_string(&log).expect("log").matches("http_api_callers_unknown").count();

        std::fs::write(&file, "ops=first-0123456789").expect("written");
        let mut settings = MapSource::default();
        settings.set("HTTP_API_TOKEN_FILE", file.to_str().expect("UTF-8"), Origin::Environment);
        let tokens = StaticTokens::new(Config::read(&settings).expect("settings").http_api.tokens.expect("tokens"));
        let known = Ok(Some(Caller::Token("ops".to_owned())));
        assert_eq!(ask(&tokens, "first-0123456789"), known);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(ask(&tokens, "first-0123456789"), known, "what was read this second counts");

        for _ in 0..5 {
            tokio::time::advance(MOST_AGE).await;
            assert!(ask(&tokens, "first-0123456789").is_err());
            assert_eq!(errors(), 1);
        }
        std::fs::write(&file, "no token").expect("written");
        assert!(ask(&tokens, "first-0123456789").is_err());
        tokio::time::advance(MOST_AGE).await;
        assert!(ask(&tokens, "first-0123456789").is_err());
        assert_eq!(errors(), 2, "another error is news");
        std::fs::write(&file, "ops=first-0123456789").expect("written");
        tokio::time::advance(MOST_AGE).await;
        assert_eq!(ask(&tokens, "first-0123456789"), known);
        assert!(std::fs::read_to_string(&log).expect("log").contains("http_api_callers_known"));
    }
}
