//! What becomes of secrets in Vault. No event holds one.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::Event;
use crate::metrics::Metrics;
use crate::vault::Standing;

/// A call has ended.
pub struct VaultCall {
    /// Which: login, lookup, renew, read, revoke.
    pub operation: &'static str,
    /// Whether Vault gave what it was asked for.
    pub answered: bool,
    /// How long it took.
    pub took: Duration,
}

impl Event for VaultCall {
    fn emit(&self, metrics: &Metrics) {
        debug!(operation = self.operation, answered = self.answered, took = ?self.took, "vault_call");
        metrics.vault.requests.with_label_values(&[self.operation, status(self.answered)]).inc();
        metrics.vault.request_duration.with_label_values(&[self.operation]).observe(self.took.as_secs_f64());
    }
}

/// Everything that settings name was looked at.
pub struct VaultLook<'a> {
    /// Where Vault is.
    pub address: &'a str,
    /// How it stands.
    pub standing: &'a Standing,
    /// Whether it stood otherwise before.
    pub news: bool,
    /// How long its token still lasts; `None`: there is none, or it does not end.
    pub token_left: Option<Duration>,
}

impl Event for VaultLook<'_> {
    fn emit(&self, metrics: &Metrics) {
        if self.news {
            match self.standing {
                Standing::Failing(error) => warn!(address = self.address, error, "vault_fails"),
                Standing::Good | Standing::Unasked => info!(address = self.address, "vault_answers"),
            }
        }
        let good = !matches!(self.standing, Standing::Failing(_));
        metrics.vault.looks.with_label_values(&[status(good)]).inc();
        let left = self.token_left.map_or(0, |left| left.as_secs());
        metrics.vault.token_ttl.set(i64::try_from(left).unwrap_or(i64::MAX));
    }
}

/// A secret was asked for.
pub struct VaultSecretRead<'a> {
    /// Where it is, as a setting says.
    pub path: &'a str,
    /// Whether it came.
    pub taken: bool,
}

impl Event for VaultSecretRead<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.vault.secrets_read.with_label_values(&[self.path, status(self.taken)]).inc();
    }
}

/// A secret is not what it was.
pub struct VaultSecretChanged<'a> {
    /// Where it is, as a setting says.
    pub path: &'a str,
}

impl Event for VaultSecretChanged<'_> {
    fn emit(&self, _: &Metrics) {
        info!(path = self.path, "vault_secret_taken");
    }
}

/// The token's life was to be made longer.
pub struct VaultTokenRenewed {
    /// Whether it was; else the worker logs in again.
    pub renewed: bool,
}

impl Event for VaultTokenRenewed {
    fn emit(&self, metrics: &Metrics) {
        debug!(renewed = self.renewed, "vault_token_renewal");
        metrics.vault.token_renewals.with_label_values(&[status(self.renewed)]).inc();
    }
}

/// The token could not be taken back; it ends by itself.
pub struct VaultTokenNotRevoked<'a> {
    /// Why.
    pub error: &'a str,
}

impl Event for VaultTokenNotRevoked<'_> {
    fn emit(&self, _: &Metrics) {
        warn!(error = self.error, "vault_token_not_revoked");
    }
}

fn status(good: bool) -> &'static str {
    if good { "success" } else { "error" }
}
