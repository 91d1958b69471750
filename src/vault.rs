//! The client of Vault and OpenBao: logs in, keeps its token alive, and reads the secrets that settings name, again and
//! again. Whatever goes wrong later, what was had stays ([`Held`]): an hour without Vault costs nothing but news.

mod api;
mod held;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use held::{Fields, Held, Standing, Taken};

use crate::config::VaultConfig;
use crate::events::{VaultLook, VaultSecretChanged, VaultSecretRead, VaultTokenNotRevoked, VaultTokenRenewed};
use crate::health::Health;
use crate::metrics::Metrics;
use api::{Api, VaultError};
use token::Token;

/// The readiness check.
const CHECK: &str = "vault";
/// Between the first failure and the next try; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two tries.
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest time between two looks, whatever the `ttl` of a secret says.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// The client. It writes what it gets into the configuration's [`Held`].
pub struct Vault {
    config: VaultConfig,
    api: Api,
    token: Option<Token>,
    /// Of the secrets read, by their own `ttl`.
    shortest_life: Option<Duration>,
    metrics: Arc<Metrics>,
    health: Health,
}

impl Vault {
    /// A client; nothing is asked yet. Unless `VAULT_FAIL_OPEN` says otherwise, readiness goes with Vault.
    ///
    /// # Errors
    /// When `VAULT_CA_BUNDLE` cannot be used.
    pub fn new(config: VaultConfig, metrics: Arc<Metrics>, health: Health) -> anyhow::Result<Self> {
        let api = Api::new(&config, Arc::clone(&metrics))?;
        Ok(Self { config, api, token: None, shortest_life: None, metrics, health })
    }

    /// The first look, with `VAULT_MAX_RETRIES` further tries.
    ///
    /// # Errors
    /// When Vault does not give what is wanted, unless `VAULT_FAIL_OPEN` lets the worker start without.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        for tries_left in (0..=self.config.retries).rev() {
            let Err(error) = self.look().await else { return Ok(()) };
            if tries_left == 0 || !error.may_pass() {
                let sentence =
                    format!("Vault at {} does not give the secrets that settings name: {error}", self.config.address);
                anyhow::ensure!(self.config.fail_open, sentence);
                break;
            }
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
        Ok(())
    }

    /// Keeps everything fresh until stopped; then takes the token back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures: Option<Duration> = None;
        loop {
            let pause = match failures {
                // Not all workers of a fleet at once.
                Some(pause) => pause.mul_f64(0.5 + fastrand::f64() / 2.0),
                None => self.next_look(),
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            let Some(looked) = stop.run_until_cancelled(self.look()).await else { break };
            failures = looked.err().map(|_| failures.map_or(FIRST_PAUSE, longer));
        }
        self.end().await;
    }

    /// Takes the token back, if it was issued to this client.
    pub async fn end(self) {
        if let Some(token) = self.token.filter(Token::is_own)
            && let Err(error) = self.api.revoke(&token.text).await
        {
            self.metrics.emit(VaultTokenNotRevoked { error: &error.to_string() });
        }
    }

    /// How long until something has to be done.
    fn next_look(&self) -> Duration {
        let refresh = self.shortest_life.map_or(self.config.refresh, |life| self.config.refresh.min(life / 4));
        let renewal = self.token.as_ref().and_then(|token| token.renewal_in(Instant::now()));
        refresh.min(renewal.unwrap_or(refresh)).max(LEAST_PAUSE)
    }

    /// Logs in or renews where that is due, and reads everything once.
    async fn look(&mut self) -> Result<(), VaultError> {
        let paths = self.config.held.paths();
        let looked = self.try_look(&paths).await;
        let standing = match &looked {
            Ok(()) => Standing::Good,
            Err(error) => Standing::Failing(error.to_string()),
        };
        match &standing {
            Standing::Failing(error) if !self.config.fail_open => self.health.not_ready(CHECK, error.as_str()),
            _ => self.health.ready(CHECK),
        }
        let news = self.config.held.stands(standing.clone());
        let left = self.token.as_ref().and_then(|token| token.ends_in(Instant::now()));
        self.metrics.emit(VaultLook { address: &self.config.address, standing: &standing, news, token_left: left });
        looked
    }

    async fn try_look(&mut self, paths: &[String]) -> Result<(), VaultError> {
        if let Err(error) = self.keep_token().await {
            paths.iter().for_each(|path| self.config.held.miss(path, &error.to_string()));
            return Err(error);
        }
        let read = self.read_all(paths).await;
        // The policy says no, or the token has been revoked.
        if matches!(read, Err(VaultError::Refused { .. })) && !self.token_is_good().await? {
            self.token = None;
            self.keep_token().await?;
            return self.read_all(paths).await;
        }
        read
    }

    /// Reads all of them; the error is the first one's.
    async fn read_all(&mut self, paths: &[String]) -> Result<(), VaultError> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut first = Ok(());
        let mut shortest_life: Option<Duration> = None;
        for path in paths {
            let read = self.api.read(&token.text, path).await;
            self.metrics.emit(VaultSecretRead { path, taken: read.is_ok() });
            match read {
                Ok(secret) => {
                    shortest_life = shortest_life.into_iter().chain(secret.life).min();
                    let taken = self.config.held.put(path, secret.fields);
                    if taken.news {
                        self.metrics.emit(VaultSecretChanged { path });
                    }
                    if let Some(field) = taken.lacks {
                        first = first.and(Err(VaultError::NoField { path: path.clone(), field }));
                    }
                }
                Err(error) => {
                    self.config.held.miss(path, &error.to_string());
                    first = first.and(Err(error));
                }
            }
        }
        self.shortest_life = shortest_life;
        first
    }

    /// Renews the token when that is due; logs in when there is none, or it cannot be renewed.
    async fn keep_token(&mut self) -> Result<(), VaultError> {
        let now = Instant::now();
        if let Some(token) = &mut self.token
            && token.renewal_in(now).is_some_and(|left| left.is_zero())
        {
            let renewed = token.renew(&self.api).await;
            self.metrics.emit(VaultTokenRenewed { renewed: matches!(renewed, Ok(true)) });
            if !renewed? {
                self.token = None;
            }
        }
        if self.token.is_none() {
            self.token = Some(Token::log_in(&self.api, &self.config.login).await?);
        }
        Ok(())
    }

    async fn token_is_good(&self) -> Result<bool, VaultError> {
        let Some(token) = &self.token else { return Ok(false) };
        match self.api.look_up(&token.text).await {
            Ok(_) => Ok(true),
            Err(VaultError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(MOST_PAUSE)
}

/// Reads everything once, for a command, and leaves no token behind.
///
/// # Errors
/// As [`Vault::begin`].
pub async fn load(config: &VaultConfig) -> anyhow::Result<()> {
    let mut vault = Vault::new(config.clone(), Arc::new(Metrics::new()?), Health::default())?;
    let begun = vault.begin().await;
    vault.end().await;
    begun
}
