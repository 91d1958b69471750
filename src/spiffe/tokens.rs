//! JWT-SVIDs that this worker presents, one for each peer's audience, renewed at half of their life (INC-30).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spiffe::{JwtSource, JwtSvid};
use ticket_activities::now_ms;
use tokio::time::{Instant, timeout};

use super::error::IdentityError;
use crate::metrics::Metrics;
use crate::net;

/// Between two tries to renew one that still counts.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// What must be left of a token's life for it to be presented: the peer's clock may be ahead.
const LEAST_LEFT_MS: i64 = 2_000;

/// The tokens in use.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Held>>);

#[derive(Clone)]
struct Held {
    svid: Arc<JwtSvid>,
    /// From when on it is renewed, epoch milliseconds.
    due_ms: i64,
    /// When that was last tried in vain.
    tried: Option<Instant>,
}

impl Held {
    fn new(svid: JwtSvid, now_ms: i64) -> Self {
        let due_ms = now_ms + (expires_ms(&svid) - now_ms) / 2;
        Self { svid: Arc::new(svid), due_ms, tried: None }
    }

    fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.due_ms && self.tried.is_none_or(|tried| tried.elapsed() >= RENEWAL_PAUSE)
    }

    fn counts(&self, now_ms: i64) -> bool {
        now_ms + LEAST_LEFT_MS < expires_ms(&self.svid)
    }
}

fn expires_ms(svid: &JwtSvid) -> i64 {
    svid.expiry().unix_timestamp().saturating_mul(1000)
}

impl Tokens {
    /// A token for this audience. One that counts is presented until a new one has come.
    ///
    /// # Errors
    /// When there is none that counts and none comes within `patience`.
    pub(super) async fn token(
        &self,
        source: &JwtSource,
        audience: &str,
        patience: Duration,
        metrics: &Metrics,
    ) -> Result<Arc<JwtSvid>, IdentityError> {
        let held = self.table().get(audience).cloned();
        let usable = held.filter(|held| held.counts(now_ms()));
        if let Some(held) = &usable
            && !held.is_due(now_ms())
        {
            return Ok(Arc::clone(&held.svid));
        }
        match (fetch(source, audience, patience, metrics).await, usable) {
            (Ok(svid), _) => {
                let held = Held::new(svid, now_ms());
                let svid = Arc::clone(&held.svid);
                self.table().insert(audience.to_owned(), held);
                Ok(svid)
            }
            (Err(error), Some(held)) => {
                tracing::warn!(%error, "jwt_svid_not_renewed");
                let svid = Arc::clone(&held.svid);
                self.table().insert(audience.to_owned(), Held { tried: Some(Instant::now()), ..held });
                Ok(svid)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The next call asks for a new one.
    pub(super) fn forget(&self, audience: &str) {
        self.table().remove(audience);
    }

    /// When the first of them expires, epoch milliseconds.
    pub(super) fn first_expiry_ms(&self) -> Option<i64> {
        self.table().values().map(|held| expires_ms(&held.svid)).min()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(
    source: &JwtSource,
    audience: &str,
    patience: Duration,
    metrics: &Metrics,
) -> Result<JwtSvid, IdentityError> {
    let began = Instant::now();
    let fetched = timeout(patience, source.fetch_jwt_svid([audience])).await;
    metrics.spiffe.svid_fetch_duration.with_label_values(&["jwt"]).observe(began.elapsed().as_secs_f64());
    let reason = match fetched {
        Ok(Ok(svid)) => {
            metrics.spiffe.svid_fetch.with_label_values(&["jwt", "success"]).inc();
            return Ok(svid);
        }
        Ok(Err(error)) => net::describe(&error),
        Err(_) => format!("nothing came within {} ms", patience.as_millis()),
    };
    metrics.spiffe.svid_fetch.with_label_values(&["jwt", "error"]).inc();
    Err(IdentityError::NoToken { audience: audience.to_owned(), reason })
}
