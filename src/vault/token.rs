//! The token that Vault knows this client by.

use std::time::Duration;

use tokio::time::Instant;

use super::api::{Api, Auth, VaultError};
use crate::config::{Secret, SecretSource, VaultLogin};

/// What is longer counts as this: a year.
const LONGEST_SECONDS: u64 = 365 * 24 * 60 * 60;

/// A token, and how long it lasts.
pub(super) struct Token {
    pub(super) text: Secret,
    /// Whether it was issued to this client, which then takes it back.
    own: bool,
    renewable: bool,
    /// When its present life began.
    since: Instant,
    /// How long it lasts from then; `None`: for ever.
    life: Option<Duration>,
    /// The life that it was issued with.
    first_life: Option<Duration>,
}

impl Token {
    /// Logs in.
    ///
    /// # Errors
    /// When there is nothing to log in with, or Vault takes it not.
    pub(super) async fn log_in(api: &Api, login: &VaultLogin) -> Result<Self, VaultError> {
        let since = Instant::now();
        let (auth, own) = match login {
            VaultLogin::Jwt { role, jwt } => (api.log_in("role", role, "jwt", &secret(jwt)?).await?, true),
            VaultLogin::AppRole { role_id, secret_id } => {
                (api.log_in("role_id", role_id, "secret_id", &secret(secret_id)?).await?, true)
            }
            VaultLogin::Token(token) => {
                let text = secret(token)?;
                let known = api.look_up(&text).await.map_err(VaultError::of_login)?;
                (Auth { client_token: text, lease_duration: known.ttl, renewable: known.renewable }, false)
            }
        };
        let life = lasting(auth.lease_duration);
        Ok(Self { text: auth.client_token, own, renewable: auth.renewable, since, life, first_life: life })
    }

    /// Whether it was issued to this client.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// How long it still lasts; `None`: for ever.
    pub(super) fn ends_in(&self, now: Instant) -> Option<Duration> {
        self.life.map(|life| (self.since + life).saturating_duration_since(now))
    }

    /// How long until it should be renewed, after two thirds of its life; `None`: never.
    pub(super) fn renewal_in(&self, now: Instant) -> Option<Duration> {
        self.life.map(|life| (self.since + life * 2 / 3).saturating_duration_since(now))
    }

    /// Renews it. `false`: it has to be replaced, since it cannot be renewed or is near the end that no renewal moves.
    ///
    /// # Errors
    /// When Vault does not answer.
    pub(super) async fn renew(&mut self, api: &Api) -> Result<bool, VaultError> {
        if !self.renewable {
            return Ok(false);
        }
        let since = Instant::now();
        let auth = match api.renew(&self.text).await {
            Ok(auth) => auth,
            Err(VaultError::Refused { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        (self.since, self.life, self.renewable) = (since, lasting(auth.lease_duration), auth.renewable);
        Ok(self.life.zip(self.first_life).is_none_or(|(life, first)| life * 2 >= first))
    }
}

fn secret(source: &SecretSource) -> Result<Secret, VaultError> {
    source.read().map_err(VaultError::NothingToLogInWith)
}

/// Vault writes 0 for a token that does not end.
fn lasting(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.min(LONGEST_SECONDS)))
}
