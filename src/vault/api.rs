//! The calls to Vault's HTTP API, and what its answers mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::held::Fields;
use crate::config::{Secret, VaultConfig};
use crate::events::VaultCall;
use crate::metrics::Metrics;

/// Largest answer read, in bytes. Vault stores less than that in one secret.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// Why Vault gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error("there is nothing to log in with: {0}")]
    NothingToLogInWith(String),
    #[error(
        "Vault refuses this worker's login ({0}); check VAULT_AUTH_METHOD, VAULT_AUTH_MOUNT, the role, and what is logged in with"
    )]
    LoginRefused(String),
    #[error("Vault refuses {what} ({said}); the worker's policy in Vault must allow it")]
    Refused { what: String, said: String },
    #[error("Vault has nothing at {0}; write the secret, or correct the setting that names it")]
    Nothing(String),
    #[error(
        "the secret {path} in Vault has no field {field} that is a text; write it, or correct the setting that names it"
    )]
    NoField { path: String, field: String },
    #[error("Vault is sealed; unseal it")]
    Sealed,
    #[error("no usable answer from Vault: {0}")]
    NoAnswer(String),
}

impl VaultError {
    /// Whether trying again soon may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NothingToLogInWith(_) | Self::Sealed | Self::NoAnswer(_))
    }

    /// The same, of a call that logs in.
    pub(super) fn of_login(self) -> Self {
        match self {
            Self::Refused { said, .. } => Self::LoginRefused(said),
            Self::Nothing(place) => Self::LoginRefused(format!("nothing is mounted at {place}")),
            other => other,
        }
    }
}

/// A token that Vault issued or renewed.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Secret,
    /// Seconds; 0: it does not end.
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
pub(super) struct AuthAnswer {
    pub(super) auth: Auth,
}

/// What Vault knows of a token.
#[derive(Deserialize)]
pub(super) struct KnownToken {
    /// Seconds; 0: it does not end.
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct KnownTokenAnswer {
    data: KnownToken,
}

#[derive(Deserialize)]
pub(super) struct SecretAnswer {
    pub(super) data: SecretData,
}

#[derive(Deserialize)]
pub(super) struct SecretData {
    /// Absent: this version was deleted.
    pub(super) data: Option<BTreeMap<String, Field>>,
}

/// A field of a secret. Only texts are secrets here; the rest is looked at for `ttl` alone.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Field {
    Text(Secret),
    Other(Value),
}

/// A secret of the KV v2 engine.
pub(super) struct VaultSecret {
    pub(super) fields: Fields,
    /// Its own field `ttl`, in seconds: how long it is good for.
    pub(super) life: Option<Duration>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// What is asked of Vault.
struct Call<'a> {
    /// In metrics.
    operation: &'static str,
    method: Method,
    /// Below `/v1/`.
    path: &'a str,
    token: Option<&'a Secret>,
    body: Option<Value>,
}

impl<'a> Call<'a> {
    fn get(operation: &'static str, path: &'a str, token: &'a Secret) -> Self {
        Self { operation, method: Method::GET, path, token: Some(token), body: None }
    }
}

/// The API of one Vault.
pub(super) struct Api {
    http: reqwest::Client,
    address: String,
    namespace: Option<String>,
    auth_mount: String,
    kv_mount: String,
    metrics: Arc<Metrics>,
}

impl Api {
    pub(super) fn new(config: &VaultConfig, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let http = crate::net::peer_client(config.timeout, &config.peer)
            .context("Vault's client cannot be made; check VAULT_CA_BUNDLE")?;
        Ok(Self {
            http,
            address: config.address.clone(),
            namespace: config.namespace.clone(),
            auth_mount: config.auth_mount.clone(),
            kv_mount: config.kv_mount.clone(),
            metrics,
        })
    }

    /// Logs in with two fields, the second a secret.
    pub(super) async fn log_in(&self, who: &str, name: &str, key: &str, secret: &Secret) -> Result<Auth, VaultError> {
        let body = serde_json::json!({ who: name, key: secret.expose() });
        let path = format!("auth/{}/login", self.auth_mount);
        let call = Call { operation: "login", method: Method::POST, path: &path, token: None, body: Some(body) };
        let answer: AuthAnswer = self.ask(call).await.map_err(VaultError::of_login)?;
        Ok(answer.auth)
    }

    pub(super) async fn look_up(&self, token: &Secret) -> Result<KnownToken, VaultError> {
        let answer: KnownTokenAnswer = self.ask(Call::get("lookup", "auth/token/lookup-self", token)).await?;
        Ok(answer.data)
    }

    pub(super) async fn renew(&self, token: &Secret) -> Result<Auth, VaultError> {
        let body = Some(Value::Object(serde_json::Map::default()));
        let call = Call { method: Method::POST, body, ..Call::get("renew", "auth/token/renew-self", token) };
        let answer: AuthAnswer = self.ask(call).await?;
        Ok(answer.auth)
    }

    pub(super) async fn revoke(&self, token: &Secret) -> Result<(), VaultError> {
        let call = Call { method: Method::POST, ..Call::get("revoke", "auth/token/revoke-self", token) };
        self.send(call).await.map(drop)
    }

    pub(super) async fn read(&self, token: &Secret, path: &str) -> Result<VaultSecret, VaultError> {
        let place = format!("{}/data/{path}", self.kv_mount);
        let answer: SecretAnswer = self.ask(Call::get("read", &place, token)).await?;
        answer.data.data.map(VaultSecret::of).ok_or(VaultError::Nothing(place))
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, call: Call<'_>) -> Result<T, VaultError> {
        let said = self.send(call).await?;
        // What does not parse may hold a secret, so it is not quoted.
        serde_json::from_slice(&said)
            .map_err(|error| VaultError::NoAnswer(format!("not the expected JSON (column {})", error.column())))
    }

    async fn send(&self, call: Call<'_>) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
        let Call { operation, method, path, token, body } = call;
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.address));
        // Vault Agent's listener can be told to ask for it.
        request = request.header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            request = request.header("x-vault-token", sensitive(token)?);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let started = Instant::now();
        let answer = answer(request, path).await;
        self.metrics.emit(VaultCall { operation, answered: answer.is_ok(), took: started.elapsed() });
        answer
    }
}

impl VaultSecret {
    fn of(fields: BTreeMap<String, Field>) -> Self {
        let life = match fields.get("ttl") {
            Some(Field::Other(ttl)) => ttl.as_u64(),
            Some(Field::Text(ttl)) => ttl.expose().parse().ok(),
            None => None,
        };
        let texts = fields.into_iter().filter_map(|(name, field)| match field {
            Field::Text(text) => Some((name, text)),
            Field::Other(_) => None,
        });
        Self { fields: texts.collect(), life: life.filter(|life| *life > 0).map(Duration::from_secs) }
    }
}

/// The token as a header that no client prints.
fn sensitive(token: &Secret) -> Result<reqwest::header::HeaderValue, VaultError> {
    let mut value = reqwest::header::HeaderValue::from_str(token.expose())
        .map_err(|_| VaultError::NothingToLogInWith("the token holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn answer(request: reqwest::RequestBuilder, path: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
    let unanswered = |error: reqwest::Error| {
        let untrusted = if crate::net::is_untrusted(&error) { "; set VAULT_CA_BUNDLE" } else { "" };
        VaultError::NoAnswer(format!("{}{untrusted}", crate::net::describe(&error)))
    };
    let response = request.send().await.map_err(unanswered)?;
    let status = response.status();
    let body =
        crate::net::body(response, MAX_ANSWER_BYTES).await.map_err(|error| VaultError::NoAnswer(error.to_string()))?;
    let body = zeroize::Zeroizing::new(body);
    if status.is_success() {
        return Ok(body);
    }
    let errors = serde_json::from_slice::<Errors>(&body).map(|said| said.errors.join(", ")).unwrap_or_default();
    let errors: String = errors.chars().filter(|c| !c.is_control()).take(200).collect();
    let said = format!("{status}: {errors}");
    Err(match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            VaultError::Refused { what: path.to_owned(), said }
        }
        StatusCode::NOT_FOUND => VaultError::Nothing(path.to_owned()),
        StatusCode::SERVICE_UNAVAILABLE if errors.contains("sealed") => VaultError::Sealed,
        // Not followed: it would carry the token to an address that nobody configured.
        _ if status.is_redirection() => VaultError::NoAnswer(format!(
            "{status} to another address; set VAULT_ADDRESS to where Vault's active node really is"
        )),
        _ => VaultError::NoAnswer(said),
    })
}
